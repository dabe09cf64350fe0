# A card is off its bus while a tool loads its FPGA, and back with vfio-pci after it: alone, when the tool fails, and under a broker
# whose clients let go of it. What loads here only looks whether the card is away.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
mine=$(card 10ee:7011)
other=$(card 10ee:7024)
echo "no bitstream" >/run/top.bin
cat >/run/loader <<END
#!/bin/sh
[ ! -e /sys/bus/pci/devices/$mine ] || exit 7
cp "\$1" /run/loaded
exit \$(cat /run/status)
END
chmod 755 /run/loader
program() {
    jitney program "$mine" /run/top.bin --force --tool "/run/loader {file}" "$@"
}
is_handed_over() {
    [ "$(driver "$mine")" = vfio-pci ] || fail "$mine has the driver '$(driver "$mine")'"
    [ "$(stat -c %a "$(node "$mine")")" = 660 ] || fail "$(ls -l "$(node "$mine")")"
}
hand_over 10ee:7011 10ee:7024
chmod 660 "$(node "$mine")"
echo 0 >/run/status
says "would be taken off its bus" program --dry-run
[ ! -e /run/loaded ] || fail "it was loaded all the same"
for interface in $(interfaces); do
    rm -f /run/loaded
    says "is NiteFury" program --iommu "$interface" --card "$mine"
    [ -e /run/loaded ] || fail "nothing was loaded"
    is_handed_over
done

echo 3 >/run/status
refuses 1 "/run/loader failed with exit status 3; its message is above; the card is back" program --card "$mine"
is_handed_over

echo 0 >/run/status
broker --card "$mine" --card "$other"
behind client jitney test ddr --broker /run/broker.sock --size 1M --passes 100000
client=$!
await 20 grep -q "pass 2 of" /run/client.log
refuses 1 "is held by pid $client" program --broker /run/broker.sock
kill "$client"
wait "$client"
behind holder jitney hold "$mine" --broker /run/broker.sock
holder=$!
await 10 grep -q "^holding" /run/holder.log
said=$(program --broker /run/broker.sock 2>&1) || fail "status $? of program: $said"
case $said in
*"the broker does not open $mine anew: start it again"*"is NiteFury"*) ;;
*) fail "$said" ;;
esac
wait "$holder" && fail "who held a card that went ends well: $(cat /run/holder.log)"
is_handed_over
says "all 10 transfers each way match" jitney time blkram --broker /run/broker.sock --only "$other" --transfers 10
end_broker
take_back 10ee:7011 10ee:7024
