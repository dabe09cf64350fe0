# A card may start DMA only while somebody has it: when the last one is gone it is reset and its Bus Master Enable is off.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
card=$(card ${boards% *})
# Bit 2 of the command register, which is at offset 4.
bus_master() {
    echo $((0x$(od -An -tx1 -j4 -N1 "/sys/bus/pci/devices/$card/config" | tr -d ' ') >> 2 & 1))
}
is_bus_master() {
    [ "$(bus_master)" = 1 ]
}
for interface in $(interfaces); do
    [ "$(bus_master)" = 0 ] || fail "bus master is on before $interface"
    broker --iommu "$interface" --card "$card"
    [ "$(bus_master)" = 0 ] || fail "bus master is on while $interface has no client"
    jitney test ddr --broker /run/broker.sock --size 64K --passes 1000000 >/run/client.log 2>&1 &
    client=$!
    await 10 is_bus_master
    # Also if nobody ends in order, and the client is the last to go.
    kill -KILL "$broker"
    wait "$broker"
    kill -KILL "$client"
    wait "$client"
    [ "$(bus_master)" = 0 ] || fail "bus master is on after $interface"
done
take_back $boards
