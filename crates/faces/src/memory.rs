//! DMA memory: which cards see it, and how it is given back while others may use it.

use crate::failure::Failure;
use crate::shared::{SharedBus, SharedCard};
use crate::slot::Slot;
use jitney::vfio::DmaBuffer;
use std::sync::{Arc, Weak};

/// Which cards see a buffer.
#[derive(Debug, Clone)]
pub struct Reach {
    /// The card that it was asked for, if not for all of a bus.
    card: Option<Weak<SharedCard>>,
    bus: Option<Weak<SharedBus>>,
}

impl Reach {
    /// Of a buffer of this card.
    #[must_use]
    pub fn of_card(card: &Arc<SharedCard>) -> Self {
        Self { card: Some(Arc::downgrade(card)), bus: card.bus().as_ref().map(Arc::downgrade) }
    }

    /// Of a buffer of this bus.
    #[must_use]
    pub fn of_bus(bus: &Arc<SharedBus>) -> Self {
        Self { card: None, bus: Some(Arc::downgrade(bus)) }
    }

    /// Refuses a card that does not see the buffer where it says.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid).
    pub fn check(&self, card: &Arc<SharedCard>) -> Result<(), Failure> {
        let same_card = self.card.as_ref().map(|own| own.ptr_eq(&Arc::downgrade(card)));
        let bus = card.bus();
        let same_bus = self.bus.as_ref().zip(bus.as_ref());
        let same_bus = same_bus.filter(|(own, bus)| own.ptr_eq(&Arc::downgrade(bus)));
        // A card of an isolated bus sees its own, and what is for all.
        let seen = same_bus.is_some_and(|(_, bus)| !bus.isolated || same_card.is_none());
        if same_card == Some(true) || seen {
            return Ok(());
        }
        let what = "the buffer is of another card or bus, and this card does not see it";
        Err(Failure::invalid(what).with_remedy("make it by this card's buffer()"))
    }
}

/// Gives back what is in `slot`, and waits until no card reaches it any more; says whether it was, which it is not if somebody uses
/// it. Of a buffer that is `shared` it is not known who uses it: its memory goes when that ends.
///
/// # Errors
/// What giving it back says.
pub fn free(slot: &Slot<DmaBuffer>, shared: bool) -> Result<bool, Failure> {
    let Some(buffer) = slot.take() else { return Ok(true) };
    let freed = match Arc::try_unwrap(buffer) {
        Ok(buffer) if shared => Ok(buffer.free()),
        Ok(buffer) => match buffer.into_own() {
            Ok(own) => Ok(own.into_shared().free()),
            Err(buffer) => Err(Arc::new(buffer)),
        },
        Err(buffer) => Err(buffer),
    };
    match freed {
        Ok(freed) => Ok(freed.map(|()| true)?),
        Err(buffer) => {
            slot.put(buffer);
            Ok(false)
        }
    }
}
