//! The owner of cards: the one process that opens them and maps memory for them.

use crate::address::CardAddress;
use crate::address_space::AddressSpace;
use crate::buffers::Buffers;
use crate::dma::{DmaBuffer, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::open::{OpenOptions, OpenedSpace, open_all_with};
use crate::owned::OwnedCard;
use std::sync::Arc;

/// The owner of one or more cards, for use within this process. They share an address space unless they were opened to
/// be isolated.
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
    /// As [`open_all_with`]; if one card cannot be opened, none stays open.
    pub fn open(addresses: &[CardAddress]) -> Result<Self> {
        Self::open_with(addresses, OpenOptions::default())
    }

    /// As [`open`](Self::open), but as `options` say.
    ///
    /// # Errors
    /// As [`open_all_with`]; if one card cannot be opened, none stays open.
    pub fn open_with(addresses: &[CardAddress], options: OpenOptions) -> Result<Self> {
        Self::of(open_all_with(addresses, options)?)
    }

    /// The owner of the cards of `spaces`, which are opened already.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is no card, or no address that all of them can use.
    pub fn of(spaces: Vec<OpenedSpace>) -> Result<Self> {
        if spaces.iter().all(|opened| opened.cards.is_empty()) {
            return Err(Error::new(ErrorKind::Invalid, "an owner needs at least one card"));
        }
        let all = AddressSpace::joined(spaces.iter().map(|opened| &opened.space));
        let buffers = Arc::new(Buffers::new(all)?);
        let mut cards = Vec::new();
        for OpenedSpace { cards: opened, space } in spaces {
            let part = Arc::new(buffers.of_part(space));
            for card in opened {
                card.set_bus_master(true)?;
                cards.push(Arc::new(OwnedCard::new(card, Arc::clone(&part))));
            }
        }
        Ok(Self { cards, buffers })
    }

    /// The cards: those of one address space after the other, in each in the order in which they were named.
    #[must_use]
    pub fn cards(&self) -> &[Arc<OwnedCard>] {
        &self.cards
    }

    /// Memory that this process and every card see, at the same IOVA. What only one card of several that are isolated
    /// should see comes from its own [`Card::dma_buffer`](crate::Card::dma_buffer).
    ///
    /// # Errors
    /// As there.
    pub fn dma_buffer(&self, request: impl Into<DmaRequest>) -> Result<DmaBuffer> {
        self.buffers.make(request.into())
    }
}
