# Without interrupt remapping VFIO refuses the machine: EPERM. The doctor says why, and so does whoever opens a card.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $edu
card=$(card $edu)
diagnosis 1 "interrupt remapping" missing "off: the kernel was started with intremap=off" jitney doctor "$card"
and_says "remove intremap=off from the kernel's command line"
for interface in $(interfaces); do
    refuses 1 EPERM edu "$card" "$interface"
    echo "$said"
    and_says "no interrupt remapping"
    # The remedy that it names.
    echo 1 >"$(echo "$said" | grep -o '/sys/module/.*/allow_unsafe_interrupts')"
    says identity edu "$card" "$interface"
done
diagnosis 1 "interrupt remapping" missing "off: the kernel was started with intremap=off" jitney doctor "$card"
take_back $edu
