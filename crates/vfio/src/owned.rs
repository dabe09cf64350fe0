//! A card in the process that owns it.

use crate::buffers::Buffers;
use crate::card::Card;
use crate::dma::{DmaBuffer, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{BarInfo, Identity};
use crate::interrupt::Interrupt;
use crate::keeper::{Handed, Keeper};
use crate::lease::{Granted, LeaseId, LeaseRequest, LeaseTable, Mode, Part};
use crate::leased::Lease;
use crate::notices::Notices;
use crate::opened::OpenedCard;
use crate::region::Region;
use crate::running_will::RunningWill;
use crate::shared_interrupt::{SharedInterrupt, SharedVectors};
use crate::still_used::StillUsed;
use crate::will::Will;
use jitney_memory::EventFd;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A card in the process that owns it. What it hands out keeps it open.
///
/// A will is carried out if its lease is dropped by a panic. If this process is killed there is nobody left to do so.
#[derive(Debug)]
pub struct OwnedCard {
    desk: Arc<Desk>,
    buffers: Arc<Buffers>,
    shared: SharedVectors,
    still_used: StillUsed,
}

/// The card and who has which part of it. All holders are parts of this process, so they need no name.
#[derive(Debug)]
struct Desk {
    card: OpenedCard,
    leases: Mutex<Leases>,
}

#[derive(Debug, Default)]
struct Leases {
    table: LeaseTable<()>,
    last: u64,
}

impl OwnedCard {
    /// `card`, whose buffers are those of its address space.
    pub(crate) fn new(card: OpenedCard, buffers: Arc<Buffers>) -> Self {
        Self {
            desk: Arc::new(Desk { card, leases: Mutex::default() }),
            buffers,
            shared: SharedVectors::default(),
            still_used: StillUsed::default(),
        }
    }

    /// The card without arbitration: its device, vectors.
    fn opened(&self) -> &OpenedCard {
        &self.desk.card
    }

    /// A lease, also if this process has leases on the parts `but_for`.
    fn lease_beside(&self, request: LeaseRequest, but_for: &[Part]) -> Result<Lease> {
        let card = self.identity();
        request.will.check(self.bars(), card)?;
        let part = request.part.clone();
        let mut leases = self.desk.leases();
        leases.last += 1;
        let id = LeaseId(leases.last);
        leases
            .table
            .grant_beside(id, (), request, |other| but_for.contains(&other.request.part))
            .map_err(|other| held(card, &part, other))?;
        Ok(Lease::new(part, id, Arc::clone(&self.desk) as _))
    }

    /// Ends engines that did not stop, since nobody has the card any more who could: then all that they may have used goes back.
    fn end_engines(&self) -> Result<()> {
        // Somebody's lease has outlived the card's handle.
        self.lease_beside(LeaseRequest::exclusive(Part::whole()), &self.still_used.parts())?;
        self.opened().set_bus_master(false)?;
        self.opened().reset()
    }

    /// The live leases, oldest first.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseRequest> {
        self.desk.leases().table.iter().map(|lease| lease.request.clone()).collect()
    }
}

impl Card for OwnedCard {
    fn identity(&self) -> &Identity {
        self.opened().identity()
    }

    fn bars(&self) -> &[BarInfo; 6] {
        self.opened().bars()
    }

    fn bar(&self, index: usize) -> Result<Region> {
        self.opened().device().bar(index)
    }

    fn config(&self) -> Result<Region> {
        self.opened().device().config()
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.buffers.make(request)
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        self.still_used.look_again();
        self.lease_beside(request, &[])
    }

    fn vectors(&self) -> Result<u32> {
        Ok(self.opened().vectors())
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        let (kind, _) = self.opened().check_vector(vector)?;
        let lease = self.lease(LeaseRequest::exclusive(Part::interrupt(vector)))?;
        let event = EventFd::new()?;
        self.opened().wire(vector, Some(event.as_fd()))?;
        Ok(Interrupt::new(vector, event, lease, Arc::clone(&self.desk) as _, (kind, self.opened().device())))
    }

    fn shared_interrupt(&self, vector: u16, source: u8) -> Result<SharedInterrupt> {
        self.shared.join(vector, source, || self.interrupt(vector))
    }

    fn notices(&self) -> Result<Notices> {
        Ok(self.opened().notices().clone())
    }

    fn still_used(&self) -> &StillUsed {
        &self.still_used
    }

    fn reset(&self) -> Result<()> {
        let _whole = self.lease_beside(LeaseRequest::exclusive(Part::whole()), &self.still_used.parts())?;
        // What an engine is given from here on is not known to be unused after the reset.
        let still_used = self.still_used.take();
        if let Err(error) = self.opened().reset() {
            self.still_used.put_back(still_used);
            return Err(error);
        }
        drop(still_used);
        // A driver that could not reach its engine may have switched it off; nothing runs any more now.
        self.opened().set_bus_master(true)
    }
}

impl Drop for OwnedCard {
    fn drop(&mut self) {
        self.still_used.look_again();
        if self.still_used.parts().is_empty() {
            return;
        }
        let outcome = self.end_engines();
        let still_used = self.still_used.take();
        match outcome {
            Ok(()) => {}
            // A card that is gone reaches no memory.
            Err(error) if error.kind() == ErrorKind::LinkDown => {}
            Err(error) => {
                let card = self.identity();
                tracing::warn!(%card, %error, "memory stays that an engine may still use: the card could not be reset");
                // With it the card stays open, and the memory mapped.
                std::mem::forget(still_used);
            }
        }
    }
}

fn held(card: &Identity, part: &Part, other: &Granted<()>) -> Error {
    let how = match other.request.mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    };
    let which = match other.request.part == *part {
        true => String::new(),
        false => format!(" on {:?}", other.request.part.name()),
    };
    Error::new(
        ErrorKind::Held,
        format!(
            "{:?} of card {card} is taken: this process itself has {how} rights{which} (pid {})",
            part.name(),
            std::process::id()
        ),
    )
    .with_remedy("drop the other lease first, or share it")
}

impl Desk {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        // Every change of the table is complete in itself.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Carries out the will of a lease, which is still held meanwhile.
    fn carry_out(&self, id: LeaseId) -> Result<()> {
        let will =
            self.leases().table.iter().find(|lease| lease.id == id).map(|lease| lease.request.will.clone());
        match will {
            Some(will) if will != Will::none() => RunningWill::new([will]).finish(&self.card),
            _ => Ok(()),
        }
    }
}

impl Keeper for Desk {
    fn take_back(&self, what: Handed) -> Result<()> {
        match what {
            Handed::Lease { id } => {
                // A panic is no goodbye: what the holder drove may still run.
                let done = if std::thread::panicking() { self.carry_out(id) } else { Ok(()) };
                match self.leases().table.release(id, &()) {
                    Some(_) => done,
                    None => Err(Error::new(ErrorKind::NotFound, format!("there is no lease {}", id.0))),
                }
            }
            Handed::Interrupt { vector } => self.card.wire(vector, None),
            Handed::Buffer { iova } => {
                Err(Error::new(ErrorKind::Invalid, format!("the buffer at IOVA {iova:#x} is not the card's")))
            }
        }
    }
}
