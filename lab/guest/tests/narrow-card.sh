# A card with 28 address bits is given memory that it reaches, in one address space with boards that reach all: by its owner and
# through a broker.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $edu $boards
for interface in $(interfaces); do
    echo "$interface"
    JITNEY_IOMMU=$interface says "below 0xfffffff: 0x" narrow_card
    broker --iommu "$interface" --card "$(card $edu)" --card "$(card ${boards% *})"
    behind client jitney test ddr --broker /run/broker.sock --size 64K --passes 1000000
    client=$!
    says "below 0xfffffff: 0x" narrow_card /run/broker.sock
    kill "$client"
    wait "$client"
    end_broker
done
take_back $edu $boards
