# A process goes on with a card that another one has opened and that was killed, or that has become another program: memory
# that the first has mapped is still reached and can be unmapped, its interrupt still fires, nothing is opened anew.
. /lab/lib.sh
hand_over $edu
# Others need those that are reserved.
reserved=$(cat /proc/sys/vm/nr_hugepages)
[ "$reserved" -ge 8 ] || echo 8 >/proc/sys/vm/nr_hugepages
for interface in $(interfaces); do
    for how in killed exec; do
        successor "$(card $edu)" "$interface" $how || fail "$interface, $how: status $?"
    done
done
echo "$reserved" >/proc/sys/vm/nr_hugepages
take_back $edu
