# A client that switches decoding and bus mastering of its card off and is killed at once takes neither the broker nor the clients of
# other cards with it, and the next client finds the card answering.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
board=${boards% *}
hand_over $edu $board
goes_on() {
    passes=$(grep -c "test pattern matches" /run/good.log)
    await 20 more_than "$passes"
}
more_than() {
    kill -0 "$good" 2>/dev/null || fail "the client of the other card ended: $(cat /run/good.log)"
    [ "$(grep -c "test pattern matches" /run/good.log)" -gt "$1" ]
}
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$(card $edu)" --card "$(card $board)"
    behind good jitney test ddr --broker /run/broker.sock --only "$board" --size 64K --passes 1000000
    good=$!
    await 20 grep -q "test pattern matches" /run/good.log
    for round in 1 2 3; do
        said=$(rude_decode /run/broker.sock rude 2>&1)
        ended=$?
        [ "$ended" = 137 ] || fail "the rude client ended with $ended: $said"
        kill -0 "$broker" 2>/dev/null || { wait "$broker"; fail "$interface: the broker ended with $? in round $round"; }
        goes_on
        says "identity 0x1" rude_decode /run/broker.sock look
    done
    echo "$interface: $(echo "$said" | tail -n 1)"
    kill -KILL "$good"
    wait "$good"
    end_broker
done
take_back $edu $board
