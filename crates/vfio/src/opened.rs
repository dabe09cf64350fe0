//! An opened card, before anybody arbitrates it: what an owner builds on, alone or as a broker.

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::Grant;
use crate::identity::{BarInfo, Identity, existing_bar};
use crate::notices::Notices;
use crate::record::CardRecord;
use crate::transport::{InterruptKind, Mapper};
use jitney_memory::EventFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// Where a card says which revision and what kind it is (PCI 3.0, section 6.2.1).
const REVISION_AND_CLASS: u64 = 0x08;

/// A card that this process has opened and owns. Every BAR that can be mapped is mapped as long as it lives.
///
/// The kernel (4.18 to 6.x) sets a BAR up for mapping at the first map and without a lock, so that two processes that
/// map it for the first time at once meet `EBUSY`. The owner has mapped each before a grant leaves it.
///
/// It is not touched through that mapping. Whoever has a grant can switch off that the card answers to its addresses, and
/// the next touch of a mapped BAR then ends the process that touches it (SIGBUS), with all cards that it owns.
/// [`write_register`](Self::write_register) goes through the transport, which answers with an error.
#[derive(Debug)]
pub struct OpenedCard {
    device: Device,
    mapper: Arc<dyn Mapper>,
    notices: Notices,
    vectors: Option<(InterruptKind, u32)>,
    /// How many vectors are enabled, wired or silent, once any are. Not held while anything takes long.
    enabled: Mutex<Option<u32>>,
}

impl OpenedCard {
    /// The card behind `device`, for which `mapper` maps memory.
    ///
    /// # Errors
    /// What the transport says when a BAR is mapped or interrupts are counted or wired.
    pub fn new(device: Device, mapper: Arc<dyn Mapper>) -> Result<Self> {
        for index in (0..device.bars().len()).filter(|&index| device.bars()[index].mappable) {
            device.bar(index)?;
        }
        let vectors = device.vectors()?;
        let watch = |kind| watch(&device, kind);
        let notices = Notices::new(watch(InterruptKind::Request)?, watch(InterruptKind::Error)?)?;
        Ok(Self { device, mapper, notices, vectors, enabled: Mutex::new(None) })
    }

    /// The card behind `device`, which another process has opened: nothing that it set up is disturbed. What touches the card
    /// is tried: one that is gone meanwhile fails when it is used.
    ///
    /// # Errors
    /// What the system says of events. Never that the card does not answer.
    pub(crate) fn resumed(device: Device, mapper: Arc<dyn Mapper>, card: &CardRecord) -> Result<Self> {
        let kernel = card.kept_by_kernel();
        for index in (0..device.bars().len()).filter(|&index| kernel && device.bars()[index].mappable) {
            if let Err(error) = device.bar(index) {
                tracing::warn!(%error, "a BAR of a card that another process has opened cannot be mapped");
            }
        }
        // The events of the process before are gone with it. To give others changes nothing else.
        let watch = |has: bool, kind| match has {
            true => watch_again(&device, kind).map(Some),
            false => Ok(None),
        };
        let notices = Notices::new(
            watch(card.tells_leaving, InterruptKind::Request)?,
            watch(card.tells_failed, InterruptKind::Error)?,
        )?;
        Ok(Self { device, mapper, notices, vectors: card.vectors, enabled: Mutex::new(None) })
    }

    /// The kind and number of its vectors.
    pub(crate) fn vectors_and_kind(&self) -> Option<(InterruptKind, u32)> {
        self.vectors
    }

    /// How many vectors are enabled, wired or silent, if any are. A process that goes on with the card has to know:
    /// [`with_enabled_vectors`](Self::with_enabled_vectors). It changes from none to some at the first
    /// [`wire`](Self::wire) of an event, and back with a [`reset`](Self::reset), and in no other way.
    #[must_use]
    pub fn enabled_vectors(&self) -> Option<u32> {
        *self.enabled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same card, of which `enabled` vectors are enabled already, by the process before this one: else the next
    /// [`wire`](Self::wire) would enable them anew, and silence those that are live.
    #[must_use]
    pub fn with_enabled_vectors(mut self, enabled: Option<u32>) -> Self {
        self.enabled = Mutex::new(enabled);
        self
    }

    /// The same card with notices from elsewhere: for a test of what hears them.
    #[must_use]
    pub fn with_notices(mut self, notices: Notices) -> Self {
        self.notices = notices;
        self
    }

    /// Who the card is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.device.identity()
    }

    /// Its six BARs.
    #[must_use]
    pub fn bars(&self) -> &[BarInfo; 6] {
        self.device.bars()
    }

    /// What maps memory for it.
    #[must_use]
    pub fn mapper(&self) -> &Arc<dyn Mapper> {
        &self.mapper
    }

    /// What tells its owner that it is wanted back or has failed. The kernel asks again every 10 seconds until all have let
    /// go of it.
    #[must_use]
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Its registers as a program that has it alone sees them, mapped.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Something to hand to another process so that it reaches the card.
    ///
    /// # Errors
    /// What the transport says; for a vfio-user server as [`user::connect`](crate::user::connect).
    pub fn grant(&self) -> Result<Grant> {
        self.device.transport().grant()
    }

    /// Reads 32 bits at `offset` bytes of BAR `bar`, not through a mapping.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a BAR that is not there, [`ErrorKind::OutOfBounds`] or [`ErrorKind::Invalid`] for an
    /// offset outside of it or that is no multiple of four; [`ErrorKind::LinkDown`] if the card does not answer to its
    /// addresses; what else the transport says.
    pub fn read_register(&self, bar: u8, offset: u64) -> Result<u32> {
        let mut bytes = [0; 4];
        self.device.transport().read(self.register(bar, offset)?, offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes 32 bits at `offset` bytes of BAR `bar`, not through a mapping. The card has it when a later read, as that of
    /// [`link_is_up`](Self::link_is_up), has come back.
    ///
    /// # Errors
    /// As [`read_register`](Self::read_register).
    pub fn write_register(&self, bar: u8, offset: u64, value: u32) -> Result<()> {
        self.device.transport().write(self.register(bar, offset)?, offset, &value.to_le_bytes())
    }

    /// The region of a register that is there.
    fn register(&self, bar: u8, offset: u64) -> Result<u32> {
        let size = existing_bar(self.bars(), bar.into(), self.identity())?.size;
        let misfit = |kind, why: &str| {
            let card = self.identity();
            Error::new(kind, format!("offset {offset:#x} in BAR {bar} of card {card} {why}"))
        };
        if !offset.is_multiple_of(4) {
            return Err(misfit(ErrorKind::Invalid, "is no multiple of 4"));
        }
        if offset.checked_add(4).is_none_or(|end| end > size) {
            return Err(misfit(ErrorKind::OutOfBounds, &format!("is outside of its {size:#x} bytes")));
        }
        Ok(bar.into())
    }

    /// Whether the card answers: configuration space has its class and not all-ones. When this returns, the card has all
    /// that was written to it before.
    ///
    /// Not its vendor: through VFIO that is the kernel's copy (`vfio_pci_config.c`, `init_pci_cap_basic_perm`), which a card
    /// that was pulled out still has, and for which nothing is asked of the card.
    ///
    /// # Errors
    /// What the transport says.
    pub fn link_is_up(&self) -> Result<bool> {
        Ok(self.device.config()?.read32(REVISION_AND_CLASS)? != u32::MAX)
    }

    /// Whether the card is out of reach for good, as was found when something was asked of it: only an emulated board ends so.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.device.transport().has_ended()
    }

    /// Whether the card may start DMA and message-signalled interrupts. All-ones, from a card whose link is down, count as
    /// yes.
    ///
    /// # Errors
    /// What the transport says.
    pub fn bus_master(&self) -> Result<bool> {
        self.device.bus_master()
    }

    /// Switches the card's right to start DMA and message-signalled interrupts on or off.
    ///
    /// # Errors
    /// What the transport says.
    pub fn set_bus_master(&self, on: bool) -> Result<()> {
        self.device.set_bus_master(on)
    }

    /// Whether the card answers to the addresses of its BARs. Anybody who has a grant can switch that off.
    ///
    /// # Errors
    /// What the transport says.
    pub fn memory_decode(&self) -> Result<bool> {
        self.device.memory_decode()
    }

    /// Switches on or off that the card answers to the addresses of its BARs.
    ///
    /// # Errors
    /// What the transport says.
    pub fn set_memory_decode(&self, on: bool) -> Result<()> {
        self.device.set_memory_decode(on)
    }

    /// How many interrupt vectors it has. The machine may have fewer to give.
    #[must_use]
    pub fn vectors(&self) -> u32 {
        self.vectors.map_or(0, |(_, count)| count)
    }

    /// Wires one vector to an eventfd, or silences it, without disturbing the others.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such vector, [`ErrorKind::Unsupported`] if the card has none at all,
    /// [`ErrorKind::Exhausted`] if the machine has none for it; what the transport says.
    pub fn wire(&self, vector: u16, event: Option<BorrowedFd<'_>>) -> Result<()> {
        let (kind, count) = self.check_vector(vector)?;
        let mut enabled = self.enabled.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = match *enabled {
            Some(usable) => usable,
            None if event.is_none() => return Ok(()),
            None => *enabled.insert(self.device.transport().enable(kind, count)?),
        };
        if u32::from(vector) >= usable {
            let card = self.identity();
            let what = format!(
                "interrupt vector {vector} of card {card}: the machine has only {usable} to give of its {count}"
            );
            return Err(Error::new(ErrorKind::Exhausted, what).with_remedy("poll for completion instead"));
        }
        self.device.wire(kind, vector, event)
    }

    /// The kind and number of vectors, if `vector` is one of them.
    pub(crate) fn check_vector(&self, vector: u16) -> Result<(InterruptKind, u32)> {
        let card = self.identity();
        match self.vectors {
            Some((kind, count)) if u32::from(vector) < count => Ok((kind, count)),
            Some((_, count)) => Err(Error::new(
                ErrorKind::NotFound,
                format!("card {card} has no interrupt vector {vector}; it has {count}, from 0 on"),
            )),
            None => Err(Error::new(ErrorKind::Unsupported, format!("card {card} has no interrupts"))
                .with_remedy("poll for completion instead")),
        }
    }

    /// Resets the card, with all vectors silent afterwards and bus mastering as it was before.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] if it cannot be reset; what the transport says.
    pub fn reset(&self) -> Result<()> {
        if let Some((kind, _)) = self.vectors {
            // Not across the reset, which takes up to a second on a real card.
            let mut enabled = self.enabled.lock().unwrap_or_else(PoisonError::into_inner);
            if enabled.is_some() {
                self.device.transport().disarm(kind)?;
                *enabled = None;
            }
        }
        let bus_master = self.device.bus_master()?;
        self.device.reset()?;
        self.device.set_bus_master(bus_master)
    }
}

/// An event for what may happen to the card as a whole, if it can tell. There is one per card: a second one would take it
/// from the first.
fn watch(device: &Device, kind: InterruptKind) -> Result<Option<EventFd>> {
    if device.transport().interrupt_count(kind)? == 0 {
        return Ok(None);
    }
    let event = EventFd::new()?;
    device.transport().arm(kind, 0, &[Some(event.as_fd())])?;
    Ok(Some(event))
}

/// An event for a card that could tell before. If it cannot any more, nothing will ever come.
fn watch_again(device: &Device, kind: InterruptKind) -> Result<EventFd> {
    let event = EventFd::new()?;
    if let Err(error) = device.transport().arm(kind, 0, &[Some(event.as_fd())]) {
        tracing::warn!(%error, "a card that another process has opened tells nothing");
    }
    Ok(event)
}
