# Without an IOMMU a card can be had only unsafely: its group's node is called noiommu.
. /lab/lib.sh
! has_iommu || skip "this machine has an IOMMU"
[ -e $unsafe ] || skip "this kernel has no NOIOMMU"
echo 1 >$unsafe
address=$(card $edu) || fail "$address"
bind "$address" vfio-pci
await 2 [ -e "/sys/bus/pci/devices/$address/iommu_group" ]
await 2 [ -c "$(node "$address")" ]
release "$address"
