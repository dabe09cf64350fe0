# The command binds cards and gives them back to their drivers; the doctor finds nothing missing where nothing is.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
await 5 [ -b /dev/nvme0n1 ]
for id in $edu $nvme; do
    address=$(card $id) || fail "$address"
    before=$(driver "$address")
    says vfio-pci jitney bind "$address"
    [ "$(driver "$address")" = vfio-pci ] || fail "$address has the driver '$(driver "$address")'"
    [ -c "/dev/vfio/$(group "$address")" ] || fail "no node of $address"
    says "Nothing is missing" jitney doctor "$address"
    says "$address" jitney unbind "$address"
    [ "$(driver "$address")" = "$before" ] || fail "$address has the driver '$(driver "$address")', not '$before'"
done
await 5 [ -b /dev/nvme0n1 ]
refuses 1 0000:ff:1f.7 jitney bind 0000:ff:1f.7
