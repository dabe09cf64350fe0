# For tests that are shell scripts: `. /lab/lib.sh`. Each function says what it met and ends the test when it is not what it should be.

# The cards of the lab's machine, each as VENDOR:DEVICE.
edu=1234:11e8
nvme=1b36:0010
boards="10ee:7011 10ee:7024"

fail() {
    echo "$*"
    # What runs in the background may have said why; what an earlier test left says nothing.
    for log in $(find /run -name '*.log' -mmin -1 2>/dev/null); do
        echo "end of $log:"
        tail -n 5 "$log"
    done
    exit 1
}

# The test does not apply here; the lab reports the reason.
skip() {
    echo "$*"
    exit 77
}

# rounds NUMBER: prints how often something is done: so often, or ten times in the long form.
rounds() {
    if [ -e /lab/long ]; then echo $((10 * $1)); else echo "$1"; fi
}

has_iommu() {
    [ -n "$(ls /sys/class/iommu 2>/dev/null)" ]
}

# card VENDOR:DEVICE: prints the address of the first such PCI function.
card() {
    for folder in /sys/bus/pci/devices/*; do
        if [ "$(cat "$folder/vendor"):$(cat "$folder/device")" = "0x${1%:*}:0x${1#*:}" ]; then
            basename "$folder"
            return
        fi
    done
    fail "no PCI function $1; there are: $(cat /sys/bus/pci/devices/*/uevent | grep PCI_ID)"
}

# driver ADDRESS: prints the name of the driver that has the function, or nothing.
driver() {
    [ ! -e "/sys/bus/pci/devices/$1/driver" ] || basename "$(readlink "/sys/bus/pci/devices/$1/driver")"
}

# group ADDRESS: prints the number of the function's IOMMU group.
group() {
    basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")"
}

# bind ADDRESS DRIVER: takes the function from the driver that has it and gives it to another.
bind() {
    echo "$2" >"/sys/bus/pci/devices/$1/driver_override"
    [ -z "$(driver "$1")" ] || echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
    echo "$1" >/sys/bus/pci/drivers_probe
    [ "$(driver "$1")" = "$2" ] || fail "the driver of $1 is '$(driver "$1")', not $2"
    # Whoever probes next may choose again; the driver that has the function keeps it.
    echo >"/sys/bus/pci/devices/$1/driver_override"
}

# release ADDRESS: takes the function from its driver.
release() {
    echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
}

# await SECONDS COMMAND...: waits until the command succeeds.
await() {
    tenths=$(($1 * 10))
    shift
    until "$@"; do
        [ "$tenths" -gt 0 ] || fail "waited in vain for: $*"
        tenths=$((tenths - 1))
        usleep 100000
    done
}

# unplug ADDRESS: has somebody pull out a card. Does not wait: it goes when nobody uses it any more.
unplug() {
    echo "@@jitney unplug $1"
}

# plug ADDRESS: has somebody plug in again what was pulled out there, and waits for it.
plug() {
    echo "@@jitney plug $1"
    await 20 [ -e "/sys/bus/pci/devices/$1" ]
}

# interfaces: prints the interfaces of VFIO that this machine has.
interfaces() {
    if ! has_iommu; then
        echo noiommu
        return
    fi
    echo group
    [ ! -c /dev/iommu ] || echo iommufd
}

# What lets VFIO have cards without an IOMMU.
unsafe=/sys/module/vfio/parameters/enable_unsafe_noiommu_mode

# node ADDRESS: prints the node of the function's group.
node() {
    if has_iommu; then
        echo "/dev/vfio/$(group "$1")"
    else
        echo "/dev/vfio/noiommu-$(group "$1")"
    fi
}

# hand_over VENDOR:DEVICE...: binds cards to vfio-pci and waits for their nodes.
hand_over() {
    has_iommu || echo 1 >$unsafe
    for id in "$@"; do
        address=$(card "$id") || fail "$address"
        bind "$address" vfio-pci
        await 2 [ -c "$(node "$address")" ]
    done
}

# take_back VENDOR:DEVICE...: releases cards and waits until their nodes are gone, so that nobody holds them any more.
take_back() {
    for id in "$@"; do
        node=$(node "$(card "$id")")
        release "$(card "$id")"
        await 5 [ ! -e "$node" ]
    done
}

# says TEXT COMMAND...: runs a command that has to succeed and to say TEXT.
says() {
    text=$1
    shift
    said=$("$@" 2>&1) || fail "status $? of: $*
$said"
    case $said in
    *"$text"*) ;;
    *) fail "no '$text' from: $*
$said" ;;
    esac
}

# refuses STATUS TEXT COMMAND...: runs a command that has to end with STATUS and to say TEXT.
refuses() {
    status=$1 text=$2
    shift 2
    said=$("$@" 2>&1)
    ended=$?
    [ "$ended" = "$status" ] || fail "status $ended instead of $status of: $*
$said"
    case $said in
    *"$text"*) ;;
    *) fail "no '$text' from: $*
$said" ;;
    esac
}

# behind NAME COMMAND...: starts a command in the background, whose output goes to /run/NAME.log; its process is $!. The log
# is emptied before: what an earlier command left there must not be taken for this one's.
behind() {
    log=/run/$1.log
    shift
    : >"$log"
    "$@" >>"$log" 2>&1 &
}

# lets_go PROCESS ADDRESS: waits for the program whose log is client.log to end by itself, since the card is wanted back.
lets_go() {
    wait "$1"
    ended=$?
    [ "$ended" = 1 ] || fail "the program ended with $ended"
    grep -q "card $2 .* is being unplugged or taken from vfio-pci" /run/client.log || fail "it does not say why"
}

# broker ARGUMENTS...: starts a broker at /run/broker.sock and waits until it serves; its process is $broker.
broker() {
    rm -f /run/broker.sock
    behind broker jitney broker --socket /run/broker.sock "$@"
    broker=$!
    # Its socket is there before anybody can connect to it.
    await 10 grep -q '^listening at' /run/broker.log
}

# end_broker: ends the broker as its user would.
end_broker() {
    kill "$broker"
    wait "$broker" || fail "the broker ended with $?: $(cat /run/broker.log)"
}

# pinned PROCESS: prints how much memory it has locked and pinned, in KiB: type1 counts as locked, iommufd as pinned. Without an
# IOMMU it is the huge pages that are in use.
pinned() {
    if ! has_iommu; then
        awk '/^HugePages_Total/ { total = $2 } /^HugePages_Free/ { free = $2 } END { print (total - free) * 2048 }' /proc/meminfo
        return
    fi
    awk '/^VmLck|^VmPin/ { sum += $2 } END { print sum }' "/proc/$1/status"
}

# diagnosis STATUS CHECK VERDICT TEXT COMMAND...: the command is the doctor, which has to end with STATUS, to say TEXT, and to give
# VERDICT for CHECK in its JSON. What it said is $said.
diagnosis() {
    status=$1 check=$2 verdict=$3 text=$4
    shift 4
    refuses "$status" "" "$@" --json
    echo "$said" | grep -q "\"name\":\"$check\",\"card\":[^,]*,\"verdict\":\"$verdict\"" ||
        fail "'$check' is not '$verdict' in: $said"
    refuses "$status" "$text" "$@"
}

# and_says TEXT: what the last command said has to have this in it, too.
and_says() {
    case $said in
    *"$1"*) ;;
    *) fail "no '$1' in: $said" ;;
    esac
}

# anna COMMAND...: runs it as a user without rights, who may lock no more than 64 KiB of memory.
anna() {
    mkdir -p /etc
    printf 'root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/tmp:/bin/sh\n' >/etc/passwd
    printf 'root:x:0:\nanna:x:1000:\n' >/etc/group
    export PATH
    su anna -s /bin/sh -c "ulimit -l 64 && exec $*"
}
