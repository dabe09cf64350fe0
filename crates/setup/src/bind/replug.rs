//! A PCI function that leaves the bus while its FPGA is configured anew, and comes back.
//!
//! What is written is in the kernel's documentation of `remove` and `rescan` (ABI/testing/sysfs-bus-pci).

use super::{BindOptions, bind_through};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, ThisKernel, wait};
use crate::neighbours::sysfs;
use crate::nodes::{self, Nodes};
use crate::root::{Root, system};
use jitney_pci::Address;
use jitney_vfio::ErrorKind;
use jitney_vfio::sysfs::PciFunction;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// How long a function is waited for before the kernel is told to look again: its link may not be up yet.
const AGAIN: Duration = Duration::from_millis(500);
/// What tells the kernel to look for what is new on all its buses.
const RESCAN: &str = "sys/bus/pci/rescan";

/// How to take a function off its bus, and what has to be restored when it is back.
#[derive(Debug)]
pub struct Replug {
    root: Root,
    address: Address,
    /// How it was handed to `vfio-pci`, if it was.
    bound: Option<BindOptions>,
}

impl Replug {
    /// Looks at the function at `address`; nothing is changed.
    ///
    /// # Errors
    /// [`Error::SeveralFunctions`] if the card has others, which would be gone without a word. [`Error::System`] if there is no
    /// such function, or if this user may not remove it.
    pub fn prepare(root: &Root, address: Address) -> Result<Self> {
        Self::prepare_through(&ThisKernel, root, address)
    }

    fn prepare_through(kernel: &dyn Kernel, root: &Root, address: Address) -> Result<Self> {
        let function = sysfs(root).function(address)?;
        let others = sysfs(root).functions()?.into_iter().map(|other| other.address);
        let slot = |address: Address| address.to_string().split('.').next().map(str::to_owned);
        let others: Vec<Address> =
            others.filter(|other| *other != address && slot(*other) == slot(address)).collect();
        if !others.is_empty() {
            return Err(Error::SeveralFunctions { address, others });
        }
        let own = Self { root: root.clone(), address, bound: bound(root, &function)? };
        for file in [own.remove_file(), RESCAN.to_owned()] {
            kernel.may_write(&root.path(&file)).map_err(|error| own.failed(&file, &error))?;
        }
        Ok(own)
    }

    /// Has the kernel take the function away. That waits until nobody has it open any more, and cannot be called off.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn remove(&self) -> Result<()> {
        self.remove_through(&ThisKernel)
    }

    fn remove_through(&self, kernel: &dyn Kernel) -> Result<()> {
        self.write(kernel, &self.remove_file())
    }

    /// Has the kernel look for the function until it is back, and hands it to `vfio-pci` if that had it. Its ids may be others now.
    ///
    /// # Errors
    /// [`Error::NotBack`] if it is not there within `patience`; what [`bind`](super::bind) says.
    pub fn back(&self, patience: Duration) -> Result<()> {
        self.back_through(&ThisKernel, patience)
    }

    fn back_through(&self, kernel: &dyn Kernel, patience: Duration) -> Result<()> {
        let start = Instant::now();
        let is_there = || match sysfs(&self.root).function(self.address) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
        loop {
            self.write(kernel, RESCAN)?;
            if wait(AGAIN.min(patience), is_there)?.is_some() {
                break;
            }
            if start.elapsed() >= patience {
                return Err(Error::NotBack { address: self.address, seconds: patience.as_secs() });
            }
        }
        match &self.bound {
            // A rule of udev may have done so already.
            Some(options) => bind_through(kernel, &self.root, self.address, options).map(|_| ()),
            None => Ok(()),
        }
    }

    fn remove_file(&self) -> String {
        format!("sys/bus/pci/devices/{}/remove", self.address)
    }

    fn write(&self, kernel: &dyn Kernel, file: &str) -> Result<()> {
        kernel.write(&self.root.path(file), "1").map_err(|error| self.failed(file, &error))
    }

    fn failed(&self, file: &str, error: &std::io::Error) -> Error {
        let error = system(format_args!("writing to /{file} for {}", self.address), error);
        Error::System(match error.kind() {
            ErrorKind::Denied => error.with_remedy("only root may do this: put sudo in front of the command"),
            _ => error.with_remedy("sudo dmesg | tail may say more"),
        })
    }
}

/// How the function was handed to `vfio-pci`, if it was: a new one knows nothing of that.
fn bound(root: &Root, function: &PciFunction) -> Result<Option<BindOptions>> {
    if !function.bound_to_vfio() {
        return Ok(None);
    }
    let nodes = Nodes::of(root, function.address)?;
    let node = nodes.map(|nodes| nodes.group);
    let node = node.map(|node| root.metadata(nodes::inside(&node)));
    let node = node.transpose().map_err(|error| system("looking at a node of vfio-pci", &error))?.flatten();
    let owner = node.as_ref().map(Metadata::uid).filter(|uid| *uid != 0);
    let mode = node.as_ref().map(|node| node.mode() & 0o777).filter(|mode| *mode != 0o600);
    Ok(Some(BindOptions { owner: owner.map(|uid| uid.to_string()), mode, ..BindOptions::default() }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Imitated, pc};
    use super::*;
    use crate::imitation::{CARD, Tree, address, device};

    const QUICK: Duration = Duration::from_millis(30);

    /// A card that `vfio-pci` has, with a node that all may use.
    fn machine() -> Tree {
        let tree = pc(None);
        tree.without(&format!("sys/bus/pci/devices/{CARD}"));
        tree.without(&device(CARD));
        tree.function(CARD, 0x05_8000, Some("vfio-pci"), Some(86));
        tree.file("dev/vfio/86", "");
        tree.mode("dev/vfio/86", 0o660);
        tree.file(&format!("{}/remove", device(CARD)), "");
        tree.file(RESCAN, "");
        tree
    }

    fn prepare(kernel: &Imitated<'_>) -> Result<Replug> {
        Replug::prepare_through(kernel, &kernel.tree.root, address(CARD))
    }

    #[test]
    fn a_function_goes_and_comes_back_to_whom_it_was_handed() {
        let tree = machine();
        let kernel = Imitated::of(&tree);
        let replug = prepare(&kernel).unwrap();
        replug.remove_through(&kernel).unwrap();
        assert!(!tree.root.exists(format!("sys/bus/pci/devices/{CARD}")));
        kernel.absent_for.set(2);
        replug.back_through(&kernel, Duration::from_secs(10)).unwrap();
        assert_eq!(kernel.driver(CARD).as_deref(), Some("vfio-pci"));
        let mode = tree.root.metadata("dev/vfio/86").unwrap().unwrap().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[test]
    fn a_function_that_vfio_had_not_is_left_to_its_driver() {
        let tree = machine();
        let kernel = Imitated::of(&tree);
        tree.without(&format!("{}/driver", device(CARD)));
        let replug = prepare(&kernel).unwrap();
        replug.remove_through(&kernel).unwrap();
        replug.back_through(&kernel, QUICK).unwrap();
        assert_eq!(kernel.driver(CARD), None);
    }

    #[test]
    fn a_function_that_does_not_come_back() {
        let tree = machine();
        let kernel = Imitated::of(&tree);
        let replug = prepare(&kernel).unwrap();
        replug.remove_through(&kernel).unwrap();
        kernel.absent_for.set(u32::MAX);
        let error = replug.back_through(&kernel, QUICK).unwrap_err();
        assert!(matches!(error, Error::NotBack { .. }), "{error}");
        assert!(error.to_string().contains("reboot without a power cycle"), "{error}");
    }

    #[test]
    fn who_may_not_and_what_has_neighbours_is_refused_before_anything_happens() {
        let tree = machine();
        let kernel = Imitated::of(&tree).failing("remove", 0, 13);
        let error = prepare(&kernel).unwrap_err().to_string();
        assert!(error.contains("EACCES") && error.contains("sudo"), "{error}");
        tree.function("0000:2e:00.1", 0x05_8000, None, Some(86));
        let error = prepare(&Imitated::of(&tree)).unwrap_err().to_string();
        assert!(error.contains("0000:2e:00.1"), "{error}");
        assert!(tree.root.exists(format!("sys/bus/pci/devices/{CARD}")));
    }
}
