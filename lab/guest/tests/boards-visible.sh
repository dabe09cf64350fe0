# Both emulated boards are on the bus, each behind a root port, with a link.
. /lab/lib.sh
for id in $boards; do
    address=$(card $id) || fail "$address"
    device=/sys/bus/pci/devices/$address
    echo "$address $id class $(cat "$device/class") link $(cat "$device/current_link_speed") x$(cat "$device/current_link_width")"
    [ "$(cat "$device/class")" != 0xffffff ] || fail "$address reads all-ones"
    case $(cat "$device/../class") in
    0x0604*) ;;
    *) fail "$address is not behind a port" ;;
    esac
    [ "$(cat "$device/current_link_width")" -gt 0 ] || fail "$address has no link"
done
