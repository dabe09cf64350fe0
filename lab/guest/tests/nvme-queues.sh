# Processes share an NVMe, a pair of queues and a vector each, and one after the other is killed in the middle of its I/O: the other one
# never fails and its data is right, the next has the dead one's queue, nobody's memory is written to, and at the end the controller is
# disabled. Then the kernel's own driver finds on the disk what was written.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
address=$(card $nvme) || fail "$address"
for interface in $(interfaces); do
    hand_over $nvme
    broker --iommu "$interface" --card "$address"
    wrote="written by way of $interface"
    kills=$(rounds 20)
    says "$kills were killed in the middle of I/O" nvme_queues /run/broker.sock kill "$kills" "$wrote"
    echo "$interface: $said"
    says "No program uses it" jitney status --broker /run/broker.sock
    end_broker
    bind "$address" nvme
    await 10 [ -b /dev/nvme0n1 ]
    found=$(dd if=/dev/nvme0n1 bs=512 skip=100000 count=1 2>/dev/null | tr -d '\0')
    [ "$found" = "$wrote" ] || fail "the kernel's driver reads '$found'"
done
