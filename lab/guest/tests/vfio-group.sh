# edu and the NVMe are driven through groups and a container, and what the kernel refuses is explained.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
bind "$(card $edu)" vfio-pci
await 5 [ -b /dev/nvme0n1 ]
bind "$(card $nvme)" vfio-pci
edu group || fail "edu failed"
nvme_identify group || fail "nvme_identify failed"
JITNEY_IOMMU=group kernel_vfio --include-ignored --test-threads=1 || fail "kernel_vfio failed"
bind "$(card $nvme)" nvme
release "$(card $edu)"
