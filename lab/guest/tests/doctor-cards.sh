# A card that another driver has, that no driver has, that is not there, or that another process uses.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
await 5 [ -b /dev/nvme0n1 ]
nvme=$(card $nvme)
edu=$(card $edu)
diagnosis 1 driver missing "bound to nvme, not to vfio-pci" jitney doctor "$nvme"
and_says "-> jitney bind $nvme"
diagnosis 1 driver missing "bound to none, not to vfio-pci" jitney doctor "$edu"
and_says "-> jitney bind $edu"
diagnosis 1 cards missing "none is bound to vfio-pci" jitney doctor
diagnosis 1 card missing "there is no PCI function 0000:ff:1f.7" jitney doctor 0000:ff:1f.7

hand_over $boards
card=$(card ${boards% *})
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$card"
    # Others can still be its clients: nothing is missing.
    diagnosis 0 "held by" warning "pid $broker (/usr/bin/jitney" jitney doctor "$card"
    and_says "start programs under one broker"
    end_broker
done
take_back $boards
