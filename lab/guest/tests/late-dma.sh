# A card whose DMA comes 100 ms late (edu) and whose client was killed meanwhile writes to nobody else's memory.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $edu
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$(card $edu)"
    says "0 bytes that nobody wrote" late_dma /run/broker.sock watch 100 plain
    echo "$interface: $said"
    says "0 bytes that nobody wrote" late_dma /run/broker.sock watch 20 will
    echo "$interface: $said"
    end_broker
done
take_back $edu
