# An IOMMU that the kernel was told not to use.
. /lab/lib.sh
[ -e /sys/firmware/acpi/tables/DMAR ] || skip "this machine has no IOMMU"
has_iommu && fail "the IOMMU is on"
card=$(card $edu)
diagnosis 1 IOMMU missing "off: the kernel was started with intel_iommu=off" jitney doctor "$card"
and_says "remove intel_iommu=off from the kernel's command line"
diagnosis 1 group unknown "it gets one when the IOMMU is on" jitney doctor "$card"
refuses 1 IOMMU jitney bind "$card"
[ -z "$(driver "$card")" ] || fail "half bound: $(driver "$card")"
