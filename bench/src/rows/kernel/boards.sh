# Both boards go to vfio-pci, and the bench program has memory tests run on them. QUICK is replaced.
. /lab/lib.sh
hand_over $boards
addresses=
for id in $boards; do
    addresses="$addresses $(card $id)"
done
jitney-bench QUICK --in-guest-boards $addresses 2>/run/errors || fail "jitney-bench: $(cat /run/errors)"
