# The command drives both boards by itself, as it does the emulated ones: alone, on every interface.
. /lab/lib.sh
hand_over $boards
ddr=$(card ${boards% *})
blkram=$(card ${boards#* })
for interface in $(interfaces); do
    echo "$interface"
    export JITNEY_IOMMU=$interface
    says NiteFury jitney list
    says "board: NiteFury" jitney info "$ddr"
    says "board: TEF1001" jitney info --card "$blkram"
    says "Found NiteFury" jitney test general
    says "pass 2 of 2: test pattern matches" jitney test ddr --size 4M --passes 2 --card "$ddr"
    says "test pattern matches" jitney test ddr --size 4M --passes 1 --buffer huge --card "$ddr"
    says "all 20 transfers each way match" jitney time blkram --transfers 20 --card "$blkram"
done
unset JITNEY_IOMMU
# The option counts for more than the variable.
JITNEY_IOMMU=nonsense refuses 1 "no interface of VFIO" jitney list
JITNEY_IOMMU=nonsense says NiteFury jitney list --iommu "$interface"
[ -c /dev/iommu ] || refuses 1 /dev/iommu jitney info "$ddr" --iommu iommufd
take_back $boards
