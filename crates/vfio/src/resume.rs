//! Going on with cards that another process has opened, as that process or its keeper left them.
//!
//! The rule is that of QEMU's CPR: what the process before has configured stays as it is. Nothing is bound, attached, reset or
//! negotiated, and neither DMA nor maps nor wired vectors notice that somebody else owns the cards now.

use crate::address_space::AddressSpace;
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::KernelResumed;
use crate::open::OpenedSpace;
use crate::opened::OpenedCard;
use crate::record::{CardRecord, CardWay, KeptCard, KeptSpace, Slot, SpaceRecord};
use crate::transport::{Mapper, Transport};
use crate::user;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

impl OpenedSpace {
    /// What another process needs to go on with these cards when this one is gone: a record, and descriptors that somebody
    /// has to keep open under these names (ASCII, at most 8 bytes, no two of them alike for any `number`s). Both stay the
    /// same as long as the cards are open, so that they can be taken once.
    ///
    /// A keeper must not let go of a descriptor because its peer hung up (systemd: `FDPOLL=0`): the card would be closed,
    /// which resets it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if a card cannot be gone on with in another process, as a
    /// [`FakeCard`](crate::FakeCard); [`ErrorKind::Exhausted`] if a name would be too long.
    pub fn record(&self, number: usize) -> Result<(SpaceRecord, Vec<(String, BorrowedFd<'_>)>)> {
        let mut descriptors = Vec::new();
        let mut kernel = None;
        for mapper in self.space.mappers() {
            if let Some(KeptSpace { kernel: record, space, groups }) = mapper.kept() {
                descriptors.push((Slot::Space.name(number)?, space));
                for (index, group) in groups.into_iter().enumerate() {
                    descriptors.push((Slot::Group(index).name(number)?, group));
                }
                if kernel.replace(record).is_some() {
                    let what =
                        "two address spaces of the kernel's that were joined cannot be gone on with as one";
                    return Err(Error::new(ErrorKind::Unsupported, what));
                }
            }
        }
        let mut cards = Vec::new();
        for (index, card) in self.cards.iter().enumerate() {
            let identity = card.identity().clone();
            let Some(KeptCard { way, descriptor }) = card.device().transport().kept() else {
                let what = format!("card {identity} cannot be gone on with in another process");
                return Err(Error::new(ErrorKind::Unsupported, what));
            };
            descriptors.push((Slot::Card(index).name(number)?, descriptor));
            let (tells_leaving, tells_failed) = card.notices().can_tell();
            let (bars, vectors) = (*card.bars(), card.vectors_and_kind());
            cards.push(CardRecord { identity, bars, vectors, tells_leaving, tells_failed, way });
        }
        let alone = |mapper: &Arc<dyn Mapper>| {
            let same = |card: &OpenedCard| ptr::addr_eq(Arc::as_ptr(card.mapper()), Arc::as_ptr(mapper));
            mapper.kept().is_none() && !self.cards.iter().any(same)
        };
        if self.space.mappers().any(alone) {
            let what = "an address space with memory of cards that are not its own cannot be gone on with";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        Ok((SpaceRecord { kernel, cards }, descriptors))
    }

    /// Goes on with cards that another process has opened: nothing is configured anew, and what that process has mapped and
    /// wired goes on undisturbed. Takes out of `descriptors` what [`record`](Self::record) has named for `number`.
    ///
    /// What is not known here has to be said: which vectors are enabled
    /// ([`with_enabled_vectors`](OpenedCard::with_enabled_vectors)), for which cards memory is no longer mapped
    /// ([`leave_out`](AddressSpace::leave_out)), and where there is no IOMMU which memory is mapped
    /// ([`adopt`](AddressSpace::adopt)).
    ///
    /// A card that is gone meanwhile fails when it is used. A board is first asked something then, so that one that does not
    /// answer holds up nobody here.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if a descriptor of the kernel's is missing, [`ErrorKind::Protocol`] if it is something else
    /// than what it is called, and what the kernel says of the address space. Where one is missing nothing is taken; after
    /// another error what was taken is closed.
    pub fn resume(
        record: &SpaceRecord,
        number: usize,
        descriptors: &mut BTreeMap<String, OwnedFd>,
    ) -> Result<Self> {
        let name = |slot: Slot| slot.name(number);
        record.check_kept(number, descriptors)?;
        let take = |slot| -> Result<Option<OwnedFd>> { Ok(descriptors.remove(&name(slot)?)) };
        SpaceRecord::go_on(record, take)
    }
}

impl SpaceRecord {
    /// That what cannot be done without is there. A board's connection can be: a card that is gone.
    fn check_kept(&self, number: usize, descriptors: &BTreeMap<String, OwnedFd>) -> Result<()> {
        let optional = self.cards.iter().enumerate().filter(|(_, card)| !card.kept_by_kernel());
        let optional =
            optional.map(|(index, _)| Slot::Card(index).name(number)).collect::<Result<Vec<_>>>()?;
        let missing: Vec<String> = self
            .descriptor_names(number)?
            .into_iter()
            .filter(|name| !descriptors.contains_key(name) && !optional.contains(name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let cards: Vec<String> = self.identities().map(ToString::to_string).collect();
        let what = format!(
            "going on with card {}: nobody has kept the descriptors {}",
            cards.join(", "),
            missing.join(", ")
        );
        Err(Error::new(ErrorKind::NotFound, what).with_remedy("open the cards anew"))
    }

    fn go_on(&self, mut take: impl FnMut(Slot) -> Result<Option<OwnedFd>>) -> Result<OpenedSpace> {
        let mut mappers: Vec<Arc<dyn Mapper>> = Vec::new();
        let kernel = match &self.kernel {
            None => None,
            Some(record) => {
                let addresses: Vec<&str> = self
                    .cards
                    .iter()
                    .filter(|card| card.kept_by_kernel())
                    .map(|card| card.identity.address.as_str())
                    .collect();
                let space = take(Slot::Space)?;
                let groups = (0..record.groups()).map(|index| take(Slot::Group(index)));
                let groups = groups.collect::<Result<Option<Vec<_>>>>()?;
                let (Some(space), Some(groups)) = (space, groups) else {
                    unreachable!("it was looked for before")
                };
                Some(KernelResumed::new(record, space, groups, &addresses)?)
            }
        };
        mappers.extend(kernel.as_ref().map(|kernel| Arc::clone(&kernel.mapper)));
        let mut cards = Vec::new();
        for (index, card) in self.open_cards() {
            let descriptor = take(Slot::Card(index))?;
            let address = card.identity.address.clone();
            let (transport, mapper): (Arc<dyn Transport>, Arc<dyn Mapper>) = match (&card.way, &kernel) {
                (CardWay::VfioUser(record), _) => {
                    let connection = Arc::new(user::resume(record, descriptor, address)?);
                    mappers.push(Arc::clone(&connection) as _);
                    (Arc::clone(&connection) as _, connection)
                }
                (CardWay::Kernel(record), Some(kernel)) => {
                    let Some(file) = descriptor else { unreachable!("it was looked for before") };
                    (Arc::new(kernel.device(record, file, address)?), Arc::clone(&kernel.mapper))
                }
                (CardWay::Closed, _) => continue,
                (CardWay::Kernel(_), None) => {
                    let what = format!("the record of card {} lacks its address space", card.identity);
                    return Err(Error::new(ErrorKind::Protocol, what));
                }
            };
            let device = Device::resumed(card.identity.clone(), card.bars, transport);
            cards.push(OpenedCard::resumed(device, mapper, card)?);
        }
        Ok(OpenedSpace { cards, space: AddressSpace::new(mappers) })
    }
}
