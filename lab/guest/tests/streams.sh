# Transfers in flight, packets there and back, captures and user interrupts through the kernel's VFIO, by each interface.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
for interface in $(interfaces); do
    JITNEY_IOMMU=$interface says "user interrupt 3 came three times" streams "$(card ${boards% *})" "$(card ${boards#* })"
    echo "$interface: $said"
done
take_back $boards
