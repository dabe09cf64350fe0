# A board in a slot with fewer lanes than it could use: it works, and the doctor says that it could be faster.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over 10ee:7024
card=$(card 10ee:7024)
diagnosis 0 link warning "5.0 GT/s PCIe x1, the card can 5.0 GT/s PCIe x4" jitney doctor "$card"
and_says "a slot with more lanes"
take_back 10ee:7024
