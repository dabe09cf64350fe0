# A group goes as a whole: as long as the kernel drives another of its cards it cannot be used. Who opens one is told which it is
# and the command that mends it, the doctor says the same, and the command does mend it.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
edu=$(card $edu)
nvme=$(card $nvme)
[ "$(group "$edu")" = "$(group "$nvme")" ] || fail "not in one group: $(group "$edu"), $(group "$nvme")"
await 5 [ -b /dev/nvme0n1 ]
refuses 1 "$nvme" jitney bind "$edu"
and_says "--with-group"
[ -z "$(driver "$edu")" ] || fail "half bound: $(driver "$edu")"

bind "$edu" vfio-pci
await 2 [ -c "/dev/vfio/$(group "$edu")" ]
for interface in $(interfaces); do
    refuses 1 "$nvme (driver nvme)" edu "$edu" "$interface"
    echo "$said"
    and_says "jitney bind $nvme"
done
diagnosis 1 group missing "cannot be used: it also has $nvme (disk controller, driver nvme)" jitney doctor "$edu"
and_says "jitney bind $edu --with-group"

says "$nvme" jitney bind "$nvme"
for interface in $(interfaces); do
    says identity edu "$edu" "$interface"
    # What they also have in common is a bus.
    JITNEY_IOMMU=$interface kernel_vfio --ignored --exact a_bus_with_another_card_is_not_reset ||
        fail "by $interface a reset of the bus was not refused as it should be"
done
diagnosis 0 group good "nothing in it is in the way" jitney doctor "$edu"
says "$nvme" jitney unbind "$nvme"
says "$edu" jitney unbind "$edu"
await 5 [ -b /dev/nvme0n1 ]

# Both at once.
says "$nvme" jitney bind "$edu" --with-group
says identity edu "$edu" group
says "$nvme" jitney unbind "$nvme"
says "$edu" jitney unbind "$edu"
await 5 [ -b /dev/nvme0n1 ]
