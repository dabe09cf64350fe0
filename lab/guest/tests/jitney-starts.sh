# Our own command, linked statically, runs on this kernel and this processor.
. /lab/lib.sh
jitney --version || fail "jitney does not start"
