//! A card as all that was made of it has it, and the bus that it is of.

use crate::failure::Failure;
use crate::slot::{Child, Slot};
use jitney::boards::Catalogue;
use jitney::vfio::Card;
use jitney::{Bus, boards};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A bus that is open.
pub(crate) struct SharedBus {
    pub(crate) slot: Slot<Bus>,
    /// Whether a buffer is one card's alone.
    pub(crate) isolated: bool,
}

/// A card that is open, with all that was made of it.
pub(crate) struct SharedCard {
    pub(crate) slot: Slot<dyn Card>,
    /// For as long as the card is open.
    bus: Mutex<Option<Arc<SharedBus>>>,
    /// What it is looked up in, if not the usual.
    catalogue: Option<Catalogue>,
    board: Mutex<Option<Arc<Slot<boards::Board>>>>,
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    list: Vec<Weak<dyn Child>>,
    /// How many there may be before those that are gone are looked for.
    limit: usize,
}

impl SharedCard {
    pub(crate) fn new(
        card: Arc<dyn Card>,
        bus: Option<Arc<SharedBus>>,
        catalogue: Option<Catalogue>,
    ) -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new("the card", card),
            bus: Mutex::new(bus),
            catalogue,
            board: Mutex::new(None),
            children: Mutex::new(Children::default()),
        })
    }

    /// Something that ends with the card.
    pub(crate) fn made<T: Send + Sync + 'static>(&self, what: &'static str, value: T) -> Arc<Slot<T>> {
        let slot = Arc::new(Slot::new(what, Arc::new(value)));
        let child: Arc<dyn Child> = Arc::clone(&slot) as _;
        self.adopt(&child);
        slot
    }

    pub(crate) fn adopt(&self, child: &Arc<dyn Child>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        if children.list.len() >= children.limit {
            children.list.retain(|child| child.strong_count() > 0);
            children.limit = 2 * children.list.len() + 16;
        }
        children.list.push(Arc::downgrade(child));
    }

    fn children(&self) -> Vec<Arc<dyn Child>> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.list.iter().filter_map(Weak::upgrade).collect()
    }

    /// Which board it is; looked for when it is first asked.
    pub(crate) fn board(self: &Arc<Self>) -> Result<Arc<boards::Board>, Failure> {
        let card = self.slot.get()?;
        let mut known = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(board) = &*known {
            return board.get();
        }
        let board = match &self.catalogue {
            Some(catalogue) => boards::identify_in(catalogue, &card)?,
            None => boards::identify(&card)?,
        };
        let slot = self.made("the board", board);
        let board = slot.get()?;
        *known = Some(slot);
        Ok(board)
    }

    /// How many arrays look at memory of the card.
    pub(crate) fn views(&self) -> usize {
        self.children().iter().map(|child| child.views()).sum()
    }

    /// Ends all that was made of the card, latest first, and the card. Memory that an array looks at stays until that is gone.
    pub(crate) fn shut(&self) {
        let children = self.children();
        children.iter().rev().for_each(|child| child.shut());
        drop(children);
        drop(self.slot.take());
        if self.slot.check().is_ok() {
            let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(bus);
        }
    }

    /// The bus that it is of; nothing if it is closed.
    pub(crate) fn bus(&self) -> Option<Arc<SharedBus>> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its address, for people.
    pub(crate) fn address(&self) -> String {
        self.slot.with(|card| card.identity().address.clone()).unwrap_or_else(|_| "closed".to_owned())
    }
}
