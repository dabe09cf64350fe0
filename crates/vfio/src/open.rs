//! Opening cards as their owner.

use crate::address::CardAddress;
use crate::address_space::AddressSpace;
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{VfioDevice, iommufd, noiommu, type1};
use crate::opened::OpenedCard;
use crate::sysfs::{PciFunction, Sysfs};
use crate::transport::Mapper;
use crate::{Device, user};
use jitney_pci::Address;
use rustix::fs::Access;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

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

/// How to open cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Which interface of the kernel to use for all cards that are reached through the kernel: two are never mixed.
    pub iommu: IommuInterface,
    /// Give each card an address space of its own, instead of one for all. Cards of one IOMMU group share one all the
    /// same: the hardware does not tell them apart.
    pub isolate: bool,
}

/// Cards that share an address space.
#[derive(Debug)]
pub struct OpenedSpace {
    /// The cards, in the order in which they were named.
    pub cards: Vec<OpenedCard>,
    /// Their address space.
    pub space: AddressSpace,
}

/// Opens the card at `address`, as its owner.
///
/// # Errors
/// For a vfio-user socket as [`user::connect`]. For a PCI address [`ErrorKind::NotFound`] if there is no such function,
/// [`ErrorKind::Invalid`] if it is not bound to vfio-pci or its group is not viable, [`ErrorKind::Held`] if another
/// process has it, which is named, [`ErrorKind::Denied`] without permission, [`ErrorKind::Unsupported`] without an IOMMU;
/// else what the kernel says.
pub fn open(address: &CardAddress) -> Result<OpenedCard> {
    let mut cards = open_all(std::slice::from_ref(address))?.0;
    cards.pop().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("card {address} was not opened")))
}

/// Opens several cards and makes one address space of theirs. If one cannot be opened, none stays open.
///
/// # Errors
/// As [`open`], and [`ErrorKind::Invalid`] if a card is named twice.
pub fn open_all(addresses: &[CardAddress]) -> Result<(Vec<OpenedCard>, AddressSpace)> {
    let spaces = open_all_with(addresses, OpenOptions::default())?;
    // Without `isolate` there is one at most.
    let space = spaces.into_iter().next();
    Ok(space.map_or_else(Default::default, |opened| (opened.cards, opened.space)))
}

/// Opens several cards as `options` say. If one cannot be opened, none stays open.
///
/// The spaces are in the order of their first cards; without [`isolate`](OpenOptions::isolate) there is one, or none if
/// no card was named.
///
/// # Errors
/// As [`open_all`], and [`ErrorKind::Unsupported`] if the kernel or the cards do not have the interface asked for, or the
/// IOMMU does not let groups share one address space.
pub fn open_all_with(addresses: &[CardAddress], options: OpenOptions) -> Result<Vec<OpenedSpace>> {
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            return Err(Error::new(ErrorKind::Invalid, format!("card {address} is named twice")));
        }
    }
    let sysfs = Sysfs::default();
    let named: Vec<Named<'_>> =
        addresses.iter().map(|address| Named::find(address, &sysfs)).collect::<Result<_>>()?;
    let functions: Vec<&PciFunction> = named.iter().filter_map(Named::function).collect();
    // Never two interfaces in one process's cards, even if each has a space of its own: it is decided once, for all.
    let interface = match functions.is_empty() {
        true => options.iommu,
        false => choose(options.iommu, &functions, &sysfs)?.interface,
    };
    if interface == IommuInterface::NoIommu && !functions.is_empty() {
        tracing::warn!(
            "UNSAFE: cards are opened without an IOMMU; they, and every program that uses them, can read and overwrite all \
             of this machine's memory"
        );
    }
    shares(named, options.isolate).into_iter().map(|share| open_share(share, interface, &sysfs)).collect()
}

/// Which interface of the kernel would be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Not [`IommuInterface::Auto`].
    pub interface: IommuInterface,
    /// In one clause.
    pub reason: String,
}

/// Which interface of the kernel [`open_all_with`] would use for the PCI functions at `addresses`, and why.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such function, [`ErrorKind::Unsupported`] if it has no IOMMU and
/// [`IommuInterface::NoIommu`] was not asked for, or the other way round.
pub fn choose_interface(wanted: IommuInterface, addresses: &[Address], sysfs: &Sysfs) -> Result<Choice> {
    let functions = addresses.iter().map(|&address| sysfs.function(address)).collect::<Result<Vec<_>>>()?;
    choose(wanted, &functions.iter().collect::<Vec<_>>(), sysfs)
}

fn choose(wanted: IommuInterface, functions: &[&PciFunction], sysfs: &Sysfs) -> Result<Choice> {
    let usable = |path: &Path| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    let group = |reason: String| Ok(Choice { interface: IommuInterface::Group, reason });
    for function in functions {
        check_iommu(wanted, function, sysfs)?;
    }
    match wanted {
        IommuInterface::Group | IommuInterface::Iommufd | IommuInterface::NoIommu => {
            Ok(Choice { interface: wanted, reason: "it was asked for".to_owned() })
        }
        IommuInterface::Auto => {
            let iommu = Path::new(iommufd::IOMMU);
            if !iommu.exists() {
                return group(format!("this kernel has no {}", iommu.display()));
            }
            if !usable(iommu) {
                return group(format!("this user cannot open {}", iommu.display()));
            }
            for function in functions {
                match sysfs.cdev(function.address)? {
                    None => return group(format!("card {} has no node of its own", function.address)),
                    Some(node) if !usable(&node) => {
                        return group(format!("this user cannot open {}", node.display()));
                    }
                    Some(_) => {}
                }
            }
            let reason = format!("{} and the cards' own nodes are there", iommu.display());
            Ok(Choice { interface: IommuInterface::Iommufd, reason })
        }
    }
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

/// A card that was named, before it is opened.
enum Named<'a> {
    User(&'a CardAddress, &'a Path),
    Pci(PciFunction),
}

impl<'a> Named<'a> {
    fn find(address: &'a CardAddress, sysfs: &Sysfs) -> Result<Self> {
        match address {
            CardAddress::VfioUser(path) => Ok(Self::User(address, path)),
            CardAddress::Pci(address) => {
                let function = sysfs.function(*address)?;
                if function.bound_to_vfio() {
                    return Ok(Self::Pci(function));
                }
                let state = match &function.driver {
                    Some(driver) => format!("is bound to {driver}, not to vfio-pci"),
                    None => "is not bound to vfio-pci".to_owned(),
                };
                Err(Error::new(ErrorKind::Invalid, format!("card {address} {state}"))
                    .with_remedy(format!("jitney bind {address}")))
            }
        }
    }

    fn function(&self) -> Option<&PciFunction> {
        match self {
            Self::User(..) => None,
            Self::Pci(function) => Some(function),
        }
    }
}

/// Which cards share an address space: all of them, or each alone, but for those of one group.
fn shares(named: Vec<Named<'_>>, isolate: bool) -> Vec<Vec<Named<'_>>> {
    let mut shares: Vec<Vec<Named<'_>>> = Vec::new();
    for card in named {
        let group = card.function().and_then(|function| function.iommu_group);
        let mine = shares.iter_mut().find(|share| {
            let other = |card: &Named<'_>| card.function().and_then(|function| function.iommu_group);
            !isolate || group.is_some() && share.iter().any(|card| other(card) == group)
        });
        match mine {
            Some(share) => share.push(card),
            None => shares.push(vec![card]),
        }
    }
    shares
}

fn open_share(named: Vec<Named<'_>>, interface: IommuInterface, sysfs: &Sysfs) -> Result<OpenedSpace> {
    let functions: Vec<PciFunction> = named.iter().filter_map(Named::function).cloned().collect();
    let mut mappers: Vec<Arc<dyn Mapper>> = Vec::new();
    let (devices, kernel): (Vec<VfioDevice>, Option<Arc<dyn Mapper>>) = match interface {
        _ if functions.is_empty() => (Vec::new(), None),
        IommuInterface::Iommufd => {
            let (devices, ioas) = iommufd::open(&functions, sysfs)?;
            (devices, Some(ioas))
        }
        IommuInterface::NoIommu => {
            let (devices, memory) = noiommu::open(&functions, sysfs)?;
            (devices, Some(memory))
        }
        _ => {
            let (devices, container) = type1::open(&functions, sysfs)?;
            (devices, Some(container))
        }
    };
    mappers.extend(kernel.clone());
    let mut devices = devices.into_iter();
    let mut cards = Vec::new();
    for card in &named {
        let opened = match card {
            Named::User(address, path) => {
                let connection = Arc::new(user::connect(path)?);
                mappers.push(Arc::clone(&connection) as _);
                OpenedCard::new(Device::new(address.to_string(), Arc::clone(&connection) as _)?, connection)
            }
            Named::Pci(function) => match (devices.next(), &kernel) {
                (Some(device), Some(mapper)) => OpenedCard::new(
                    Device::new(function.address.to_string(), Arc::new(device))?,
                    Arc::clone(mapper),
                ),
                _ => unreachable!("the kernel opened as many devices as were asked for"),
            },
        };
        cards.push(opened?);
    }
    Ok(OpenedSpace { cards, space: AddressSpace::new(mappers) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::fake::Machine;

    #[test]
    fn interfaces_are_written_as_they_are_read() {
        for text in ["auto", "group", "iommufd", "noiommu"] {
            assert_eq!(text.parse::<IommuInterface>().unwrap().to_string(), text);
        }
        assert_eq!("type1".parse::<IommuInterface>().unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn cards_of_one_group_share_an_address_space() {
        let machine = Machine::new();
        for (address, group) in [("0000:01:00.0", 3), ("0000:02:00.0", 4), ("0000:01:00.1", 3)] {
            machine.add(address, Some("vfio-pci"), Some(group));
        }
        let addresses: Vec<CardAddress> = ["0000:01:00.0", "/a", "0000:02:00.0", "/b", "0000:01:00.1"]
            .map(|text| text.parse().unwrap())
            .into();
        let sizes = |isolate| {
            let sysfs = machine.sysfs();
            let named = addresses.iter().map(|address| Named::find(address, &sysfs).unwrap()).collect();
            shares(named, isolate).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(false), [5]);
        assert_eq!(sizes(true), [2, 1, 1, 1]);
    }

    #[test]
    fn a_card_of_another_driver_is_refused_with_the_remedy() {
        let machine = Machine::new();
        machine.add("0000:01:00.0", Some("nvme"), Some(3));
        machine.add("0000:02:00.0", None, Some(3));
        for (address, says) in [("0000:01:00.0", "bound to nvme"), ("0000:02:00.0", "not bound to vfio-pci")]
        {
            let address: CardAddress = address.parse().unwrap();
            let Err(error) = Named::find(&address, &machine.sysfs()) else { unreachable!("{address}") };
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let text = error.to_string();
            assert!(text.contains(says) && text.contains(&format!("jitney bind {address}")), "{text}");
        }
    }

    #[test]
    fn a_card_without_a_node_of_its_own_is_opened_by_its_group() {
        let machine = Machine::new();
        machine.add("0000:01:00.0", Some("vfio-pci"), Some(3));
        let address = "0000:01:00.0".parse().unwrap();
        let choice = choose_interface(IommuInterface::Auto, &[address], &machine.sysfs()).unwrap();
        assert_eq!(choice.interface, IommuInterface::Group);
        let asked = choose_interface(IommuInterface::Iommufd, &[address], &machine.sysfs()).unwrap();
        assert_eq!(asked.interface, IommuInterface::Iommufd);
    }

    #[test]
    fn a_card_is_opened_without_an_iommu_only_by_name_and_only_if_it_has_none() {
        let machine = Machine::new();
        machine.add("0000:01:00.0", Some("vfio-pci"), Some(3));
        machine.add("0000:02:00.0", Some("vfio-pci"), Some(0));
        machine.without_iommu(0);
        let [with, without] = ["0000:01:00.0", "0000:02:00.0"].map(|address| address.parse().unwrap());
        let choose = |wanted, address| choose_interface(wanted, &[address], &machine.sysfs());
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

    #[test]
    fn nothing_named_is_nothing_opened() {
        let (cards, space) = open_all(&[]).unwrap();
        assert!(cards.is_empty());
        assert_eq!(space.ranges(), [0..=u64::MAX]);
        let twice = ["/a".parse().unwrap(), "/a".parse().unwrap()];
        assert_eq!(open_all(&twice).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
