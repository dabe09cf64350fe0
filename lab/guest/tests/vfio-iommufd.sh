# edu and the NVMe are driven through their own nodes and iommufd, and what the kernel refuses is explained.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
[ -c /dev/iommu ] || skip "this kernel has no iommufd"
bind "$(card $edu)" vfio-pci
await 5 [ -b /dev/nvme0n1 ]
bind "$(card $nvme)" vfio-pci
edu iommufd || fail "edu failed"
nvme_identify iommufd || fail "nvme_identify failed"
JITNEY_IOMMU=iommufd kernel_vfio --include-ignored --test-threads=1 || fail "kernel_vfio failed"
bind "$(card $nvme)" nvme
release "$(card $edu)"
