# Each card has an IOMMU group, and shares it with nobody.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
for id in $edu $nvme $boards; do
    address=$(card $id) || fail "$address"
    members=$(ls "/sys/bus/pci/devices/$address/iommu_group/devices") || fail "$address has no group"
    [ "$members" = "$address" ] || fail "the group of $address holds: $members"
done
