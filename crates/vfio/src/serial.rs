//! The serial number in a card's configuration space.

use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;
use crate::region::Region;
use jitney_pci::{CapabilityError, ConfigRead, SerialNumber};

/// Configuration space of a card; what lies beyond it reads as all-ones.
struct Config<'a>(&'a Region);

impl ConfigRead for Config<'_> {
    type Error = Error;

    fn read(&self, offset: u16, bytes: &mut [u8]) -> Result<()> {
        for (offset, byte) in (u64::from(offset)..).zip(bytes) {
            let word = offset & !3;
            let value = if word + 4 <= self.0.size() { self.0.read32(word)? } else { u32::MAX };
            // A word has four bytes.
            *byte = value.to_le_bytes()[usize::try_from(offset - word).unwrap_or(0)];
        }
        Ok(())
    }

    fn read32(&self, offset: u16) -> Result<u32> {
        if u64::from(offset) + 4 <= self.0.size() { self.0.read32(offset.into()) } else { Ok(u32::MAX) }
    }
}

/// The serial number of `card`, in whose configuration space it is looked up.
pub(crate) fn read(card: &Identity, config: &Region) -> Result<Option<SerialNumber>> {
    let config = Config(config);
    if config.read32(0)? == u32::MAX {
        let what = format!("configuration space of card {card} reads as all-ones: its link is down");
        return Err(Error::new(ErrorKind::LinkDown, what));
    }
    SerialNumber::read(&config).map_err(|error| match error {
        CapabilityError::Read(error) => error,
        CapabilityError::AllOnes { .. } => Error::new(ErrorKind::LinkDown, format!("card {card}: {error}")),
        _ => Error::new(ErrorKind::Invalid, format!("card {card}: {error}")),
    })
}
