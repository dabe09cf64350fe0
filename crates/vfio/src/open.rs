//! Opening cards as their owner.

use crate::address::CardAddress;
use crate::address_space::AddressSpace;
use crate::error::{Error, ErrorKind, Result};
use crate::opened::OpenedCard;
use crate::{Device, user};
use std::sync::Arc;

/// Opens the card at `address`, as its owner.
///
/// # Errors
/// For a vfio-user socket as [`user::connect`]; [`ErrorKind::Unsupported`] for a PCI address, since this version does
/// not reach cards through the kernel yet.
pub fn open(address: &CardAddress) -> Result<OpenedCard> {
    match address {
        CardAddress::VfioUser(path) => {
            let connection = Arc::new(user::connect(path)?);
            let device = Device::new(address.to_string(), Arc::clone(&connection) as _)?;
            OpenedCard::new(device, connection)
        }
        CardAddress::Pci(address) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("card {address}: this version does not reach cards through the kernel's VFIO yet"),
        )
        .with_remedy("give the socket of a vfio-user server instead, as vfio-user:/path")),
    }
}

/// Opens several cards and makes one address space of theirs. If one cannot be opened, none stays open.
///
/// # Errors
/// As [`open`], and [`ErrorKind::Invalid`] if a card is named twice.
pub fn open_all(addresses: &[CardAddress]) -> Result<(Vec<OpenedCard>, AddressSpace)> {
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            return Err(Error::new(ErrorKind::Invalid, format!("card {address} is named twice")));
        }
    }
    let cards = addresses.iter().map(open).collect::<Result<Vec<_>>>()?;
    let space = AddressSpace::new(cards.iter().map(|card| Arc::clone(&card.mapper)).collect());
    Ok((cards, space))
}
