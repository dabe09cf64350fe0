//! What sysfs says of VFIO: which functions are bound to it, their device nodes, and who shares their groups.

use super::{Directory, PciFunction, Sysfs, unreadable};
use crate::error::Result;
use crate::identity::Identity;
use jitney_pci::Address;
use std::io;
use std::path::{Path, PathBuf};

/// Drivers other than VFIO's that may have a device of a group in use: they start no DMA (`driver_managed_dma` in the
/// kernel).
const HARMLESS: [&str; 2] = ["pcieport", "pci-stub"];

impl PciFunction {
    /// Whether it is bound to a driver of VFIO: `vfio-pci`, or a vendor's variant of it such as `mlx5_vfio_pci`.
    #[must_use]
    pub fn bound_to_vfio(&self) -> bool {
        self.driver.as_deref().is_some_and(is_of_vfio)
    }

    /// What it is to who opens it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            address: self.address.to_string(),
            vendor: self.vendor,
            device: self.device,
            subsystem_vendor: self.subsystem_vendor,
            subsystem_device: self.subsystem_device,
            revision: self.revision,
            class: self.class,
        }
    }
}

impl Sysfs {
    /// The functions that are bound to a driver of VFIO, in the order of their addresses: the cards that can be opened.
    ///
    /// # Errors
    /// As [`functions`](Self::functions).
    pub fn bound_to_vfio(&self) -> Result<Vec<PciFunction>> {
        self.functions_if(|function| Ok(function.link_name("driver")?.as_deref().is_some_and(is_of_vfio)))
    }

    /// The functions of an IOMMU group, in the order of their addresses. Devices that are not on PCI are left out.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such group; as [`functions`](Self::functions).
    pub fn group(&self, number: u32) -> Result<Vec<PciFunction>> {
        let directory = self.root.join(format!("kernel/iommu_groups/{number}/devices"));
        let mut functions = Vec::new();
        for name in names(&directory)? {
            if let Ok(address) = name.parse::<Address>() {
                functions.push(self.function(address)?);
            }
        }
        functions.sort_by_key(|function| function.address);
        Ok(functions)
    }

    /// Whether an IOMMU group is none of an IOMMU's: VFIO has made it for a function without one (NOIOMMU).
    ///
    /// # Errors
    /// A file that cannot be read; that it is not there is no error.
    pub fn is_unsafe(&self, group: u32) -> Result<bool> {
        let folder = self.root.join(format!("kernel/iommu_groups/{group}"));
        let Some(folder) = Directory::open(&folder)? else { return Ok(false) };
        Ok(folder.text_if_any("name")?.as_deref() == Some("vfio-noiommu"))
    }

    /// The functions of an IOMMU group that keep it from being used: those that another driver than VFIO's has.
    ///
    /// # Errors
    /// As [`group`](Self::group).
    pub fn blockers(&self, number: u32) -> Result<Vec<PciFunction>> {
        let mut functions = self.group(number)?;
        functions.retain(|function| match function.driver.as_deref() {
            None => false,
            Some(driver) => !function.bound_to_vfio() && !HARMLESS.contains(&driver),
        });
        Ok(functions)
    }

    /// The node of the function's own that iommufd works with, such as `/dev/vfio/devices/vfio0`; none if it is not bound
    /// to VFIO or the kernel makes no such nodes.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn cdev(&self, address: Address) -> Result<Option<PathBuf>> {
        let directory = self.root.join(format!("bus/pci/devices/{address}/vfio-dev"));
        let names = match names(&directory) {
            Err(error) if error.kind() == crate::ErrorKind::NotFound => return Ok(None),
            names => names?,
        };
        let Some(name) = names.into_iter().find(|name| name.starts_with("vfio")) else { return Ok(None) };
        // The device has a number only if a node of it was made: CONFIG_VFIO_DEVICE_CDEV.
        let numbered = directory.join(&name).join("dev").exists();
        Ok(numbered.then(|| Path::new("/dev/vfio/devices").join(name)))
    }
}

/// Whether a driver of that name is one of VFIO's.
fn is_of_vfio(driver: &str) -> bool {
    driver.replace('_', "-").ends_with("vfio-pci")
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = |error: io::Error| unreadable(directory, &error);
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use crate::error::ErrorKind;
    use crate::sysfs::fake::Machine;
    use std::fs;

    #[test]
    fn cards_of_vfio_are_found() {
        let machine = Machine::new();
        machine.add("0000:01:00.0", Some("vfio-pci"), Some(3));
        machine.add("0000:02:00.0", Some("mlx5_vfio_pci"), Some(4));
        machine.add("0000:03:00.0", Some("nvme"), Some(5));
        machine.add("0000:04:00.0", None, None);
        let found = machine.sysfs().bound_to_vfio().unwrap();
        let found: Vec<_> = found.iter().map(|function| function.address.to_string()).collect();
        assert_eq!(found, ["0000:01:00.0", "0000:02:00.0"]);
    }

    #[test]
    fn who_blocks_a_group_is_found() {
        let machine = Machine::new();
        for (address, driver) in [
            ("0000:01:00.0", Some("vfio-pci")),
            ("0000:01:00.1", Some("xhci_hcd")),
            ("0000:01:00.2", None),
            ("0000:00:01.0", Some("pcieport")),
            ("0000:01:00.3", Some("pci-stub")),
        ] {
            machine.add(address, driver, Some(3));
        }
        machine.add("0000:05:00.0", Some("nvme"), Some(4));
        let sysfs = machine.sysfs();
        assert_eq!(sysfs.group(3).unwrap().len(), 5);
        let blockers = sysfs.blockers(3).unwrap();
        assert_eq!(blockers.len(), 1);
        assert_eq!(blockers[0].address.to_string(), "0000:01:00.1");
        assert_eq!(sysfs.group(77).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_cdev_is_found_where_the_kernel_makes_one() {
        let machine = Machine::new();
        let with = machine.add("0000:01:00.0", Some("vfio-pci"), Some(3));
        let without = machine.add("0000:02:00.0", Some("vfio-pci"), Some(4));
        machine.add("0000:03:00.0", None, Some(5));
        fs::create_dir_all(with.join("vfio-dev/vfio7")).unwrap();
        fs::write(with.join("vfio-dev/vfio7/dev"), "511:7\n").unwrap();
        fs::create_dir_all(without.join("vfio-dev/vfio8")).unwrap();
        let cdev = |address: &str| machine.sysfs().cdev(address.parse().unwrap()).unwrap();
        assert_eq!(cdev("0000:01:00.0"), Some("/dev/vfio/devices/vfio7".into()));
        assert_eq!(cdev("0000:02:00.0"), None);
        assert_eq!(cdev("0000:03:00.0"), None);
    }
}
