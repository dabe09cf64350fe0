# A process is killed while a channel of the card reads its memory. By hand: its memory stays mapped (F5), its channel goes on
# (F6). Through us: the channel is stopped, the memory unmapped and no longer pinned, and nobody is
# given its address again, each time.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
card=$(card ${boards% *})
naive "$card" die || fail "the naive way did not fail"
for interface in $(interfaces); do
    broker --iommu "$interface" --card "$card"
    kills=$(rounds 20)
    says "$kills clients were killed in the middle of a transfer" endless_dma /run/broker.sock kill "$kills"
    says "pass 1 of 1: test pattern matches" jitney test ddr --broker /run/broker.sock --size 256K --passes 1
    end_broker
done
take_back $boards
