# The door to containers.
. /lab/lib.sh
[ -c /dev/vfio/vfio ] || fail "no /dev/vfio/vfio"
