# A broker that is killed, and replaced, again and again under programs that go on, and after programs that were killed with it: at
# the end nothing is left.
. /lab/lib.sh
if ! has_iommu; then
    hand_over $boards
    card=$(card ${boards% *})
    behind keeper jitney broker --keep --socket /run/broker.sock --iommu noiommu --card "$card"
    keeper=$!
    await 10 grep -q '^listening at' /run/keeper.log
    refuses 1 "nobody keeps the descriptors" jitney broker --replace --socket /run/broker.sock
    kill "$keeper"
    wait "$keeper" || fail "the keeper ended with $?"
    take_back $boards
    skip "this machine has no IOMMU: nothing is kept for another broker, and that was said"
fi
hand_over $boards
card=$(card ${boards% *})
# The broker is the keeper's child.
broker() {
    awk -v keeper="$keeper" '$1 == "PPid:" && $2 == keeper { split(FILENAME, path, "/"); print path[3] }' /proc/[0-9]*/status 2>/dev/null
}
another() {
    now=$(broker) && [ -n "$now" ] && [ "$now" != "$before" ] && jitney status --broker /run/broker.sock >/dev/null 2>&1
}
nothing_mapped() {
    jitney status --broker /run/broker.sock 2>/dev/null | grep -q "No program uses it"
}
for interface in $(interfaces); do
    rm -f /run/broker.sock
    behind keeper jitney broker --keep --socket /run/broker.sock --iommu "$interface" --card "$card"
    keeper=$!
    await 10 grep -q '^listening at' /run/keeper.log
    behind client jitney test ddr --broker /run/broker.sock --size 1M --passes 100000 --wait forever
    client=$!
    await 10 jitney status --broker /run/broker.sock >/dev/null
    for round in $(seq 12); do
        usleep $((round * 7919 % 100 * 2000))
        before=$(broker)
        if [ $((round % 3)) = 0 ]; then
            says "has taken the place of $before" jitney broker --replace --socket /run/broker.sock
        else
            # With a program that dies in the pause.
            behind other jitney test ddr --broker /run/broker.sock --size 1M --passes 100 --wait forever
            other=$!
            usleep $((round * 30000))
            kill -KILL "$before" "$other"
            wait "$other"
            await 10 another
        fi
        kill -0 "$client" 2>/dev/null || fail "the program ended: $(cat /run/client.log)"
    done
    # Not by SIGINT, which what a script starts in the background ignores.
    kill -TERM "$client"
    wait "$client"
    ! grep -q "broker is gone\|started anew" /run/client.log || fail "the program noticed: $(cat /run/client.log)"
    await 10 nothing_mapped
    says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --size 256K --passes 1
    count=$(grep -c 'is started again' /run/keeper.log)
    echo "$interface: killed $count times and replaced 4 times"
    kill "$keeper"
    wait "$keeper" || fail "the keeper ended with $?: $(cat /run/keeper.log)"
    [ ! -e /run/broker.sock ] || fail "its socket is still there"
done
take_back $boards
