# Without an IOMMU a card can be had only unsafely: the group is called noiommu and the kernel is tainted.
. /lab/lib.sh
[ -z "$(ls /sys/class/iommu)" ] || skip "this machine has an IOMMU"
unsafe=/sys/module/vfio/parameters/enable_unsafe_noiommu_mode
[ -e "$unsafe" ] || skip "this kernel has no NOIOMMU"
echo 1 >"$unsafe"
address=$(card 1234 11e8) || fail "$address"
device=/sys/bus/pci/devices/$address
echo vfio-pci >"$device/driver_override"
echo "$address" >/sys/bus/pci/drivers_probe
await 2 [ -e "$device/iommu_group" ]
await 2 [ -c "/dev/vfio/noiommu-$(basename "$(readlink "$device/iommu_group")")" ]
echo "$address" >"$device/driver/unbind"
echo >"$device/driver_override"
