# Transfers of two processes complete by MSI-X, at the same time, and of one that is alone.
. /lab/lib.sh
hand_over $boards
for interface in $(interfaces); do
    echo "$interface"
    jitney run --iommu "$interface" \
        "jitney test ddr --size 1M --passes 10 --completion interrupt" \
        "jitney time blkram --transfers 30 --completion interrupt" || fail "status $?"
    says "all 5 transfers" jitney time blkram --transfers 5 --completion interrupt --iommu "$interface"
done
grep -q vfio-msix /proc/interrupts && fail "an interrupt is left: $(grep vfio /proc/interrupts)"
take_back $boards
