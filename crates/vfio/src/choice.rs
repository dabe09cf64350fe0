//! Which interface of the kernel's VFIO cards are opened by.

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::iommufd::IOMMU;
use crate::sysfs::{PciFunction, Sysfs};
use jitney_host::Node;
use jitney_pci::Address;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Which interface of the kernel's VFIO to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IommuInterface {
    /// [`Iommufd`](Self::Iommufd) where this user can use it for all of the cards, else [`Group`](Self::Group).
    #[default]
    Auto,
    /// Groups and a container with the type1 IOMMU: every kernel with VFIO.
    Group,
    /// The cards' own nodes and iommufd: Linux 6.6, where it is built in.
    Iommufd,
    /// No IOMMU at all, for machines without: **cards, and so the programs that use them, can overwrite all of the machine's
    /// memory.** Never chosen by [`Auto`](Self::Auto). Needs root and huge pages.
    NoIommu,
}

impl fmt::Display for IommuInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Group => "group",
            Self::Iommufd => "iommufd",
            Self::NoIommu => "noiommu",
        })
    }
}

impl FromStr for IommuInterface {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Auto, Self::Group, Self::Iommufd, Self::NoIommu]
            .into_iter()
            .find(|interface| interface.to_string() == text)
            .ok_or_else(|| {
                Error::new(ErrorKind::Invalid, format!("{text:?} is no interface of VFIO"))
                    .with_remedy("write auto, group, iommufd or noiommu")
            })
    }
}

/// Which interface of the kernel would be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Not [`IommuInterface::Auto`].
    pub interface: IommuInterface,
    /// In one clause.
    pub reason: String,
}

/// Which interface of the kernel [`open_all_with`](crate::open_all_with) would use for the PCI functions at `addresses`,
/// and why, where `node` says what each node is to the process that opens them: [`jitney_host::node`] for this one.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such function, [`ErrorKind::Unsupported`] if it has no IOMMU and
/// [`IommuInterface::NoIommu`] was not asked for, or the other way round.
pub fn choose_interface(
    wanted: IommuInterface,
    addresses: &[Address],
    sysfs: &Sysfs,
    node: impl Fn(&Path) -> Node,
) -> Result<Choice> {
    let functions = addresses.iter().map(|&address| sysfs.function(address)).collect::<Result<Vec<_>>>()?;
    choose(wanted, &functions.iter().collect::<Vec<_>>(), sysfs, node)
}

pub(crate) fn choose(
    wanted: IommuInterface,
    functions: &[&PciFunction],
    sysfs: &Sysfs,
    node: impl Fn(&Path) -> Node,
) -> Result<Choice> {
    for function in functions {
        check_iommu(wanted, function, sysfs)?;
    }
    let choice = |interface, reason: String| Ok(Choice { interface, reason });
    if wanted != IommuInterface::Auto {
        return choice(wanted, "it was asked for".to_owned());
    }
    let obstacle = |path: &Path| match node(path) {
        Node::Usable => None,
        Node::Missing => Some(format!("there is no {}", path.display())),
        Node::Unusable => Some(format!("this user cannot open {}", path.display())),
    };
    if let Some(reason) = obstacle(Path::new(IOMMU)) {
        return choice(IommuInterface::Group, reason);
    }
    for function in functions {
        let reason = match sysfs.cdev(function.address)? {
            Some(cdev) => obstacle(&cdev),
            None => Some(format!("card {} has no node of its own", function.address)),
        };
        if let Some(reason) = reason {
            return choice(IommuInterface::Group, reason);
        }
    }
    choice(IommuInterface::Iommufd, format!("{IOMMU} and the cards' own nodes are there"))
}

/// Refuses a card without an IOMMU unless that was asked for by name, and one that has an IOMMU if it was.
fn check_iommu(wanted: IommuInterface, function: &PciFunction, sysfs: &Sysfs) -> Result<()> {
    // One that is in no group at all fails later.
    let Some(group) = function.iommu_group else { return Ok(()) };
    let address = function.address;
    match (wanted == IommuInterface::NoIommu, sysfs.is_unsafe(group)?) {
        (false, true) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("card {address} has no IOMMU that keeps it from the rest of the machine's memory"),
        )
        .with_remedy(
            "switch the IOMMU on, in the BIOS (VT-d, AMD-Vi) and on the kernel's command line (intel_iommu=on); or, where \
             the card and all programs that use it may overwrite anything, ask for that by name: --iommu noiommu",
        )),
        (true, false) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("card {address} has an IOMMU (group {group}), so it is not opened without one"),
        )
        .with_remedy("leave noiommu out")),
        (true, true) | (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fake::Machine;
    use jitney_host::node;

    #[test]
    fn interfaces_are_written_as_they_are_read() {
        for text in ["auto", "group", "iommufd", "noiommu"] {
            assert_eq!(text.parse::<IommuInterface>().unwrap().to_string(), text);
        }
        assert_eq!("type1".parse::<IommuInterface>().unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_card_without_a_node_of_its_own_is_opened_by_its_group() {
        let machine = Machine::new();
        machine.add("0000:01:00.0", Some("vfio-pci"), Some(3));
        let address = "0000:01:00.0".parse().unwrap();
        let choice = choose_interface(IommuInterface::Auto, &[address], &machine.sysfs(), node).unwrap();
        assert_eq!(choice.interface, IommuInterface::Group);
        let asked = choose_interface(IommuInterface::Iommufd, &[address], &machine.sysfs(), node).unwrap();
        assert_eq!(asked.interface, IommuInterface::Iommufd);
    }

    #[test]
    fn a_card_is_opened_without_an_iommu_only_by_name_and_only_if_it_has_none() {
        let machine = Machine::new();
        machine.add("0000:01:00.0", Some("vfio-pci"), Some(3));
        machine.add("0000:02:00.0", Some("vfio-pci"), Some(0));
        machine.without_iommu(0);
        let [with, without] = ["0000:01:00.0", "0000:02:00.0"].map(|address| address.parse().unwrap());
        let choose = |wanted, address| choose_interface(wanted, &[address], &machine.sysfs(), node);
        let choice = choose(IommuInterface::NoIommu, without).unwrap();
        assert_eq!(choice.interface, IommuInterface::NoIommu);
        for safe in [IommuInterface::Auto, IommuInterface::Group, IommuInterface::Iommufd] {
            let refused = choose(safe, without).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
            assert!(
                refused.to_string().contains("BIOS") && refused.to_string().contains("noiommu"),
                "{refused}"
            );
        }
        let refused = choose(IommuInterface::NoIommu, with).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().contains("group 3"), "{refused}");
    }
}
