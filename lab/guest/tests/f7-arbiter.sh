# Who asks for a channel that another client uses, or wants to reset the card under it, is refused and told who it is (F7).
. /lab/lib.sh
hand_over $boards
for interface in $(interfaces); do
    echo "$interface"
    broker --iommu "$interface" --card "$(card ${boards% *})"
    # What an earlier client wrote may be there still when this one is waited for.
    behind client endless_dma /run/broker.sock run
    client=$!
    await 10 [ -s /run/client.log ]
    kill -0 "$client" || fail "the client ended: $(cat /run/client.log)"
    refuses 1 "pid $client" jitney test ddr --broker /run/broker.sock --size 64K --passes 1
    refuses 1 "pid $client" endless_dma /run/broker.sock reset
    # It was not disturbed.
    says "run true, busy true" endless_dma /run/broker.sock look
    kill -0 "$client" || fail "the client ended: $(cat /run/client.log)"
    kill -KILL "$client"
    wait "$client"
    says "pass 1 of 1" jitney test ddr --broker /run/broker.sock --size 64K --passes 1
    says "" endless_dma /run/broker.sock reset
    end_broker
done
take_back $boards
