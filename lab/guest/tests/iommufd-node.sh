# The door to iommufd, where the kernel was built with it.
. /lab/lib.sh
[ -c /dev/iommu ] || skip "this kernel has no iommufd"
