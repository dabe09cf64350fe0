//! The lists of capabilities (PCI 3.0, section 6.7; PCIe 5.0, sections 7.5.1.1.11 and 7.6), walked without trust: a
//! list that leads into a circle or out of its space is an error, never an endless walk.

use crate::config::ConfigRead;
use crate::header;

/// Power management, see [`power`](crate::power).
pub const POWER: u8 = 0x01;
/// MSI, see [`msi`](crate::msi).
pub const MSI: u8 = 0x05;
/// PCI Express, see [`express`](crate::express).
pub const EXPRESS: u8 = 0x10;
/// MSI-X, see [`msix`](crate::msix).
pub const MSIX: u8 = 0x11;

/// Extended capability: device serial number, 12 bytes: the header, then 64 bits, low word first (PCIe 5.0,
/// section 7.9.3).
pub const SERIAL_NUMBER: u16 = 0x0003;

/// Where the list of extended capabilities starts.
pub const EXTENDED_START: u16 = 0x100;

/// An entry of the list in the first 256 bytes: 8 bits of id, 8 bits of where the next one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Which capability it is.
    pub id: u8,
    /// Where it starts in configuration space.
    pub offset: u16,
}

/// An entry of the list from [`EXTENDED_START`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedCapability {
    /// Which capability it is.
    pub id: u16,
    /// Version of its layout, 4 bits.
    pub version: u8,
    /// Where it starts in configuration space.
    pub offset: u16,
}

impl ExtendedCapability {
    /// The header of this capability, 32 bits, with the next one at `next`; 0 ends the list.
    #[must_use]
    pub const fn header(self, next: u16) -> u32 {
        (next as u32 & 0xffc) << 20 | (self.version as u32 & 0xf) << 16 | self.id as u32
    }
}

/// A list of capabilities that cannot be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError<E> {
    /// Configuration space could not be read.
    #[error(transparent)]
    Read(E),
    /// Configuration space reads all-ones.
    #[error("configuration space reads all-ones at {offset:#05x}: the card's link is down or it was reset")]
    AllOnes {
        /// Where.
        offset: u16,
    },
    /// A pointer leads where no capability can be.
    #[error(
        "the pointer at {from:#05x} of configuration space leads to {to:#05x}, where no capability can be: \
         the card's configuration space is malformed"
    )]
    Pointer {
        /// The capability, or the header's pointer, that holds it.
        from: u16,
        /// Where it leads.
        to: u16,
    },
    /// A pointer leads back to a capability that was there before.
    #[error(
        "the pointer at {from:#05x} of configuration space leads back to {to:#05x}: \
         the card's configuration space is malformed"
    )]
    Loop {
        /// The capability that holds it.
        from: u16,
        /// Where it leads.
        to: u16,
    },
}

/// The capabilities in the first 256 bytes, in the order of their list.
///
/// # Errors
/// [`CapabilityError`] if the list cannot be read or is malformed.
pub fn list<C: ConfigRead + ?Sized>(config: &C) -> Result<Vec<Capability>, CapabilityError<C::Error>> {
    let status = config.read16(header::STATUS).map_err(CapabilityError::Read)?;
    if status == u16::MAX {
        return Err(CapabilityError::AllOnes { offset: header::STATUS });
    }
    let mut found: Vec<Capability> = Vec::new();
    if !header::Status::from(status).capabilities_list() {
        return Ok(found);
    }
    let mut from = header::CAPABILITIES;
    let mut next = config.read8(from).map_err(CapabilityError::Read)?;
    loop {
        // The two lowest bits are reserved and software has to mask them.
        let offset = u16::from(next & !3);
        match offset {
            0 => return Ok(found),
            _ if offset < header::SIZE => return Err(CapabilityError::Pointer { from, to: offset }),
            _ if found.iter().any(|before| before.offset == offset) => {
                return Err(CapabilityError::Loop { from, to: offset });
            }
            _ => {}
        }
        let entry = config.read16(offset).map_err(CapabilityError::Read)?;
        if entry == u16::MAX {
            return Err(CapabilityError::AllOnes { offset });
        }
        let [id, pointer] = entry.to_le_bytes();
        found.push(Capability { id, offset });
        (from, next) = (offset, pointer);
    }
}

/// The extended capabilities, in the order of their list; none if configuration space ends at 256 bytes.
///
/// # Errors
/// [`CapabilityError`] if the list cannot be read or is malformed.
pub fn list_extended<C: ConfigRead + ?Sized>(
    config: &C,
) -> Result<Vec<ExtendedCapability>, CapabilityError<C::Error>> {
    let mut found: Vec<ExtendedCapability> = Vec::new();
    let mut offset = EXTENDED_START;
    loop {
        let entry = config.read32(offset).map_err(CapabilityError::Read)?;
        let id = (entry & 0xffff) as u16;
        let first = found.is_empty();
        if first && (id == 0 || id == u16::MAX) {
            // How a function says that it has none, and what reads where there is no extended space.
            return Ok(found);
        }
        if entry == u32::MAX {
            return Err(CapabilityError::AllOnes { offset });
        }
        found.push(ExtendedCapability { id, version: (entry >> 16 & 0xf) as u8, offset });
        let next = (entry >> 20 & 0xffc) as u16;
        match next {
            0 => return Ok(found),
            _ if next < EXTENDED_START => return Err(CapabilityError::Pointer { from: offset, to: next }),
            _ if found.iter().any(|before| before.offset == next) => {
                return Err(CapabilityError::Loop { from: offset, to: next });
            }
            _ => offset = next,
        }
    }
}

/// Where the first capability with this id starts.
///
/// # Errors
/// Those of [`list`].
pub fn find<C: ConfigRead + ?Sized>(config: &C, id: u8) -> Result<Option<u16>, CapabilityError<C::Error>> {
    Ok(list(config)?.iter().find(|capability| capability.id == id).map(|capability| capability.offset))
}

/// Where the first extended capability with this id starts.
///
/// # Errors
/// Those of [`list_extended`].
pub fn find_extended<C: ConfigRead + ?Sized>(
    config: &C,
    id: u16,
) -> Result<Option<u16>, CapabilityError<C::Error>> {
    Ok(list_extended(config)?
        .iter()
        .find(|capability| capability.id == id)
        .map(|capability| capability.offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Configuration space with `entries` of (offset, id, next), and the list starting at the first.
    fn space(entries: &[(u8, u8, u8)]) -> Vec<u8> {
        let mut config = vec![0; 4096];
        config[usize::from(header::STATUS)] = 0x10;
        config[usize::from(header::CAPABILITIES)] = entries[0].0;
        for &(offset, id, next) in entries {
            config[usize::from(offset)] = id;
            config[usize::from(offset) + 1] = next;
        }
        config
    }

    fn put_extended(config: &mut [u8], id: u16, offset: u16, next: u16) {
        let header = ExtendedCapability { id, version: 1, offset }.header(next);
        config[usize::from(offset)..][..4].copy_from_slice(&header.to_le_bytes());
    }

    #[test]
    fn a_list_as_an_xdma_has_it() {
        let config = space(&[(0x40, POWER, 0x60), (0x60, EXPRESS, 0x9c), (0x9c, MSIX, 0)]);
        let ids: Vec<_> = list(&config[..]).unwrap().iter().map(|found| (found.id, found.offset)).collect();
        assert_eq!(ids, [(POWER, 0x40), (EXPRESS, 0x60), (MSIX, 0x9c)]);
        assert_eq!(find(&config[..], EXPRESS), Ok(Some(0x60)));
        assert_eq!(find(&config[..], MSI), Ok(None));
    }

    #[test]
    fn the_reserved_bits_of_a_pointer_do_not_count() {
        let config = space(&[(0x40, POWER, 0x63), (0x60, EXPRESS, 0)]);
        assert_eq!(find(&config[..], EXPRESS), Ok(Some(0x60)));
    }

    #[test]
    fn no_list_is_no_error() {
        assert_eq!(list(&[0u8; 256][..]), Ok(vec![]));
        assert_eq!(list_extended(&[0u8; 4096][..]), Ok(vec![]));
        assert_eq!(list_extended(&[0u8; 256][..]), Ok(vec![]), "no extended space");
    }

    #[test]
    fn loops_end() {
        let config = space(&[(0x40, POWER, 0x60), (0x60, EXPRESS, 0x40)]);
        assert_eq!(list(&config[..]), Err(CapabilityError::Loop { from: 0x60, to: 0x40 }));
        let mut config = vec![0; 4096];
        put_extended(&mut config, SERIAL_NUMBER, 0x100, 0x100);
        assert_eq!(list_extended(&config[..]), Err(CapabilityError::Loop { from: 0x100, to: 0x100 }));
    }

    #[test]
    fn pointers_into_the_headers_end() {
        let config = space(&[(0x40, POWER, 0x3c)]);
        assert_eq!(list(&config[..]), Err(CapabilityError::Pointer { from: 0x40, to: 0x3c }));
        let mut config = vec![0; 4096];
        put_extended(&mut config, SERIAL_NUMBER, 0x100, 0xfc);
        assert_eq!(list_extended(&config[..]), Err(CapabilityError::Pointer { from: 0x100, to: 0xfc }));
    }

    #[test]
    fn a_card_that_is_gone_is_told_apart() {
        assert_eq!(list(&[0xff; 4096][..]), Err(CapabilityError::AllOnes { offset: header::STATUS }));
        let mut config = vec![0xff; 4096];
        put_extended(&mut config, SERIAL_NUMBER, 0x100, 0x140);
        assert_eq!(list_extended(&config[..]), Err(CapabilityError::AllOnes { offset: 0x140 }));
    }

    #[test]
    fn extended_capabilities_are_found() {
        let mut config = vec![0; 4096];
        put_extended(&mut config, 0x0001, 0x100, 0xffc);
        put_extended(&mut config, SERIAL_NUMBER, 0xffc, 0);
        assert_eq!(find_extended(&config[..], SERIAL_NUMBER), Ok(Some(0xffc)));
        let serial = ExtendedCapability { id: SERIAL_NUMBER, version: 1, offset: 0xffc };
        assert_eq!(list_extended(&config[..]).unwrap()[1], serial);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_walked(mut config in proptest::collection::vec(any::<u8>(), 4096)) {
            config[usize::from(header::STATUS)] |= 0x10;
            if let Ok(found) = list(&config[..]) {
                prop_assert!(found.iter().all(|found| (0x40..0x100).contains(&found.offset)));
            }
            if let Ok(found) = list_extended(&config[..]) {
                prop_assert!(found.iter().all(|found| (0x100..0x1000).contains(&found.offset)));
            }
        }

        #[test]
        fn long_lists_of_any_order_end(order in Just((0x40u8..=0xfc).step_by(4).collect::<Vec<_>>()).prop_shuffle()) {
            let mut entries: Vec<_> = order.windows(2).map(|pair| (pair[0], 0x09, pair[1])).collect();
            entries.push((order[order.len() - 1], 0x09, 0));
            prop_assert_eq!(list(&space(&entries)[..]).unwrap().len(), 48);
        }
    }
}
