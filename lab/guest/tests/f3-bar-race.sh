# Four processes map a BAR for the first time at once: EBUSY if the card was opened by hand, never by us (F3). Linux 7.0 and
# later set BARs up when a card is opened.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over "$edu"
card=$(card "$edu")
naive=$(bar_race "$card" 400 naive) || fail "$naive"
echo "by hand: $naive"
for interface in $(interfaces); do
    says "EBUSY in 0 of 400 rounds" bar_race "$card" 400 "$interface"
done
take_back "$edu"
case $(uname -r):$naive in
[456].*:"EBUSY in 0 "*) fail "by hand there was none, although this kernel does not set BARs up at open" ;;
[456].*) ;;
*:"EBUSY in 0 "*) ;;
*) fail "by hand there was EBUSY, although this kernel sets BARs up at open" ;;
esac
