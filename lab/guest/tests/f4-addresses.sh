# Processes that share a container and number their memory by themselves get in each other's way: EEXIST (F4). Through us, two
# programs move data by two boards in one address space at once, and none of them fails.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
naive "$(card ${boards% *})" collide || fail "the naive way did not fail"
for interface in $(interfaces); do
    for round in $(seq 5); do
        jitney run --iommu "$interface" --card "$(card ${boards% *})" --card "$(card ${boards#* })" \
            "jitney test ddr --size 256K --passes 4" "jitney time blkram --transfers 10" >/run/round.log 2>&1 ||
            fail "$interface, round $round: status $?: $(cat /run/round.log)"
    done
done
take_back $boards
