//! Groups and their container: the interface that every kernel with VFIO has.
//!
//! The order is the kernel's: a group joins the container, the first one's arrival allows the container to get its IOMMU,
//! and only then can the group's devices be opened. Documentation: <https://docs.kernel.org/driver-api/vfio.html>.

use super::device::{OpenGroups, Origin, VfioDevice};
use super::explain::no_remapping;
use super::ioctl::{Container, Group};
use crate::error::{Error, ErrorKind, Result};
use crate::holders;
use crate::kernel::KernelRecord;
use crate::record::KeptSpace;
use crate::sysfs::{PciFunction, Sysfs};
use jitney_pci::Address;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU, VFIO_TYPE1v2_IOMMU,
};

const CONTAINER: &str = "/dev/vfio/vfio";

/// What stands between the groups of a container and the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An IOMMU.
    Type1,
    /// Nothing.
    NoIommu,
}

impl Kind {
    /// The kernel's number for it.
    const fn extension(self) -> u32 {
        match self {
            Self::Type1 => VFIO_TYPE1v2_IOMMU,
            Self::NoIommu => VFIO_NOIOMMU_IOMMU,
        }
    }

    /// The file by which a group is opened.
    fn node(self, group: u32) -> PathBuf {
        match self {
            Self::Type1 => format!("/dev/vfio/{group}"),
            Self::NoIommu => format!("/dev/vfio/noiommu-{group}"),
        }
        .into()
    }

    /// That the container does not know it.
    fn missing(self) -> Error {
        let (what, remedy) = match self {
            Self::Type1 => ("has no type1 IOMMU", "load the module: sudo modprobe vfio_iommu_type1"),
            Self::NoIommu => (
                "hands out no cards without an IOMMU",
                "echo 1 | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode (the file is there if the \
                 kernel was built with CONFIG_VFIO_NOIOMMU)",
            ),
        };
        Error::new(ErrorKind::Unsupported, format!("{CONTAINER} {what}")).with_remedy(remedy)
    }
}

/// A container and the groups in it.
#[derive(Debug)]
pub(super) struct Groups {
    name: String,
    container: Container,
    groups: Vec<(u32, Group)>,
}

impl OpenGroups for Groups {
    fn group(&self, number: u32) -> Option<BorrowedFd<'_>> {
        self.numbered(number).map(AsFd::as_fd)
    }
}

impl Groups {
    /// Opens the groups of `functions`, all in one container.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if somebody else has a group, with who; [`ErrorKind::Invalid`] if a group is not viable or
    /// cannot share the others' address space; what the kernel says. Nothing stays open.
    pub(super) fn open(functions: &[PciFunction], sysfs: &Sysfs, kind: Kind) -> Result<Self> {
        let mut numbers = functions.iter().map(number).collect::<Result<Vec<_>>>()?;
        numbers.sort_unstable();
        numbers.dedup();
        let container = open_container(kind)?;
        let mut groups: Vec<(u32, Group)> = Vec::new();
        for number in numbers {
            let group = open_group(kind, number, functions, sysfs)?;
            join(&container, kind, &groups, number, &group)?;
            groups.push((number, group));
        }
        let name = format!("the container of {}", list(groups.iter().map(|(number, _)| *number)));
        Ok(Self { name, container, groups })
    }

    /// The groups that another process has opened and put into `container`, which has its IOMMU.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if one is something else.
    pub(super) fn resumed(kind: Kind, container: OwnedFd, groups: Vec<(u32, OwnedFd)>) -> Result<Self> {
        let name = format!("the container of {}", list(groups.iter().map(|(number, _)| *number)));
        let other = |what: &str, errno| {
            let what = format!("{name}: what was kept of {what} is something else");
            Error::new(ErrorKind::Protocol, what).with_errno(errno)
        };
        let container = Container::kept(container);
        container.has_extension(kind.extension()).map_err(|errno| other("it", errno))?;
        let groups: Vec<_> = groups.into_iter().map(|(number, group)| (number, Group::kept(group))).collect();
        for (number, group) in &groups {
            group.status().map_err(|errno| other(&format!("group {number}"), errno))?;
        }
        Ok(Self { name, container, groups })
    }

    /// The numbers of the groups, in their order.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.groups.iter().map(|(number, _)| *number).collect()
    }

    /// What has to be kept for another process.
    pub(super) fn kept(&self, kernel: KernelRecord) -> KeptSpace<'_> {
        let groups = self.groups.iter().map(|(_, group)| group.as_fd()).collect();
        KeptSpace { kernel, space: self.container.as_fd(), groups }
    }

    /// Opens the devices, all of which are in these groups.
    pub(super) fn devices(self: &Arc<Self>, functions: &[PciFunction]) -> Result<Vec<VfioDevice>> {
        let all: Vec<_> = functions.iter().map(|function| function.address).collect();
        functions.iter().map(|function| self.device(function, &all)).collect()
    }

    fn device(self: &Arc<Self>, function: &PciFunction, all: &[Address]) -> Result<VfioDevice> {
        let address = function.address.to_string();
        let number = number(function)?;
        let group = self.numbered(number).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("card {address}: group {number} is not open"))
        })?;
        // An address has no zero byte in it.
        let name = CString::new(address.as_str()).unwrap_or_default();
        let file = group.device(&name).map_err(|errno| {
            let error = Error::from_errno(errno, format!("opening card {address} of group {number}"));
            match errno {
                Errno::NODEV => {
                    error.with_remedy(format!("bind it to vfio-pci first: jitney bind {address}"))
                }
                _ => error,
            }
        })?;
        VfioDevice::new(address, file, Origin::Group(Arc::clone(self) as _), all.to_vec())
    }

    fn numbered(&self, number: u32) -> Option<&Group> {
        self.groups.iter().find(|(other, _)| *other == number).map(|(_, group)| group)
    }

    /// What it is called: `the container of groups 86, 87`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn container(&self) -> &Container {
        &self.container
    }
}

fn number(function: &PciFunction) -> Result<u32> {
    function.iommu_group.ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("card {} has no IOMMU group: the IOMMU is off", function.address),
        )
        .with_remedy(
            "switch it on in the BIOS (VT-d, AMD-Vi) and on the kernel's command line: intel_iommu=on or \
                 amd_iommu=on",
        )
    })
}

fn open_container(kind: Kind) -> Result<Container> {
    let container = Container::open(Path::new(CONTAINER)).map_err(|errno| {
        let error = Error::from_errno(errno, format!("opening {CONTAINER}"));
        match errno {
            Errno::NOENT | Errno::NODEV => error.with_remedy("load the module: sudo modprobe vfio-pci"),
            Errno::ACCESS | Errno::PERM => error.with_remedy(format!("sudo chmod 666 {CONTAINER}")),
            _ => error,
        }
    })?;
    let failed = |errno| Error::from_errno(errno, format!("asking {CONTAINER} what it can do"));
    let version = container.api_version().map_err(failed)?;
    if u32::try_from(version) != Ok(VFIO_API_VERSION) {
        let what =
            format!("{CONTAINER} speaks version {version} of VFIO's interface, not {VFIO_API_VERSION}");
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    if !container.has_extension(kind.extension()).map_err(failed)? {
        return Err(kind.missing());
    }
    Ok(container)
}

fn open_group(kind: Kind, number: u32, functions: &[PciFunction], sysfs: &Sysfs) -> Result<Group> {
    let path = kind.node(number);
    let mine = || functions.iter().find(|function| function.iommu_group == Some(number));
    let group = Group::open(&path).map_err(|errno| {
        let error = Error::from_errno(errno, format!("opening group {number} ({})", path.display()));
        match errno {
            Errno::BUSY => {
                let cdev = mine().and_then(|function| sysfs.cdev(function.address).ok().flatten());
                let files: Vec<PathBuf> = std::iter::once(path.clone()).chain(cdev).collect();
                let holder = holders::explain(&files);
                Error::new(ErrorKind::Held, format!("group {number} is held by {holder}"))
                    .with_errno(errno)
                    .with_remedy("end it, or start both programs under one broker")
            }
            Errno::NOENT => error.with_remedy("bind its card to vfio-pci first: jitney bind"),
            Errno::ACCESS | Errno::PERM if kind == Kind::NoIommu => error
                .with_remedy("run as root (CAP_SYS_RAWIO) the program that owns the cards; clients of a broker need nothing"),
            Errno::ACCESS | Errno::PERM => error.with_remedy(format!(
                "sudo chown $USER {}, or for good the udev rule of this crate's documentation",
                path.display()
            )),
            _ => error,
        }
    })?;
    let status = group
        .status()
        .map_err(|errno| Error::from_errno(errno, format!("asking for the state of group {number}")))?;
    if status & VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(not_viable(number, sysfs));
    }
    Ok(group)
}

/// Names who keeps the group from being used.
pub(super) fn not_viable(number: u32, sysfs: &Sysfs) -> Error {
    let blockers = sysfs.blockers(number).unwrap_or_default();
    let names: Vec<String> = blockers
        .iter()
        .map(|function| {
            format!("{} (driver {})", function.address, function.driver.as_deref().unwrap_or("?"))
        })
        .collect();
    let commands: Vec<String> =
        blockers.iter().map(|function| format!("jitney bind {}", function.address)).collect();
    let what = format!("group {number} cannot be used: its other devices are in the kernel's hands");
    match names.is_empty() {
        true => Error::new(ErrorKind::Invalid, what).with_remedy(format!(
            "see /sys/kernel/iommu_groups/{number}/devices; all have to be bound to vfio-pci"
        )),
        false => {
            Error::new(ErrorKind::Invalid, format!("{what}: {}", names.join(", "))).with_remedy(format!(
                "give them to vfio-pci as well ({}), or put the card into another slot",
                commands.join("; ")
            ))
        }
    }
}

/// Puts a group into the container, and gives the container its IOMMU when the first one has come.
fn join(
    container: &Container,
    kind: Kind,
    others: &[(u32, Group)],
    number: u32,
    group: &Group,
) -> Result<()> {
    group.set_container(container).map_err(|errno| {
        let what = format!("group {number} joining the container");
        match (others, errno) {
            ([], _) => Error::from_errno(errno, what),
            (others, _) => {
                let with = list(others.iter().map(|(number, _)| *number));
                let what = format!("{what} of {with}: the IOMMU does not let them share one address space");
                Error::new(ErrorKind::Unsupported, what)
                    .with_errno(errno)
                    .with_remedy("give each its own (isolate)")
            }
        }
    })?;
    if !others.is_empty() {
        return Ok(());
    }
    container.set_iommu(kind.extension()).map_err(|errno| {
        let error = Error::from_errno(errno, format!("setting {kind:?} for group {number}"));
        match errno {
            Errno::PERM if kind == Kind::Type1 => error.with_remedy(no_remapping("vfio_iommu_type1")),
            _ => error,
        }
    })
}

/// `group 3`, or `groups 3, 5`.
fn list(numbers: impl Iterator<Item = u32>) -> String {
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let word = if numbers.len() == 1 { "group" } else { "groups" };
    format!("{word} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_listed() {
        assert_eq!(list([3].into_iter()), "group 3");
        assert_eq!(list([3, 5].into_iter()), "groups 3, 5");
    }

    #[test]
    fn what_blocks_a_group_is_named_with_the_remedy() {
        let sysfs = crate::sysfs::fake::Machine::new();
        sysfs.add("0000:01:00.0", Some("vfio-pci"), Some(9));
        sysfs.add("0000:01:00.1", Some("snd_hda_intel"), Some(9));
        sysfs.add("0000:00:01.0", Some("pcieport"), Some(9));
        let error = not_viable(9, &sysfs.sysfs());
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains("group 9") && text.contains("0000:01:00.1 (driver snd_hda_intel)"), "{text}");
        assert!(text.contains("jitney bind 0000:01:00.1"), "{text}");
        assert!(!text.contains("0000:00:01.0") && !text.contains("0000:01:00.0"), "{text}");
    }
}
