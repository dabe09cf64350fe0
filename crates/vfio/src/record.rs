//! What a process leaves behind for the next one to go on with its cards: a record, and descriptors under short names.

use crate::error::{Error, ErrorKind, Result};
use crate::identity::{BarInfo, Identity};
use crate::kernel::{DeviceRecord, KernelRecord};
use crate::transport::InterruptKind;
use crate::user::ConnectionRecord;
use serde::{Deserialize, Serialize};
use std::os::fd::BorrowedFd;

/// A name of a kept descriptor has no more bytes: thousands of them have to fit into one variable of the environment
/// (`LISTEN_FDNAMES`, which the kernel limits to 128 KiB).
const LONGEST_NAME: usize = 8;

/// What else it takes, besides descriptors, to go on with the cards of an address space in another process.
///
/// It says what was found when the cards were opened and stays true as long as they are open. What changes is not in it: what
/// is mapped, and [which vectors are enabled](crate::OpenedCard::enabled_vectors).
///
/// Its serialized form is for the same version of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRecord {
    /// The kernel's part, if a card of the space is the kernel's.
    pub(crate) kernel: Option<KernelRecord>,
    pub(crate) cards: Vec<CardRecord>,
}

/// One card of a [`SpaceRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CardRecord {
    pub(crate) identity: Identity,
    pub(crate) bars: [BarInfo; 6],
    pub(crate) vectors: Option<(InterruptKind, u32)>,
    /// It can tell that it is wanted back.
    pub(crate) tells_leaving: bool,
    /// It can tell that it has failed.
    pub(crate) tells_failed: bool,
    pub(crate) way: CardWay,
}

/// How a card is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CardWay {
    VfioUser(ConnectionRecord),
    Kernel(DeviceRecord),
}

/// What a [`Transport`](crate::Transport) leaves behind: what it knows, and a descriptor.
#[derive(Debug)]
pub struct KeptCard<'a> {
    pub(crate) way: CardWay,
    pub(crate) descriptor: BorrowedFd<'a>,
}

/// What a [`Mapper`](crate::Mapper) leaves behind: what it knows, the descriptor of the address space, and those of groups.
#[derive(Debug)]
pub struct KeptSpace<'a> {
    pub(crate) kernel: KernelRecord,
    pub(crate) space: BorrowedFd<'a>,
    pub(crate) groups: Vec<BorrowedFd<'a>>,
}

impl SpaceRecord {
    /// Who the cards are, in their order.
    pub fn identities(&self) -> impl ExactSizeIterator<Item = &Identity> {
        self.cards.iter().map(|card| &card.identity)
    }

    /// The names of the descriptors that belong to it, if it is the record of the space `number`: a descriptor that no
    /// record names belongs to nobody.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] if a name would have more than 8 bytes.
    pub fn descriptor_names(&self, number: usize) -> Result<Vec<String>> {
        let groups = self.kernel.as_ref().map_or(0, KernelRecord::groups);
        let space = self.kernel.iter().map(|_| Slot::Space);
        let slots = space.chain((0..groups).map(Slot::Group)).chain((0..self.cards.len()).map(Slot::Card));
        slots.map(|slot| slot.name(number)).collect()
    }
}

impl CardRecord {
    pub(crate) const fn kept_by_kernel(&self) -> bool {
        matches!(self.way, CardWay::Kernel(_))
    }
}

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The container or the iommufd.
    Space,
    /// One of the groups in the container, in their order.
    Group(usize),
    /// One of the cards, in their order.
    Card(usize),
}

impl Slot {
    /// Its name for the space `number`.
    pub(crate) fn name(self, number: usize) -> Result<String> {
        let name = match self {
            Self::Space => format!("s{number}i"),
            Self::Group(index) => format!("s{number}g{index}"),
            Self::Card(index) => format!("s{number}c{index}"),
        };
        match name.len() {
            0..=LONGEST_NAME => Ok(name),
            _ => Err(Error::new(
                ErrorKind::Exhausted,
                format!("the descriptor {name} cannot be kept: its name has more than {LONGEST_NAME} bytes"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_differ() {
        assert_eq!(Slot::Space.name(0).unwrap(), "s0i");
        assert_eq!(Slot::Group(12).name(3).unwrap(), "s3g12");
        assert_eq!(Slot::Card(999).name(999).unwrap(), "s999c999");
        let error = Slot::Card(1000).name(999).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    }
}
