# Programs that stand in line for one card's channels, and are killed at any moment, in line or in their turn: the next has its
# turn, and at the end nothing is left.
. /lab/lib.sh
hand_over $boards
card=$(card ${boards% *})
nothing_more_pinned() {
    [ "$(pinned "$broker")" = "$before" ]
}
# A client more, which goes on until it is killed; its process is added to the clients.
one_more() {
    behind "client$1" jitney test ddr --broker /run/broker.sock --size 1M --passes 1000000 --wait forever
    clients="$clients $!"
}
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$card"
    before=$(pinned "$broker")
    clients=
    for number in 1 2 3 4 5; do
        one_more "$number"
    done
    for kills in $(seq "$(rounds 20)"); do
        # Not always in the same state.
        usleep $((kills * 7919 % 100 * 1000))
        if [ $((kills % 3)) = 0 ]; then
            # The last one, in line.
            victim=${clients##* }
            clients=${clients% *}
        else
            # The first one, which has its turn, or is about to.
            victim=${clients# }
            victim=${victim%% *}
            clients=${clients#* "$victim"}
        fi
        kill -KILL "$victim" || fail "a client has ended by itself: $(tail -n 2 /run/client*.log)"
        wait "$victim" 2>/dev/null
        number=$((number + 1))
        one_more "$number"
    done
    # Who comes last, behind all of them, has its turn when they are gone.
    behind last jitney test ddr --broker /run/broker.sock --size 256K --passes 1 --wait forever
    last=$!
    for client in $clients; do
        kill -KILL "$client" || fail "a client has ended by itself: $(tail -n 2 /run/client*.log)"
        wait "$client" 2>/dev/null
    done
    wait "$last" || fail "who was left in line has failed: $(cat /run/last.log)"
    await 5 nothing_more_pinned
    says "No program uses it" jitney status --broker /run/broker.sock
    says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --size 256K --passes 1
    echo "$interface: $((5 + $(rounds 20))) killed; $before KiB pinned before and after"
    end_broker
done
take_back $boards
