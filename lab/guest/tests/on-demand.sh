# A broker that takes cards when they are asked for: the kernel's nodes are free until then and again afterwards, a card that is plugged
# in later is found, one that is wanted back is given, and who watches hears of both.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
card=$(card 10ee:7011)
other=$(card 10ee:7024)
held() {
    jitney who "$card" >/run/who 2>&1 && ! grep -q "Nobody" /run/who
}
is_free() {
    ! held
}
gone() {
    [ ! -e "/sys/bus/pci/devices/$card" ]
}
passes() {
    grep -q "pass $1 of" /run/client.log
}
# heard WHAT TIMES: whether both that watch have been told so often.
heard() {
    for log in watch alone; do
        [ "$(grep -c "$card (10ee:7011) has $1" /run/$log.log)" -ge "$2" ] || return 1
    done
}
hand_over 10ee:7024
for interface in $(interfaces); do
    hand_over 10ee:7011
    broker --iommu "$interface" --on-demand
    behind watch env JITNEY_BROKER=/run/broker.sock jitney list --watch
    watch=$!
    behind alone jitney list --watch
    alone=$!
    await 10 heard arrived 1
    is_free || fail "the broker has a card that nobody asked for: $(cat /run/who)"
    # Another program can have it meanwhile.
    says "pass 1 of 1: test pattern matches" jitney test ddr --iommu "$interface" --card "$card" --size 256K --passes 1
    behind client jitney test ddr --broker /run/broker.sock --only "$card" --size 1M --passes 100000
    client=$!
    await 20 passes 2
    held || fail "nobody has the card under a program"
    # A second one has it as well, and when it goes the first keeps it.
    says "NiteFury" jitney info --broker /run/broker.sock "$card"
    held || fail "the card was given back under a program"
    # Killed, it is stopped and given back.
    kill -KILL "$client"
    wait "$client"
    await 10 is_free
    # The same card is taken again, is wanted back, goes, and is found when it is there again.
    behind client jitney test ddr --broker /run/broker.sock --only "$card" --size 1M --passes 100000
    client=$!
    await 20 passes 2
    unplug "$card"
    lets_go "$client" "$card"
    await 10 gone
    await 5 heard left 1
    plug "$card"
    hand_over 10ee:7011
    await 5 heard arrived 2
    says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --only "$card" --size 256K --passes 1
    says "all 10 transfers each way match" jitney time blkram --broker /run/broker.sock --only "$other" --transfers 10
    await 10 is_free
    kill "$watch" "$alone"
    wait "$watch" "$alone"
    end_broker
done
take_back 10ee:7011 10ee:7024
