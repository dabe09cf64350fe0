# Without an IOMMU the command hands cards over and opens them only if that is asked for by name, and says what it means.
. /lab/lib.sh
! has_iommu || skip "this machine has an IOMMU"
address=$(card $edu) || fail "$address"
echo 0 >$unsafe
refuses 1 "echo 1 | sudo tee $unsafe" jitney bind "$address"
[ -z "$(driver "$address")" ] || fail "$address was bound to $(driver "$address")"
echo 1 >$unsafe
says "UNSAFE" jitney bind "$address"
[ -c "$(node "$address")" ] || fail "no node of $address"
refuses 1 "by name: --iommu noiommu" jitney doctor "$address"
for interface in auto group iommufd; do
    refuses 1 "--iommu noiommu" jitney info --card "$address" --iommu $interface
done
says "UNSAFE: cards are opened without an IOMMU" jitney info --card "$address" --iommu noiommu
JITNEY_IOMMU=noiommu says "1234:11e8" jitney list
says "$address" jitney unbind "$address"
[ -z "$(driver "$address")" ] || fail "$address has the driver $(driver "$address")"
