# A child that is another program has a container and a group, but no card, if they were just left open (F2). Started by us, it
# has nothing but one socket.
. /lab/lib.sh
hand_over $boards
card=$(card ${boards% *})
! has_iommu || naive "$card" inherit || fail "the naive way did not fail"
for interface in $(interfaces); do
    has=$(jitney run --iommu "$interface" --card "$card" "ls -l /proc/self/fd") || fail "status $?: $has"
    has=$(echo "$has" | grep '^ls .* -> ')
    echo "$interface: $has"
    # Beside standard input, output and error. The folder that ls reads is gone when it looks at its descriptor.
    [ "$(echo "$has" | wc -l)" = 4 ] || fail "not four descriptors"
    [ "$(echo "$has" | grep -c 'socket:')" = 1 ] || fail "not one socket"
    case $has in
    *vfio* | *iommu*) fail "something of VFIO was inherited" ;;
    esac
done
take_back $boards
