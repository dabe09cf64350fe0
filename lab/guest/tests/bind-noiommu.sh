# Without an IOMMU a card can be had only unsafely: its group's node is called noiommu.
. /lab/lib.sh
! has_iommu || skip "this machine has an IOMMU"
unsafe=/sys/module/vfio/parameters/enable_unsafe_noiommu_mode
[ -e "$unsafe" ] || skip "this kernel has no NOIOMMU"
echo 1 >"$unsafe"
address=$(card $edu) || fail "$address"
bind "$address" vfio-pci
await 2 [ -e "/sys/bus/pci/devices/$address/iommu_group" ]
await 2 [ -c "/dev/vfio/noiommu-$(group "$address")" ]
release "$address"
