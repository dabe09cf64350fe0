# Both edu cards go to vfio-pci, and the bench program measures with them. QUICK is replaced.
. /lab/lib.sh
# Soon after the start there are enough in one piece.
echo 520 >/proc/sys/vm/nr_hugepages
cards=
for folder in /sys/bus/pci/devices/*; do
    [ "$(cat "$folder/vendor"):$(cat "$folder/device")" = "0x${edu%:*}:0x${edu#*:}" ] || continue
    address=$(basename "$folder")
    bind "$address" vfio-pci
    await 2 [ -c "/dev/vfio/$(group "$address")" ]
    cards="$cards $address"
done
jitney-bench QUICK --in-guest $cards 2>/run/errors || fail "jitney-bench: $(cat /run/errors)"
