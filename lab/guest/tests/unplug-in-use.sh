# A card that is unplugged under a broker: its program says so and ends, the broker lets go, and the other card goes on in the
# same address space. Plugged in again it works under a new broker.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
card=$(card 10ee:7011)
other=$(card 10ee:7024)
gone() {
    [ ! -e "/sys/bus/pci/devices/$card" ]
}
passes() {
    grep -q "pass $2 of" "/run/$1.log"
}
nothing_more_pinned() {
    [ "$(pinned "$broker")" = "$before" ]
}
hand_over 10ee:7024
for interface in $(interfaces); do
    hand_over 10ee:7011
    broker --iommu "$interface" --card "$card" --card "$other"
    before=$(pinned "$broker")
    behind client jitney test ddr --broker /run/broker.sock --size 1M --passes 100000
    client=$!
    behind neighbour jitney time blkram --broker /run/broker.sock --only "$other" --transfers 100000
    neighbour=$!
    await 20 passes client 2
    kill -0 "$neighbour" || fail "the other card's program ended too early: $(cat /run/neighbour.log)"

    unplug "$card"
    lets_go "$client" "$card"
    await 10 gone
    refuses 3 "nothing tested" jitney test ddr --broker /run/broker.sock --size 1M --passes 1
    JITNEY_BROKER=/run/broker.sock jitney list > /run/list || fail "jitney list"
    ! grep -q "^ *$card " /run/list || fail "the card that went is still in the list"
    grep -q "waits for pid $client (jitney test ddr" /run/broker.log || fail "$(cat /run/broker.log)"
    kill -0 "$neighbour" || fail "the other card's program has ended: $(cat /run/neighbour.log)"
    kill "$neighbour"
    wait "$neighbour"
    await 5 nothing_more_pinned
    # Also after the card has gone memory is mapped, and given back.
    says "all 10 transfers each way match" jitney time blkram --broker /run/broker.sock --only "$other" --transfers 10
    await 5 nothing_more_pinned
    end_broker

    plug "$card"
    hand_over 10ee:7011
    broker --iommu "$interface" --card "$card" --card "$other"
    says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --size 1M --passes 1
    end_broker
done
take_back 10ee:7011 10ee:7024
