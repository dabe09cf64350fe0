# No huge pages are a warning; those that are reserved are counted.
. /lab/lib.sh
has_iommu || skip "this machine has no IOMMU"
hand_over $edu
reserved=$(cat /proc/sys/vm/nr_hugepages)
echo 0 >/proc/sys/vm/nr_hugepages
diagnosis 0 "huge pages" warning "0 of 0 pages of 2 MiB free" jitney doctor
and_says "vm.nr_hugepages"
echo 4 >/proc/sys/vm/nr_hugepages
diagnosis 0 "huge pages" good "4 of 4 pages of 2 MiB free" jitney doctor
echo "$reserved" >/proc/sys/vm/nr_hugepages
take_back $edu
