# Where nothing is missing the doctor says so, for each thing that it looks at.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
card=$(card ${boards% *})
diagnosis 0 IOMMU good "Nothing is missing" jitney doctor
diagnosis 0 "interrupt remapping" good "interrupt remapping: on" jitney doctor "$card"
diagnosis 0 modules good "vfio-pci is" jitney doctor "$card"
diagnosis 0 memlock good "no limit" jitney doctor "$card"
diagnosis 0 driver good "bound to vfio-pci" jitney doctor "$card"
diagnosis 0 group good "nothing in it is in the way" jitney doctor "$card"
diagnosis 0 permissions good "this user may open" jitney doctor "$card"
diagnosis 0 link good "all that the card can" jitney doctor "$card"
diagnosis 0 payload good "all that card and port" jitney doctor "$card"
diagnosis 0 "read requests" good "512 bytes" jitney doctor "$card"
diagnosis 0 "NUMA node" good "the machine has one" jitney doctor "$card"
diagnosis 0 "held by" good nobody jitney doctor "$card"
if [ -c /dev/iommu ]; then
    diagnosis 0 interface good "iommufd: /dev/iommu and the cards' own nodes are there" jitney doctor
else
    diagnosis 0 interface good "group and container (type1), as there is no /dev/iommu" jitney doctor
fi
take_back $boards
