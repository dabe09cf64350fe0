# edu goes to vfio-pci by driver_override, gets its nodes, and is free again afterwards.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
address=$(card $edu) || fail "$address"
bind "$address" vfio-pci
node=/dev/vfio/$(group "$address")
await 2 [ -c "$node" ]
[ ! -c /dev/iommu ] || await 2 [ -c "/dev/vfio/devices/$(ls "/sys/bus/pci/devices/$address/vfio-dev")" ]
release "$address"
[ -z "$(driver "$address")" ] || fail "still bound to $(driver "$address")"
await 2 [ ! -e "$node" ]
