# The NVMe is taken from its driver, given to vfio-pci, and given back.
. /lab/lib.sh
address=$(card 1b36 0010) || fail "$address"
device=/sys/bus/pci/devices/$address
[ -e "$device/iommu_group" ] || skip "this machine has no IOMMU"
await 5 [ -b /dev/nvme0n1 ]
for to in vfio-pci nvme; do
    from=$(driver "$address")
    echo "$to" >"$device/driver_override"
    echo "$address" >"$device/driver/unbind"
    echo "$address" >/sys/bus/pci/drivers_probe
    [ "$(driver "$address")" = "$to" ] || fail "driver is '$(driver "$address")', was $from, should be $to"
done
echo >"$device/driver_override"
await 5 [ -b /dev/nvme0n1 ]
