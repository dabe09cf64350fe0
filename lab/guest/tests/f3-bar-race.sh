# Four processes map a BAR for the first time at once: EBUSY now and then if the card was opened by hand, never by us (F3).
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $boards
card=$(card ${boards% *})
naive=$(bar_race "$card" 30 naive) || fail "$naive"
echo "by hand: $naive"
for interface in $(interfaces); do
    says "EBUSY in 0 of 40 rounds" bar_race "$card" 40 "$interface"
done
take_back $boards
[ "$naive" != "EBUSY in 0 of 30 rounds" ] || skip "opened by hand, the card was not busy in 30 rounds: this shows nothing"
