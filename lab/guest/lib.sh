# For tests that are shell scripts: `. /lab/lib.sh`. Each function says what it met and ends the test when it is not what it should be.

fail() {
    echo "$*"
    exit 1
}

# The test does not apply here; the lab reports the reason.
skip() {
    echo "$*"
    exit 77
}

# card VENDOR DEVICE: prints the address of the first such PCI function.
card() {
    for folder in /sys/bus/pci/devices/*; do
        if [ "$(cat "$folder/vendor") $(cat "$folder/device")" = "0x$1 0x$2" ]; then
            basename "$folder"
            return
        fi
    done
    fail "no PCI function $1:$2; there are: $(cat /sys/bus/pci/devices/*/uevent | grep PCI_ID)"
}

# driver ADDRESS: prints the name of the driver that has the function, or nothing.
driver() {
    [ ! -e "/sys/bus/pci/devices/$1/driver" ] || basename "$(readlink "/sys/bus/pci/devices/$1/driver")"
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
