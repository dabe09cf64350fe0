# QEMU's edu and NVMe are on the bus, and answer with more than all-ones.
. /lab/lib.sh
for id in $edu $nvme; do
    address=$(card $id) || fail "$address"
    class=$(cat "/sys/bus/pci/devices/$address/class")
    echo "$address $id class $class"
    [ "$class" != 0xffffff ] || fail "$address reads all-ones"
done
