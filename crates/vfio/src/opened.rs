//! An opened card, before anybody arbitrates it: what an owner builds on, alone or as a broker.

use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::Grant;
use crate::identity::Identity;
use crate::notices::Notices;
use crate::transport::{InterruptKind, Mapper};
use jitney_memory::EventFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// A card that this process has opened and owns. Every BAR that can be mapped is mapped as long as it lives.
///
/// The kernel (4.18 to 6.x) sets a BAR up for mapping at the first map and without a lock, so that two processes that
/// map it for the first time at once meet `EBUSY`. The owner has mapped each before a grant leaves it.
#[derive(Debug)]
pub struct OpenedCard {
    /// Registers and interrupts.
    pub device: Device,
    /// What maps memory for it.
    pub mapper: Arc<dyn Mapper>,
    /// What tells its owner that it is wanted back or has failed. The kernel asks again every 10 seconds until all have let
    /// go of it.
    pub notices: Notices,
    vectors: Option<(InterruptKind, u32)>,
    /// Whether the vectors are enabled, wired or silent.
    enabled: Mutex<bool>,
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
        Ok(Self { device, mapper, notices, vectors, enabled: Mutex::new(false) })
    }

    /// Who the card is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.device.identity()
    }

    /// Something to hand to another process so that it reaches the card.
    ///
    /// # Errors
    /// What the transport says; for a vfio-user server as [`user::connect`](crate::user::connect).
    pub fn grant(&self) -> Result<Grant> {
        self.device.transport().grant()
    }

    /// How many interrupt vectors it has.
    #[must_use]
    pub fn vectors(&self) -> u32 {
        self.vectors.map_or(0, |(_, count)| count)
    }

    /// Wires one vector to an eventfd, or silences it, without disturbing the others.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such vector, [`ErrorKind::Unsupported`] if the card has none at all; what
    /// the transport says.
    pub fn wire(&self, vector: u16, event: Option<BorrowedFd<'_>>) -> Result<()> {
        let (kind, count) = self.check_vector(vector)?;
        let mut enabled = self.enabled.lock().unwrap_or_else(PoisonError::into_inner);
        if !*enabled {
            // The kernel enables as many vectors as the first call names, and to add one later it would have to take
            // all of them down. So all are enabled now, each silent.
            let silent = vec![None; usize::try_from(count).unwrap_or(0)];
            self.device.transport().arm(kind, 0, &silent)?;
            *enabled = true;
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
        let mut enabled = self.enabled.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some((kind, _))) = (*enabled, self.vectors) {
            self.device.transport().disarm(kind)?;
            *enabled = false;
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
