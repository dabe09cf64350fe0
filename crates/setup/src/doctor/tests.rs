//! Each thing that can be wrong, on folders that imitate a machine.

use super::*;
use crate::imitation::{CARD, Tree, address, device};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

fn examine(tree: &Tree) -> Report {
    Doctor::new(tree.root.clone()).examine(Some(address(CARD)))
}

/// The check `name` of `tree`.
fn check(tree: &Tree, name: &str) -> Check {
    examine(tree).checks.into_iter().find(|check| check.name == name).unwrap()
}

/// Asserts what `name` says: its verdict, words of what was found, and words of the remedy.
#[track_caller]
fn expect(tree: &Tree, name: &str, verdict: Verdict, what: &str, remedy: &str) {
    let check = check(tree, name);
    assert_eq!(check.verdict, verdict, "{check}");
    assert!(check.what.contains(what), "{check}");
    assert!(check.remedy.clone().unwrap_or_default().contains(remedy), "{check}");
}

use Verdict::{Good, Missing, Unknown, Warning};

#[test]
fn a_healthy_machine() {
    let tree = Tree::healthy();
    let report = examine(&tree);
    let not_good: Vec<_> = report.checks.iter().filter(|check| check.verdict != Good).collect();
    assert!(not_good.is_empty() && report.is_ready(), "{report}");
    assert!(report.to_string().ends_with("Nothing is missing, 0 warnings, 0 unknown."), "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checks"][0]["verdict"], "good");
    assert_eq!(json["checks"][0]["card"], serde_json::Value::Null);
    // Without a name, the cards that are bound are looked at.
    assert_eq!(Doctor::new(tree.root.clone()).examine(None), report);
}

#[test]
fn an_empty_folder_is_a_machine_too() {
    let tree = Tree::new();
    let report = Doctor::new(tree.root.clone()).examine(None);
    assert!(!report.is_ready());
    assert!(report.checks.iter().all(|check| check.verdict != Good), "{report}");
}

#[test]
fn an_iommu_that_is_off() {
    let tree = Tree::healthy();
    for group in ["sys/kernel/iommu_groups", "sys/class/iommu/dmar0"] {
        tree.without(group);
    }
    tree.without(&format!("{}/iommu_group", device(CARD)));
    expect(&tree, "IOMMU", Missing, "kernel's command line have it on", "dmesg");
    expect(&tree, "interrupt remapping", Unknown, "off", "");
    expect(&tree, "group", Unknown, "when the IOMMU is on", "");
    expect(&tree, "interface", Missing, "IOMMU is off", "");

    tree.file("proc/cmdline", "quiet");
    expect(
        &tree,
        "IOMMU",
        Missing,
        "VT-d",
        "intel_iommu=on iommu=pt /' /etc/default/grub && sudo update-grub",
    );
    tree.file("etc/os-release", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n");
    expect(
        &tree,
        "IOMMU",
        Missing,
        "VT-d",
        "sudo grubby --update-kernel=ALL --args=\"intel_iommu=on iommu=pt\"",
    );
    tree.file("etc/os-release", "ID=gentoo\n");
    expect(&tree, "IOMMU", Missing, "VT-d", "add intel_iommu=on iommu=pt to the kernel's command line");

    tree.file("proc/cmdline", "quiet intel_iommu=off");
    expect(&tree, "IOMMU", Missing, "started with intel_iommu=off", "remove intel_iommu=off");

    tree.file("proc/cmdline", "quiet");
    tree.without("sys/firmware/acpi/tables/DMAR");
    expect(&tree, "IOMMU", Missing, "no ACPI table DMAR", "switch on VT-d in the BIOS");
    tree.file("proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n");
    tree.file("boot/config-6.1.0-18-amd64", "CONFIG_AMD_IOMMU=y\n");
    expect(&tree, "IOMMU", Missing, "no ACPI table IVRS", "switch on AMD-Vi");
    tree.file("proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor\n");
    expect(&tree, "IOMMU", Missing, "virtual machine", "QEMU");
    tree.file("boot/config-6.1.0-18-amd64", "# CONFIG_AMD_IOMMU is not set\n");
    expect(&tree, "IOMMU", Missing, "built without CONFIG_AMD_IOMMU", "start a kernel");
}

#[test]
fn groups_of_vfio_without_an_iommu_do_not_count() {
    let tree = Tree::healthy();
    tree.file("sys/kernel/iommu_groups/86/name", "vfio-noiommu\n");
    assert_eq!(check(&tree, "IOMMU").verdict, Missing);
    tree.file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    expect(&tree, "interface", Missing, "write to all of the machine's memory", "--iommu noiommu");
    expect(&tree, "permissions", Good, "/dev/vfio/86", "");
    // Its node has a name of its own, and is root's alone.
    tree.without("dev/vfio/86");
    expect(&tree, "permissions", Missing, "no /dev/vfio/noiommu-86", "udevadm");
    tree.file("dev/vfio/noiommu-86", "");
    expect(&tree, "permissions", Missing, "only root", "sudo jitney broker");
    for free in ["free_hugepages", "nr_hugepages"] {
        tree.file(&format!("sys/kernel/mm/hugepages/hugepages-2048kB/{free}"), "0\n");
    }
    expect(&tree, "huge pages", Missing, "every buffer", "nr_hugepages");
}

#[test]
fn interrupts_that_are_not_remapped() {
    let tree = Tree::healthy();
    tree.file(
        "proc/interrupts",
        "  9:  0  IO-APIC  9-fasteoi acpi\n 24: 1 PCI-MSI-0000:00:1f.2 0-edge ahci\n",
    );
    expect(&tree, "interrupt remapping", Missing, "EPERM", "allow_unsafe_interrupts");
    tree.file("proc/cmdline", "intremap=off");
    expect(&tree, "interrupt remapping", Missing, "intremap=off", "update-grub");
    tree.file("proc/cmdline", "");
    tree.file("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
    expect(&tree, "interrupt remapping", Warning, "forge", "");
    tree.file("proc/interrupts", "");
    expect(&tree, "interrupt remapping", Unknown, "no controller", "");
    tree.without("proc/interrupts");
    expect(&tree, "interrupt remapping", Unknown, "there is no /proc/interrupts", "");
}

#[test]
fn kernels_and_their_configuration() {
    let tree = Tree::healthy();
    expect(&tree, "kernel configuration", Good, "groups (type1); no iommufd", "");
    tree.file("boot/config-6.1.0-18-amd64", "# CONFIG_VFIO_PCI is not set\n");
    expect(&tree, "kernel configuration", Missing, "CONFIG_VFIO_PCI is not set", "Debian");
    // A name that another one begins with is not that one.
    tree.file("boot/config-6.1.0-18-amd64", "CONFIG_VFIO_PCI_CORE=m\n");
    expect(&tree, "kernel configuration", Missing, "CONFIG_VFIO_PCI is not set", "");
    tree.file("boot/config-6.1.0-18-amd64", "CONFIG_VFIO_PCI=m\n");
    expect(&tree, "kernel configuration", Missing, "neither", "");
    tree.without("boot/config-6.1.0-18-amd64");
    expect(
        &tree,
        "kernel configuration",
        Unknown,
        "neither /boot/config-6.1.0-18-amd64 nor /proc/config.gz",
        "",
    );

    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    let text =
        "CONFIG_VFIO_PCI=y\nCONFIG_IOMMUFD=y\nCONFIG_VFIO_DEVICE_CDEV=y\n# CONFIG_VFIO_GROUP is not set\n";
    packed.write_all(text.as_bytes()).unwrap();
    std::fs::write(tree.root.path("proc/config.gz"), packed.finish().unwrap()).unwrap();
    expect(&tree, "kernel configuration", Good, "iommufd; no groups", "");
    tree.file("proc/config.gz", "not compressed");
    expect(&tree, "kernel configuration", Unknown, "/proc/config.gz", "");
}

#[test]
fn modules_that_are_not_loaded() {
    let tree = Tree::healthy();
    expect(&tree, "modules", Good, "vfio-pci is loaded", "");
    tree.file("proc/modules", "");
    expect(&tree, "modules", Good, "vfio-pci is built in", "");
    tree.without("sys/module/vfio_iommu_type1");
    expect(&tree, "modules", Missing, "vfio_iommu_type1 is not loaded", "sudo modprobe vfio_iommu_type1");
    tree.file("dev/iommu", "");
    expect(&tree, "modules", Good, "iommufd instead", "");
    tree.without("sys/bus/pci/drivers/vfio-pci");
    expect(&tree, "modules", Missing, "not loaded", "sudo modprobe vfio-pci");
    tree.file("boot/config-6.1.0-18-amd64", "# CONFIG_VFIO is not set\n");
    expect(&tree, "modules", Missing, "no vfio-pci to load", "start a kernel");
}

#[test]
fn memory_that_may_not_be_locked() {
    let tree = Tree::healthy();
    tree.caller(1000, 8 << 20);
    expect(
        &tree,
        "memlock",
        Missing,
        "limit 8 MiB, two buffers of 1 GiB need 2 GiB",
        "alice - memlock unlimited",
    );
    expect(&tree, "memlock", Missing, "for clients of a broker: not needed", "LimitMEMLOCK=infinity");
    tree.caller(0, 64 << 10);
    expect(&tree, "memlock", Good, "root", "");
    tree.without("proc/thread-self/status");
    expect(&tree, "memlock", Unknown, "/proc/thread-self", "");
}

#[test]
fn huge_pages_that_are_not_reserved() {
    let tree = Tree::healthy();
    expect(&tree, "huge pages", Good, "500 of 512 pages of 2 MiB free", "");
    tree.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "0\n");
    expect(&tree, "huge pages", Warning, "0 of 512", "vm.nr_hugepages");
    tree.without("sys/kernel/mm/hugepages");
    expect(&tree, "huge pages", Warning, "none", "");
}

#[test]
fn a_card_with_another_driver_or_none() {
    let tree = Tree::healthy();
    tree.without(&format!("{}/driver", device(CARD)));
    expect(&tree, "driver", Missing, "bound to none", "sudo jitney bind 0000:2e:00.0 --owner alice");
    expect(&tree, "permissions", Unknown, "when it is bound", "");
    expect(&tree, "interface", Unknown, "when a card is bound", "");
    tree.driver(CARD, "xdma");
    expect(&tree, "driver", Missing, "bound to xdma", "jitney bind");
    let report = Doctor::new(tree.root.clone()).examine(None);
    assert!(report.to_string().contains("none is bound to vfio-pci"), "{report}");
    let report = Doctor::new(tree.root.clone()).examine(Some(address("0000:77:00.0")));
    assert!(report.to_string().contains("there is no PCI function 0000:77:00.0"), "{report}");
}

#[test]
fn a_group_that_is_shared() {
    let tree = Tree::healthy();
    tree.function("0000:2e:00.1", 0x0c_0330, Some("xhci_hcd"), Some(86));
    expect(&tree, "group", Missing, "0000:2e:00.1 (USB or another bus, driver xhci_hcd)", "--with-group");
    tree.without(&format!("{}/iommu_group", device(CARD)));
    expect(&tree, "group", Missing, "in no IOMMU group", "slot");
}

#[test]
fn nodes_that_the_user_may_not_open() {
    let tree = Tree::healthy();
    // Nobody owns the nodes whom the imitated user could be.
    tree.caller(54_321, 8 << 30);
    tree.mode("dev/vfio/86", 0o600);
    expect(
        &tree,
        "permissions",
        Missing,
        "/dev/vfio/86 (owner ",
        "sudo jitney bind 0000:2e:00.0 --owner 54321",
    );
    expect(&tree, "permissions", Missing, "mode 0600", "udev rule");
    tree.mode("dev/vfio/86", 0o666);
    tree.mode("dev/vfio/vfio", 0o660);
    expect(&tree, "permissions", Missing, "/dev/vfio/vfio (owner", "sudo chmod 666 /dev/vfio/vfio");
    tree.without("dev/vfio/vfio");
    expect(&tree, "permissions", Missing, "/dev/vfio/vfio (not there)", "modprobe");
    tree.without("dev/vfio/86");
    expect(&tree, "permissions", Missing, "there is no /dev/vfio/86", "udev");
}

#[test]
fn which_interface_and_why() {
    let tree = Tree::healthy();
    tree.caller(54_321, 8 << 30);
    expect(&tree, "interface", Good, "group and container (type1), as there is no /dev/iommu", "");
    tree.file("dev/iommu", "");
    tree.mode("dev/iommu", 0o600);
    expect(&tree, "interface", Good, "as this user cannot open /dev/iommu", "");
    tree.mode("dev/iommu", 0o666);
    expect(&tree, "interface", Good, "as card 0000:2e:00.0 has no node of its own", "");
    tree.file(&format!("{}/vfio-dev/vfio0/dev", device(CARD)), "511:0");
    tree.file("dev/vfio/devices/vfio0", "");
    tree.mode("dev/vfio/devices/vfio0", 0o600);
    expect(&tree, "interface", Good, "as this user cannot open /dev/vfio/devices/vfio0", "");
    tree.mode("dev/vfio/devices/vfio0", 0o666);
    expect(&tree, "interface", Good, "iommufd", "");
    tree.mode("dev/vfio/86", 0o600);
    expect(&tree, "permissions", Good, "/dev/iommu and /dev/vfio/devices/vfio0", "");
    tree.mode("dev/iommu", 0o600);
    tree.without("dev/vfio/vfio");
    expect(&tree, "interface", Missing, "there is no /dev/vfio/vfio", "modprobe");
    expect(&tree, "permissions", Missing, "/dev/iommu (owner", "sudo chown 54321 /dev/iommu");
}

#[test]
fn a_link_that_is_slow_or_down() {
    let tree = Tree::healthy();
    let file = |name: &str| format!("{}/{name}", device(CARD));
    tree.file(&file("current_link_speed"), "2.5 GT/s PCIe\n");
    expect(&tree, "link", Warning, "2.5 GT/s x4, the card can 8.0 GT/s x4", "slot");
    tree.file(&file("current_link_speed"), "16.0 GT/s PCIe\n");
    expect(&tree, "link", Good, "16.0 GT/s x4", "");
    tree.file(&file("current_link_width"), "1\n");
    expect(&tree, "link", Warning, "x1", "");
    tree.file(&file("current_link_width"), "0\n");
    expect(&tree, "link", Missing, "down", "rescan");
    tree.without(&file("current_link_width"));
    expect(&tree, "link", Unknown, "does not tell", "");
}

#[test]
fn a_card_that_is_held() {
    let tree = Tree::healthy();
    tree.process(4211, "/usr/bin/dpdk-testpmd", 1000, &["/dev/vfio/86"]);
    expect(&tree, "held by", Warning, "pid 4211 (/usr/bin/dpdk-testpmd", "broker");
    tree.without("proc/4211");
    tree.process(77, "/usr/bin/client", 1000, &["anon_inode:[vfio-device]"]);
    expect(&tree, "held by", Unknown, "maybe pid 77", "");
}

/// The port of the tests below: payloads of 256 bytes at most.
const PORT: &str = "0000:00:01.0";

#[test]
fn payloads_that_do_not_match_or_are_small() {
    let tree = Tree::healthy();
    expect(&tree, "payload", Good, "256 bytes, the card can 512; there is no port", "");
    tree.behind(PORT, CARD);
    expect(
        &tree,
        "payload",
        Unknown,
        "could not be seen, reading /sys/bus/pci/devices/0000:00:01.0/config",
        "",
    );
    tree.express(PORT, 0x1, 0x0020);
    expect(&tree, "payload", Good, "256 bytes, all that card and port 0000:00:01.0 can", "");
    // The card came back with 128 bytes, and its port kept 256.
    tree.express(CARD, 0x22, 0x2900);
    expect(&tree, "payload", Missing, "128 bytes, its port 0000:00:01.0 has 256", "0000:2e:00.0/remove");
    tree.express(PORT, 0x1, 0x0000);
    expect(&tree, "payload", Warning, "128 bytes, card and port 0000:00:01.0 can 256", "pci=pcie_bus_safe");
    tree.express(PORT, 0x0, 0x0000);
    expect(&tree, "payload", Good, "128 bytes, all", "");
}

#[test]
fn read_requests_and_tags() {
    let tree = Tree::healthy();
    expect(&tree, "read requests", Good, "512 bytes", "");
    expect(&tree, "tags", Good, "256 reads", "");
    tree.express(CARD, 0x22, 0x0000);
    expect(&tree, "read requests", Warning, "128 bytes", "setpci -s 0000:2e:00.0 CAP_EXP+8.w=2000:7000");
    expect(&tree, "tags", Warning, "the card can 8 bits", "rescan");
    tree.express(CARD, 0x02, 0x5000);
    expect(&tree, "read requests", Good, "4096 bytes", "");
    expect(&tree, "tags", Good, "the card's design can no more", "");
}

#[test]
fn settings_that_cannot_be_seen() {
    let tree = Tree::healthy();
    let settings = |what| expect(&tree, "PCIe settings", Unknown, what, "");
    tree.config(CARD, &[0; 64]);
    settings("shows its first 64 bytes; the settings are behind them, which root sees: sudo jitney doctor");
    tree.config(CARD, &[0; 256]);
    settings("no PCI Express function");
    tree.config(CARD, &[0xff; 256]);
    settings("link is down");
    tree.without(&format!("{}/config", device(CARD)));
    settings("could not be seen");
    assert!(examine(&tree).checks.iter().all(|check| check.name != "payload"));
}

#[test]
fn numa_nodes_of_cards() {
    let tree = Tree::healthy();
    let file = format!("{}/numa_node", device(CARD));
    tree.file(&file, "-1\n");
    expect(&tree, "NUMA node", Good, "the machine has one", "");
    tree.folder("sys/devices/system/node/node1");
    expect(&tree, "NUMA node", Warning, "unknown, of 0, 1", "BIOS");
    tree.file(&file, "1\n");
    expect(&tree, "NUMA node", Good, "1 of 0, 1", "");
}

#[test]
fn large_pages_without_a_reservation() {
    let tree = Tree::healthy();
    expect(&tree, "large pages", Good, "without a reservation; 428 MiB are free", "");
    tree.file("proc/buddyinfo", "Node 0, zone Normal 3188 2034 922 423 170 53 22 11 4 0 0\n");
    expect(&tree, "large pages", Warning, "no free memory is in one piece", "compact_memory");
    tree.without("proc/buddyinfo");
    expect(&tree, "large pages", Good, "as they are mapped", "");
    let choice = "sys/kernel/mm/transparent_hugepage/shmem_enabled";
    tree.file(choice, "always within_size advise never [deny] force\n");
    expect(&tree, "large pages", Warning, "says deny", "echo never");
    tree.without(choice);
    expect(&tree, "large pages", Warning, "CONFIG_TRANSPARENT_HUGEPAGE", "--buffer huge");
    tree.file("proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
    expect(&tree, "large pages", Warning, "Linux 5.15.0-91-generic, before 6.1", "reserve");
    tree.file("proc/sys/kernel/osrelease", "huh\n");
    expect(&tree, "large pages", Unknown, "no version", "");
}
