# A card that is unplugged while a program drives it, without a broker: the program says so and ends, the card goes, and when it
# is plugged in again it works.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
card=$(card 10ee:7011)
gone() {
    [ ! -e "/sys/bus/pci/devices/$card" ]
}
passes() {
    grep -q "pass $1 of" /run/client.log
}
for interface in $(interfaces); do
    hand_over 10ee:7011
    behind client jitney test ddr --iommu "$interface" --card "$card" --size 1M --passes 100000
    client=$!
    await 20 passes 2
    unplug "$card"
    lets_go "$client" "$card"
    await 10 gone
    plug "$card"
done
hand_over 10ee:7011
says "pass 1 of 1: test pattern matches" jitney test ddr --card "$card" --size 1M --passes 1
take_back 10ee:7011
