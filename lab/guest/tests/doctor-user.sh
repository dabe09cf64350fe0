# An ordinary user is told which nodes may not be opened, and how little memory may be locked, with the commands that change it.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
card=$(card ${boards% *})
diagnosis 1 permissions missing "this user may not open" anna jitney doctor "$card"
and_says "/dev/vfio/$(group "$card") (owner root"
and_says "--owner anna"
diagnosis 1 memlock missing "limit 64 KiB, two buffers of 1 GiB need 2 GiB" anna jitney doctor "$card"
and_says "anna - memlock unlimited"
and_says "LimitMEMLOCK=infinity"
diagnosis 1 "held by" unknown "processes of other users could not be looked into" anna jitney doctor "$card"
diagnosis 1 "PCIe settings" unknown "which root sees: sudo jitney doctor $card" anna jitney doctor "$card"
says "" jitney bind "$card" --owner anna
diagnosis 1 permissions good "this user may open" anna jitney doctor "$card"
take_back $boards
