# A group that another process has open is busy, whoever that is (F1). Who asks us for the card is told; whoever holds it is found.
. /lab/lib.sh
hand_over $boards
card=$(card ${boards% *})
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$card"
    for other in $(interfaces); do
        echo "$other while $interface is in use"
        refuses 1 "pid $broker (/usr/bin/jitney" jitney info --card "$card" --iommu "$other"
    done
    if [ "$interface" != iommufd ]; then
        refuses 1 "Device or resource busy" sh -c "exec <>$(node "$card")"
    fi
    says "$broker" jitney who "$card"
    # It is listed all the same.
    says "pid $broker (/usr/bin/jitney" jitney list --iommu "$interface"
    says "held by pid $broker (/usr/bin/jitney" jitney list --iommu "$interface"
    # Also who names it without saying that he wants to own it, and who looks for what only that card has.
    refuses 1 "card $card is held by pid $broker (/usr/bin/jitney" jitney info "$card" --iommu "$interface"
    refuses 3 "$card is held by pid $broker (/usr/bin/jitney" jitney test general --iommu "$interface"
    says "10ee:7024" jitney list --iommu "$interface"
    # Who names no card gets those that are left.
    says "all 20 transfers each way match" jitney time blkram --transfers 20 --iommu "$interface"
    says "card $card is left out" jitney time blkram --transfers 20 --iommu "$interface"
    # The card is still good for those who ask its owner.
    says "board: NiteFury" jitney info --broker /run/broker.sock
    end_broker
    says "board: NiteFury" jitney info --card "$card" --iommu "$interface"
done
take_back $boards
