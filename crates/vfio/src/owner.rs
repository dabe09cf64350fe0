//! The owner of cards: the one process that opens them and maps memory for them.

use crate::address::CardAddress;
use crate::address_space::AddressSpace;
use crate::buffers::Buffers;
use crate::dma::{DmaBuffer, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::open::{IommuInterface, open_together};
use crate::opened::OpenedCard;
use crate::owned::OwnedCard;
use std::sync::Arc;

/// The owner of one or more cards that share an address space, for use within this process.
///
/// A card stays open as long as the owner, the card or something that it handed out lives; a buffer stays mapped until
/// its last clone is gone. When all of them are gone nothing is left mapped.
#[derive(Debug)]
pub struct Owner {
    cards: Vec<Arc<OwnedCard>>,
    buffers: Arc<Buffers>,
}

impl Owner {
    /// Opens all of `addresses`, gives them one address space, and lets them start DMA (Bus Master Enable).
    ///
    /// # Errors
    /// As [`open_all`](crate::open_all); if one card cannot be opened, none stays open.
    pub fn open(addresses: &[CardAddress]) -> Result<Self> {
        Self::open_by(addresses, IommuInterface::Auto)
    }

    /// As [`open`](Self::open), by the interface `iommu` of the kernel.
    ///
    /// # Errors
    /// As [`open_together`]; if one card cannot be opened, none stays open.
    pub fn open_by(addresses: &[CardAddress], iommu: IommuInterface) -> Result<Self> {
        let (cards, space) = open_together(addresses, iommu)?;
        Self::of(cards, space)
    }

    /// The owner of `cards`, which are opened already and share `space`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is no card, or no address that all of them can use.
    pub fn of(cards: Vec<OpenedCard>, space: AddressSpace) -> Result<Self> {
        if cards.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "an owner needs at least one card"));
        }
        let buffers = Arc::new(Buffers::new(space)?);
        for card in &cards {
            card.device.set_bus_master(true)?;
        }
        let cards =
            cards.into_iter().map(|card| Arc::new(OwnedCard::new(card, Arc::clone(&buffers)))).collect();
        Ok(Self { cards, buffers })
    }

    /// The cards, in the order in which they were named.
    #[must_use]
    pub fn cards(&self) -> &[Arc<OwnedCard>] {
        &self.cards
    }

    /// Memory that this process and every card see. As [`Card::dma_buffer`](crate::Card::dma_buffer) of any of them.
    ///
    /// # Errors
    /// As there.
    pub fn dma_buffer(&self, request: impl Into<DmaRequest>) -> Result<DmaBuffer> {
        self.buffers.make(request.into())
    }
}
