# A program that is killed at any moment of its transfers leaves nothing behind: its memory is unmapped, its channels are free,
# and the next program works at once (F5, F6).
. /lab/lib.sh
hand_over $boards
card=$(card ${boards% *})
nothing_more_pinned() {
    [ "$(pinned "$broker")" = "$before" ]
}
all_mapped() {
    [ "$(pinned "$broker")" -ge $((before + 4096)) ]
}
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$card"
    before=$(pinned "$broker")
    for round in $(seq "$(rounds 5)"); do
        behind client jitney test ddr --broker /run/broker.sock --size 2M --passes 100000
        client=$!
        await 10 all_mapped
        # Not always in the same state.
        usleep $((round * 37000 % 400000))
        kill -0 "$client" 2>/dev/null || fail "the client ended: $(cat /run/client.log)"
        kill -KILL "$client"
        wait "$client"
        says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --size 256K --passes 1
        await 5 nothing_more_pinned
    done
    echo "$interface: $before KiB pinned before and after $(rounds 5) clients"
    end_broker
done
take_back $boards
