# Programs that stand in line for one card's channels, and are killed at any moment, in line or in their turn: the next has its
# turn, and at the end nothing is left.
. /lab/lib.sh
hand_over $boards
card=$(card ${boards% *})
nothing_more_pinned() {
    [ "$(pinned "$broker")" = "$before" ]
}
# A client more; its process is added to the clients.
one_more() {
    behind "client$1" jitney test ddr --broker /run/broker.sock --size 1M --passes 4 --wait forever
    clients="$clients $!"
}
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$card"
    before=$(pinned "$broker")
    clients=
    for number in 1 2 3 4 5; do
        one_more "$number"
    done
    kills=0
    ended=0
    number=5
    while [ "$kills" -lt 20 ]; do
        # Not always in the same state.
        usleep $((kills * 7919 % 100 * 3000))
        victim=${clients# }
        victim=${victim%% *}
        clients=${clients#* "$victim"}
        if kill -KILL "$victim" 2>/dev/null; then
            kills=$((kills + 1))
        else
            ended=$((ended + 1))
        fi
        wait "$victim" 2>/dev/null
        number=$((number + 1))
        one_more "$number"
    done
    for client in $clients; do
        wait "$client" || fail "who was left in line has failed: $(tail -n 2 /run/client*.log)"
    done
    await 5 nothing_more_pinned
    says "No program uses it" jitney status --broker /run/broker.sock
    says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --size 256K --passes 1
    echo "$interface: $kills killed, $ended had ended before; $before KiB pinned before and after"
    end_broker
done
take_back $boards
