# A machine without an IOMMU is told that its host gives it none.
. /lab/lib.sh
! has_iommu || skip "this machine has an IOMMU"
diagnosis 1 IOMMU missing "this is a virtual machine to which its host gives none" jitney doctor
and_says "on the host give it one"
diagnosis 1 "interrupt remapping" unknown "it comes with the IOMMU, which is off" jitney doctor
