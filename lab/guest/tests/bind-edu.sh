# edu goes to vfio-pci by driver_override, gets its nodes, and is free again afterwards.
. /lab/lib.sh
address=$(card 1234 11e8) || fail "$address"
device=/sys/bus/pci/devices/$address
[ -e "$device/iommu_group" ] || skip "this machine has no IOMMU"
echo vfio-pci >"$device/driver_override"
echo "$address" >/sys/bus/pci/drivers_probe
[ "$(driver "$address")" = vfio-pci ] || fail "driver is '$(driver "$address")'"
group=$(basename "$(readlink "$device/iommu_group")")
await 2 [ -c "/dev/vfio/$group" ]
[ ! -c /dev/iommu ] || await 2 [ -c "/dev/vfio/devices/$(ls "$device/vfio-dev")" ]
echo "$address" >"$device/driver/unbind"
echo >"$device/driver_override"
[ -z "$(driver "$address")" ] || fail "still bound to $(driver "$address")"
await 2 [ ! -e "/dev/vfio/$group" ]
