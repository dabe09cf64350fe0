# Both boards go to vfio-pci at the same time, each with a group node of its own, and are free again afterwards.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
for id in $boards; do
    address=$(card $id) || fail "$address"
    bind "$address" vfio-pci
    await 2 [ -c "/dev/vfio/$(group "$address")" ]
done
[ "$(ls /dev/vfio | grep -c '^[0-9]')" = 2 ] || fail "group nodes: $(ls /dev/vfio)"
for id in $boards; do
    release "$(card $id)"
done
no_nodes() {
    ! ls /dev/vfio | grep '^[0-9]'
}
await 2 no_nodes
