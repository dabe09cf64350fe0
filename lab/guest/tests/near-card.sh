# On a machine with two NUMA nodes DMA buffers lie near the card, wherever the program and the broker run: here they run on the
# first node, and the card belongs to the second.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
address=$(card $edu) || fail "$address"
[ -e /sys/devices/system/node/node1 ] || skip "this kernel knows no NUMA"
[ "$(cat "/sys/bus/pci/devices/$address/numa_node")" = 1 ] || fail "the card is not on the second node"
hand_over $edu
says "NUMA node 1" jitney info "$address"
for interface in $(interfaces); do
    echo "$interface"
    JITNEY_IOMMU=$interface says "0x600000: {1: " taskset 1 near_card 1
    JITNEY_IOMMU=$interface refuses 1 "is not on node 0" taskset 1 near_card 0
    rm -f /run/broker.sock
    behind broker taskset 1 jitney broker --socket /run/broker.sock --iommu "$interface" --card "$address"
    broker=$!
    await 10 grep -q '^listening at' /run/broker.log
    says "0x600000: {1: " taskset 1 near_card 1 /run/broker.sock
    end_broker
done
take_back $edu
