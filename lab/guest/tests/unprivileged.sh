# A user without access to /dev/vfio, who may lock no more than 64 KiB, uses cards that root's broker owns.
. /lab/lib.sh
hand_over $boards
[ "$(anna 'id -u')" = 1000 ] || fail "no other user: $(anna id)"
for interface in $(interfaces); do
    echo "$interface"
    refuses 1 "/dev/" anna "jitney info --iommu $interface --card $(card ${boards% *})"
    broker --iommu "$interface" --group
    refuses 1 "" anna "jitney test general --broker /run/broker.sock"
    chgrp anna /run/broker.sock
    says "Found NiteFury" anna "jitney test general --broker /run/broker.sock"
    says "pass 2 of 2: test pattern matches" anna "jitney test ddr --broker /run/broker.sock --size 4M --passes 2"
    says "all 5 transfers" anna "jitney time blkram --broker /run/broker.sock --transfers 5 --completion interrupt"
    end_broker
    says passed jitney run --iommu "$interface" "su anna -s /bin/sh -c 'ulimit -l 64 && exec jitney test ddr --size 1M --passes 2'"
done
take_back $boards
