# A BAR of I/O ports cannot be mapped: its registers are reached by reads and writes of the device, alone and through a broker.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
ports=1b36:0005
address=$(card $ports) || fail "$address"
hand_over $ports
# QEMU's docs/specs/pci-testdev.rst: writing a test's number to offset 0 chooses it, and its name stands from 16 on: "port…".
name=0x74726f70
for interface in $(interfaces); do
    echo "$interface"
    export JITNEY_IOMMU=$interface
    says "" jitney write "$address" 1:0 0
    says "$name" jitney read "$address" 1:16
    broker --iommu "$interface" --card "$address"
    behind holder jitney hold "$address" --broker /run/broker.sock
    holder=$!
    await 10 grep -q hold /run/holder.log
    says "" jitney write "$address" 1:0 0 --broker /run/broker.sock
    says "$name" jitney read "$address" 1:16 --broker /run/broker.sock
    refuses 2 "BAR 1, which ends at 0x100" jitney read "$address" 1:0x10000 --broker /run/broker.sock
    kill "$holder"
    end_broker
done
take_back $ports
