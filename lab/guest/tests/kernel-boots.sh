# The kernel is up, with both processors and the memory it was given.
. /lab/lib.sh
uname -r
[ "$(nproc)" = 2 ] || fail "$(nproc) processors"
grep -q MemTotal /proc/meminfo || fail "no /proc/meminfo"
