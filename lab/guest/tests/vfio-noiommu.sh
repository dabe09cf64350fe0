# Without an IOMMU edu and the NVMe are driven with memory at its physical address.
. /lab/lib.sh
! has_iommu || skip "this machine has an IOMMU"
echo 1 >$unsafe
bind "$(card $edu)" vfio-pci
await 5 [ -b /dev/nvme0n1 ]
bind "$(card $nvme)" vfio-pci
kernel_noiommu --include-ignored --test-threads=1 || fail "kernel_noiommu failed"
edu noiommu || fail "edu failed"
nvme_identify noiommu || fail "nvme_identify failed"
bind "$(card $nvme)" nvme
release "$(card $edu)"
