# Each card has an IOMMU group, and shares it with nobody.
. /lab/lib.sh
[ -n "$(ls /sys/class/iommu)" ] || skip "this machine has no IOMMU"
for id in "1234 11e8" "1b36 0010"; do
    address=$(card $id) || fail "$address"
    members=$(ls "/sys/bus/pci/devices/$address/iommu_group/devices") || fail "$address has no group"
    [ "$members" = "$address" ] || fail "the group of $address holds: $members"
done
