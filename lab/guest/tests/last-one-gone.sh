# A card may start DMA only while somebody has it: when the last one is gone its Bus Master Enable is off, and its registers are
# as after a reset.
. /lab/lib.sh
hand_over $boards
card=$(card ${boards% *})
# Bit 2 of the command register, which is at offset 4.
bus_master() {
    echo $((0x$(od -An -tx1 -j4 -N1 "/sys/bus/pci/devices/$card/config" | tr -d ' ') >> 2 & 1))
}
is_bus_master() {
    [ "$(bus_master)" = 1 ]
}
is_no_bus_master() {
    [ "$(bus_master)" = 0 ]
}
leaves_an_address() {
    says "write-back address" endless_dma /run/broker.sock look
    [ "${said%" 0x0"}" = "$said" ]
}
for interface in $(interfaces); do
    [ "$(bus_master)" = 0 ] || fail "bus master is on before $interface"
    broker --iommu "$interface" --card "$card"
    [ "$(bus_master)" = 0 ] || fail "bus master is on while $interface has no client"
    behind client jitney test ddr --broker /run/broker.sock --size 64K --passes 1000000
    client=$!
    await 10 is_bus_master
    # This address is what a transfer leaves in the card, until somebody resets it.
    await 10 leaves_an_address
    kill -KILL "$client"
    wait "$client"
    await 5 is_no_bus_master
    says "write-back address 0x0" endless_dma /run/broker.sock look
    behind client jitney test ddr --broker /run/broker.sock --size 64K --passes 1000000
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
