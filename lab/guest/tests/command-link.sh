# The link of a card and the port above it; the port is told another speed, which
# QEMU's ports do not take, and trains its link anew.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
mine=$(card 10ee:7011)
hand_over 10ee:7011
port=$(basename "$(dirname "$(readlink -f "/sys/bus/pci/devices/$mine")")")
says "port $port: " jitney link "$mine" --card "$mine"
says "told to train at" jitney link "$mine" --card "$mine"
refuses 2 "cannot have its link at 64 GT/s" jitney link "$mine" --card "$mine" --speed gen6
refuses 1 "came up at 5 GT/s x4: the port did not take 2.5 GT/s" jitney link "$mine" --card "$mine" --speed gen1
says "pass 1 of 1: test pattern matches" jitney test ddr --card "$mine" --size 1M --passes 1
take_back 10ee:7011
