# The NVMe is taken from its driver, given to vfio-pci, and given back.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
address=$(card $nvme) || fail "$address"
await 5 [ -b /dev/nvme0n1 ]
bind "$address" vfio-pci
await 2 [ ! -e /dev/nvme0n1 ]
release "$address"
bind "$address" nvme
await 5 [ -b /dev/nvme0n1 ]
