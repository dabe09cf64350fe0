//! A machine's sysfs in a folder, for tests.

use super::Sysfs;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub(crate) struct Machine(tempfile::TempDir);

impl Machine {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn sysfs(&self) -> Sysfs {
        Sysfs::new(self.0.path())
    }

    /// Adds a function and returns its folder.
    pub(crate) fn add(&self, address: &str, driver: Option<&str>, group: Option<u32>) -> PathBuf {
        let path = self.0.path().join("bus/pci/devices").join(address);
        fs::create_dir_all(&path).unwrap();
        for file in ["vendor", "device", "subsystem_vendor", "subsystem_device", "revision", "class"] {
            fs::write(path.join(file), "0x01\n").unwrap();
        }
        fs::write(path.join("resource"), "").unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../../../bus/pci/drivers/{driver}"), path.join("driver")).unwrap();
        }
        if let Some(group) = group {
            let members = self.0.path().join(format!("kernel/iommu_groups/{group}/devices"));
            fs::create_dir_all(&members).unwrap();
            symlink(&path, members.join(address)).unwrap();
            symlink(format!("../../../kernel/iommu_groups/{group}"), path.join("iommu_group")).unwrap();
        }
        path
    }

    /// Gives the machine this many NUMA nodes.
    pub(crate) fn nodes(&self, count: u32) {
        for node in 0..count {
            fs::create_dir_all(self.0.path().join(format!("devices/system/node/node{node}"))).unwrap();
        }
    }

    /// Makes a group one of functions without an IOMMU.
    pub(crate) fn without_iommu(&self, group: u32) {
        let name = self.0.path().join(format!("kernel/iommu_groups/{group}/name"));
        fs::write(name, "vfio-noiommu\n").unwrap();
    }
}
