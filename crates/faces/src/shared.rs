//! A card as all that was made of it has it, and the bus that it is of.

use crate::failure::{Failure, Kind};
use crate::slot::{Child, Slot};
use crate::window::Window;
use jitney::boards::Catalogue;
use jitney::boards::designs::names_of;
use jitney::vfio::{Card, Region};
use jitney::xdma::Xdma;
use jitney::{Bus, boards};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A bus that is open.
#[derive(Debug)]
pub struct SharedBus {
    /// The bus itself.
    pub slot: Slot<Bus>,
    /// Whether a buffer is one card's alone.
    pub isolated: bool,
}

/// A card that is open, with all that was made of it.
pub struct SharedCard {
    /// The card itself.
    pub slot: Slot<dyn Card>,
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
    /// A card of `bus`, if of any, that is looked up in `catalogue`, or else in the usual one.
    pub fn new(card: Arc<dyn Card>, bus: Option<Arc<SharedBus>>, catalogue: Option<Catalogue>) -> Arc<Self> {
        Arc::new(Self {
            slot: Slot::new("the card", card),
            bus: Mutex::new(bus),
            catalogue,
            board: Mutex::new(None),
            children: Mutex::new(Children::default()),
        })
    }

    /// Something that ends with the card.
    pub fn made<T: Send + Sync + 'static>(&self, what: &'static str, value: T) -> Arc<Slot<T>> {
        let slot = Arc::new(Slot::new(what, Arc::new(value)));
        let child: Arc<dyn Child> = Arc::clone(&slot) as _;
        self.adopt(&child);
        slot
    }

    /// Has `child` end with the card.
    pub fn adopt(&self, child: &Arc<dyn Child>) {
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
    ///
    /// # Errors
    /// [`Kind::NotFound`] if no design has its ids; what reading its registers says.
    pub fn board(self: &Arc<Self>) -> Result<Arc<boards::Board>, Failure> {
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
    pub fn views(&self) -> usize {
        self.children().iter().map(|child| child.views()).sum()
    }

    /// Ends all that was made of the card, latest first, and the card. Memory that an array looks at stays until that is gone.
    pub fn shut(&self) {
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
    pub fn bus(&self) -> Option<Arc<SharedBus>> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its address, for people.
    pub fn address(&self) -> String {
        self.slot.with(|card| card.identity().address.clone()).unwrap_or_else(|_| "closed".to_owned())
    }

    /// Its XDMA: where its board has it, else where one is found.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if it has none; what reading its registers says.
    pub fn xdma(self: &Arc<Self>) -> Result<Xdma, Failure> {
        match self.known_board()? {
            Some(board) => Ok(board.xdma()?),
            None => {
                let card = self.slot.get()?;
                boards::probe(&card)?.ok_or_else(|| {
                    Failure::new(Kind::NotFound, format!("{} has no XDMA that can be found", card.identity()))
                })
            }
        }
    }

    /// Which board it is, if anybody knows.
    fn known_board(self: &Arc<Self>) -> Result<Option<Arc<boards::Board>>, Failure> {
        match self.board() {
            Ok(board) => Ok(Some(board)),
            Err(failure) if failure.kind() == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// All of a region's registers.
    pub fn window(&self, region: Region) -> Window {
        Window::of(self.made("the registers", region.clone()), &region)
    }

    /// The registers of what has a name in the board's design, and of an XDMA, each with its name.
    ///
    /// # Errors
    /// What the card says.
    pub fn windows(self: &Arc<Self>) -> Result<Vec<(String, Window)>, Failure> {
        let mut all = Vec::new();
        let card = self.slot.get()?;
        // A card that nobody knows may still have an XDMA.
        if let Some(board) = &self.known_board()? {
            let peripherals = board.summary().peripherals;
            for (name, own) in names_of(&peripherals).into_iter().zip(&peripherals) {
                let region = card.bar(own.bar.into())?;
                let size = own.size.min(region.size().saturating_sub(own.offset));
                let part = self.window(region).part(&name, own.offset, size, Vec::new());
                all.push((name, part));
            }
        }
        if let Some(xdma) = boards::probe(&card)? {
            let region = card.bar(xdma.bar())?;
            let size = region.size();
            all.push(("xdma".into(), self.window(region).part("xdma", 0, size, xdma.registers())));
        }
        Ok(all)
    }

    /// What its sensors say, each with what measures it.
    ///
    /// # Errors
    /// As [`board`](Self::board); what a monitor says.
    pub fn readings(self: &Arc<Self>) -> Result<Vec<(String, boards::Reading)>, Failure> {
        let board = self.board()?;
        let mut all = Vec::new();
        for monitor in board.monitors()? {
            let readings = monitor.readings()?;
            all.extend(readings.into_iter().map(|reading| (monitor.name().to_owned(), reading)));
        }
        Ok(all)
    }
}

impl fmt::Debug for SharedCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedCard({})", self.address())
    }
}
