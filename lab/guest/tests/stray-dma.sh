# A card that is given addresses which are not mapped is refused by the IOMMU, the driver says so, and the channel works again.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
for interface in $(interfaces); do
    JITNEY_IOMMU=$interface says "unsupported request" stray_dma "$(card ${boards% *})"
    echo "$interface: $said"
done
take_back $boards
