//! Folders that imitate a machine, for tests.

use crate::root::Root;
use jitney_pci::Address;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

/// The card of the tests.
pub(crate) const CARD: &str = "0000:2e:00.0";

pub(crate) struct Tree {
    pub(crate) root: Root,
    _folder: TempDir,
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

impl Tree {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { root: Root::new(folder.path()), _folder: folder }
    }

    /// An Intel PC in which everything is ready for an ordinary user and [`CARD`], in group 86, with the two interfaces.
    pub(crate) fn healthy() -> Self {
        let tree = Self::new();
        tree.pc();
        tree.function(CARD, 0x05_8000, Some("vfio-pci"), Some(86));
        tree.file("dev/vfio/vfio", "");
        tree.mode("dev/vfio/vfio", 0o666);
        tree.file("dev/vfio/86", "");
        tree.mode("dev/vfio/86", 0o666);
        tree
    }

    /// A PC with an IOMMU and the drivers of VFIO.
    pub(crate) fn pc(&self) {
        self.file("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx\n");
        self.file("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on");
        self.file("proc/sys/kernel/osrelease", "6.1.0-18-amd64");
        self.file("proc/modules", "vfio_pci 16384 0 - Live 0x0\nvfio_iommu_type1 49152 0 - Live 0x0\n");
        self.file(
            "proc/interrupts",
            "            CPU0\n   9:  0  IR-IO-APIC    9-fasteoi   acpi\n 120:  3  IR-PCI-MSI-0000:00:1f.2 0-edge ahci\n",
        );
        self.file("proc/stat", "cpu  1 2 3\nbtime 1700000000\n");
        self.file(
            "boot/config-6.1.0-18-amd64",
            "CONFIG_VFIO=m\nCONFIG_VFIO_PCI=m\nCONFIG_VFIO_IOMMU_TYPE1=m\nCONFIG_INTEL_IOMMU=y\n\
             # CONFIG_IOMMUFD is not set\nCONFIG_IRQ_REMAP=y\n",
        );
        self.file("etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n");
        self.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n");
        self.file("etc/group", "root:x:0:\nvfio:x:115:\n");
        self.file("sys/firmware/acpi/tables/DMAR", "");
        self.folder("sys/class/iommu/dmar0");
        self.folder("sys/bus/pci/drivers/vfio-pci");
        self.folder("sys/module/vfio_pci");
        self.file("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n");
        self.file("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n");
        self.file("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n");
        self.file(
            "sys/kernel/mm/transparent_hugepage/shmem_enabled",
            "always within_size advise [never] deny force\n",
        );
        self.file(
            "proc/buddyinfo",
            "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      2 \n\
             Node 0, zone   Normal   3188   2034    922    423    170     53     22     11      4      9    100 \n",
        );
        self.folder("sys/devices/system/node/node0");
        self.caller(1000, 8 << 30);
    }

    /// The process that asks.
    pub(crate) fn caller(&self, uid: u32, memlock: u64) {
        let capabilities = if uid == 0 { "000001ffffffffff" } else { "0000000000000000" };
        self.file(
            "proc/thread-self/status",
            &format!(
                "Name:\tjitney\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\nGroups:\t27 100 \n\
                 CapEff:\t{capabilities}\n"
            ),
        );
        self.file(
            "proc/thread-self/limits",
            &format!("Max locked memory         {memlock}  {memlock}   bytes\n"),
        );
    }

    /// Adds a PCI function.
    pub(crate) fn function(&self, address: &str, class: u32, driver: Option<&str>, group: Option<u32>) {
        let folder = device(address);
        for (file, text) in [
            ("vendor", "0x10ee"),
            ("device", "0x7011"),
            ("subsystem_vendor", "0x10ee"),
            ("subsystem_device", "0x0007"),
            ("revision", "0x00"),
            ("resource", "0x0 0x0 0x0"),
            ("driver_override", "(null)"),
            ("current_link_speed", "8.0 GT/s PCIe"),
            ("current_link_width", "4"),
            ("max_link_speed", "8.0 GT/s PCIe"),
            ("max_link_width", "4"),
        ] {
            self.file(&format!("{folder}/{file}"), &format!("{text}\n"));
        }
        self.express(address, 0x22, 0x2920);
        self.file(&format!("{folder}/class"), &format!("{class:#08x}\n"));
        self.link(
            &format!("sys/bus/pci/devices/{address}"),
            &format!("../../../devices/pci0000:00/{address}"),
        );
        if let Some(driver) = driver {
            self.driver(address, driver);
        }
        if let Some(group) = group {
            self.link(&format!("{folder}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"));
            self.folder(&format!("sys/kernel/iommu_groups/{group}/devices/{address}"));
        }
    }

    /// Gives a function a configuration space with these Device Capabilities and this Device Control.
    pub(crate) fn express(&self, address: &str, capabilities: u32, control: u16) {
        let mut config = [0; 256];
        // Status says that there is a list of capabilities, which begins at 0x70 with PCI Express and ends there.
        config[0x06] = 0x10;
        config[0x34] = 0x70;
        config[0x70] = 0x10;
        config[0x74..0x78].copy_from_slice(&capabilities.to_le_bytes());
        config[0x78..0x7a].copy_from_slice(&control.to_le_bytes());
        self.config(address, &config);
    }

    /// Gives a function a configuration space of which this can be seen.
    pub(crate) fn config(&self, address: &str, bytes: &[u8]) {
        let folder = self.root.path(device(address));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config"), bytes).unwrap();
    }

    /// Puts a function behind a port.
    pub(crate) fn behind(&self, port: &str, address: &str) {
        let link = format!("sys/bus/pci/devices/{address}");
        self.without(&link);
        self.link(&link, &format!("../../../devices/pci0000:00/{port}/{address}"));
        self.link(&format!("{}/{address}", device(port)), &format!("../{address}"));
        let link = format!("sys/bus/pci/devices/{port}");
        if !self.root.path(&link).is_symlink() {
            self.link(&link, &format!("../../../devices/pci0000:00/{port}"));
        }
    }

    /// Binds a function to a driver, as its link says.
    pub(crate) fn driver(&self, address: &str, driver: &str) {
        self.folder(&format!("sys/bus/pci/drivers/{driver}"));
        self.link(&format!("{}/driver", device(address)), &format!("../../../bus/pci/drivers/{driver}"));
    }

    /// Adds a device of a class, as `block/sda`, that belongs to a PCI function.
    pub(crate) fn below(&self, address: &str, class: &str, name: &str, files: &[(&str, &str)]) {
        self.folder(&format!("{}/{class}/{name}", device(address)));
        for (file, text) in files {
            self.file(&format!("{}/{class}/{name}/{file}", device(address)), text);
        }
        let target = format!("../../devices/pci0000:00/{address}/{class}/{name}");
        self.link(&format!("sys/class/{class}/{name}"), &target);
    }

    /// Adds a process that has a file open.
    pub(crate) fn process(&self, pid: u32, program: &str, uid: u32, files: &[&str]) {
        self.file(&format!("proc/{pid}/status"), &format!("Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"));
        self.link(&format!("proc/{pid}/exe"), program);
        // The name of the program may hold anything, so that the fields are counted from its end.
        let zeros = "0 ".repeat(18);
        self.file(&format!("proc/{pid}/stat"), &format!("{pid} (a ) b) S {zeros}500 0 0\n"));
        self.folder(&format!("proc/{pid}/fd"));
        for (number, file) in files.iter().enumerate() {
            self.link(&format!("proc/{pid}/fd/{number}"), file);
        }
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn folder(&self, path: &str) {
        fs::create_dir_all(self.root.path(path)).unwrap();
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(Path::new(target), path).unwrap();
    }

    pub(crate) fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.root.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Removes a file, link or folder.
    pub(crate) fn without(&self, path: &str) {
        let path = self.root.path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

/// The folder of a PCI function.
pub(crate) fn device(address: &str) -> String {
    format!("sys/devices/pci0000:00/{address}")
}
