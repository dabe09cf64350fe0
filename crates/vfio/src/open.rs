//! Opening cards as their owner.

use crate::address::CardAddress;
use crate::address_space::AddressSpace;
use crate::choice::{IommuInterface, choose};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{VfioDevice, iommufd, noiommu, type1};
use crate::opened::OpenedCard;
use crate::sysfs::{PciFunction, Sysfs};
use crate::transport::Mapper;
use crate::{Device, user};
use jitney_host::node;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// How to open cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// Which interface of the kernel to use for all cards that are reached through the kernel: two are never mixed.
    pub iommu: IommuInterface,
    /// Give each card an address space of its own, instead of one for all. Cards of one IOMMU group share one all the
    /// same: the hardware does not tell them apart.
    pub isolate: bool,
    /// Refuse a vfio-user server that runs as another user than this process or root: for sockets that were found and
    /// that nobody named.
    pub refuse_strangers: bool,
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

/// Opens the card of the vfio-user server at the other end of a connected `SOCK_STREAM` socket on which nothing was said
/// yet; `address` is what it is called. It has this one connection, so that no broker can hand out others.
///
/// # Errors
/// As [`user::negotiate`].
pub fn open_connected(socket: OwnedFd, address: String) -> Result<OpenedSpace> {
    let connection = Arc::new(user::negotiate(socket, address.clone())?);
    let device = Device::new(address, Arc::clone(&connection) as _)?;
    let space = AddressSpace::new(vec![Arc::clone(&connection) as _]);
    Ok(OpenedSpace { cards: vec![OpenedCard::new(device, connection)?], space })
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
        false => choose(options.iommu, &functions, &sysfs, node)?.interface,
    };
    if interface == IommuInterface::NoIommu && !functions.is_empty() {
        tracing::warn!(
            "UNSAFE: cards are opened without an IOMMU; they, and every program that uses them, can read and overwrite all \
             of this machine's memory"
        );
    }
    shares(named, options.isolate)
        .into_iter()
        .map(|share| open_share(share, interface, options.refuse_strangers, &sysfs))
        .collect()
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
                    .with_remedy(format!("bind it to vfio-pci: jitney bind {address}")))
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

fn open_share(
    named: Vec<Named<'_>>,
    interface: IommuInterface,
    refuse_strangers: bool,
    sysfs: &Sysfs,
) -> Result<OpenedSpace> {
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
                let connection = match refuse_strangers {
                    true => user::connect_to_own(path)?,
                    false => user::connect(path)?,
                };
                let connection = Arc::new(connection);
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
    fn nothing_named_is_nothing_opened() {
        let (cards, space) = open_all(&[]).unwrap();
        assert!(cards.is_empty());
        assert_eq!(space.ranges(), [0..=u64::MAX]);
        let twice = ["/a".parse().unwrap(), "/a".parse().unwrap()];
        assert_eq!(open_all(&twice).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
