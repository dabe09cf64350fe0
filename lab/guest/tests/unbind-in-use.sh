# Taking a card from vfio-pci that is in use is like unplugging it: its user is told, and it does not hang. While somebody who
# does not look keeps the card it waits, and the broker says for whom. `jitney unbind` looks before and refuses.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
card=$(card 10ee:7011)
passes() {
    grep -q "pass $1 of" /run/client.log
}
says_who() {
    grep -q ": that$1 waits for pid $client (jitney test ddr" /run/broker.log
}
for interface in $(interfaces); do
    hand_over 10ee:7011
    broker --iommu "$interface" --card "$card"
    behind client jitney test ddr --broker /run/broker.sock --size 1M --passes 100000
    client=$!
    await 20 passes 2
    refuses 1 "is held by pid $broker" jitney unbind "$card"
    kill -STOP "$client"
    release "$card" &
    unbind=$!
    await 5 says_who ""
    await 15 says_who " still"
    kill -0 "$unbind" || fail "the kernel did not wait"
    kill -CONT "$client"
    lets_go "$client" "$card"
    wait "$unbind" || fail "unbind ended with $?"
    [ -z "$(driver "$card")" ] || fail "the card is still bound to $(driver "$card")"
    refuses 3 "nothing tested" jitney test ddr --broker /run/broker.sock
    end_broker
done
