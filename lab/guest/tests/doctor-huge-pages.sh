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
# Without a reservation large buffers get large pages all the same, unless that is forbidden.
choice=/sys/kernel/mm/transparent_hugepage/shmem_enabled
before=$(sed 's/.*\[\(.*\)\].*/\1/' $choice)
diagnosis 0 "large pages" good "without a reservation" jitney doctor
echo deny >$choice
diagnosis 0 "large pages" warning "shmem_enabled says deny" jitney doctor
echo "$before" >$choice
take_back $edu
