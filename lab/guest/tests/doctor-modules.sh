# A module of VFIO that is not loaded is named, with the command that loads it.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
grep -q '^vfio_pci ' /proc/modules || skip "vfio-pci is built in"
rmmod vfio_pci
diagnosis 1 modules missing "vfio-pci is not loaded" jitney doctor
and_says "sudo modprobe vfio-pci"
insmod /lab/modules/*-vfio-pci.ko
rmmod vfio_iommu_type1
diagnosis 1 modules missing "vfio_iommu_type1 is not loaded" jitney doctor
and_says "sudo modprobe vfio_iommu_type1"
insmod /lab/modules/*-vfio_iommu_type1.ko
hand_over $edu
diagnosis 0 modules good "vfio-pci is loaded, vfio_iommu_type1 is there" jitney doctor
take_back $edu
