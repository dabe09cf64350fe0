# Three programs share both boards in one address space.
. /lab/lib.sh
hand_over $boards
for interface in $(interfaces); do
    echo "$interface"
    jitney run --iommu "$interface" --card "$(card ${boards% *})" --card "$(card ${boards#* })" \
        "jitney test general" "jitney test ddr --size 4M --passes 3" "jitney time blkram --transfers 30" ||
        fail "status $?"
done
take_back $boards
