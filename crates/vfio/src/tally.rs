//! What a program has moved by the channels of its cards: counted by its drivers, for people who watch.
//!
//! A client of a broker counts in a page of memory that it shares with the broker, so that counting takes two stores and asks nobody.
//! What is in the page is the client's word, and nothing but figures for people is made of it.

use crate::error::Result;
use crate::lease::Part;
use jitney_memory::{Access, Mapping};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

/// A channel's place in the page, in bytes: state, name, bytes, transfers, failures.
const SLOT: u64 = 64;
const SLOTS: u64 = TallyPage::SIZE / SLOT;
const NAME: u64 = 8;
const BYTES: u64 = 40;
const TRANSFERS: u64 = 48;
const FAILURES: u64 = 56;

/// Where a driver counts what one channel moves. The default counts nowhere.
///
/// One thread at a time uses it.
#[derive(Debug, Default)]
pub struct Tally(Option<Place>);

#[derive(Debug)]
struct Place {
    page: Arc<Mapping>,
    at: u64,
}

impl Tally {
    /// A transfer has moved so many bytes.
    pub fn moved(&self, bytes: u64) {
        self.add(BYTES, bytes);
        self.add(TRANSFERS, 1);
    }

    /// A transfer has failed.
    pub fn failed(&self) {
        self.add(FAILURES, 1);
    }

    fn add(&self, field: u64, more: u64) {
        let Some(Place { page, at }) = &self.0 else { return };
        // A slot is inside of the page.
        if let Ok(before) = page.load_acquire64(at + field) {
            let _ = page.store_release64(at + field, before.wrapping_add(more));
        }
    }
}

/// A page in which a program counts.
#[derive(Debug)]
pub struct TallyPage {
    page: Arc<Mapping>,
    taken: Mutex<()>,
}

impl TallyPage {
    /// The size of the page in bytes.
    pub const SIZE: u64 = 4096;

    /// The page in `memory`.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(memory: impl AsFd) -> Result<Self> {
        Ok(Self { page: Arc::new(map(memory, Access::ReadWrite)?), taken: Mutex::default() })
    }

    /// Where to count what `part` of card number `card` moves: from where it was counted before, or nowhere if the page is full.
    #[must_use]
    pub fn tally(&self, card: u32, part: &Part) -> Tally {
        let _one_at_a_time = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let state = u64::from(card) + 1;
        for at in (0..SLOTS).map(|slot| slot * SLOT) {
            let is_ours = match self.page.load_acquire64(at) {
                // The name first: with the state the slot is there.
                Ok(0) => self
                    .page
                    .write(at + NAME, part.name().as_bytes())
                    .and_then(|()| self.page.store_release64(at, state))
                    .is_ok(),
                Ok(taken) => taken == state && name(&self.page, at).as_ref() == Some(part),
                Err(_) => false,
            };
            if is_ours {
                return Tally(Some(Place { page: Arc::clone(&self.page), at }));
            }
        }
        Tally::default()
    }
}

/// What one channel has moved, as its program says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The number of the card.
    pub card: u32,
    /// The channel.
    pub part: Part,
    /// How many bytes.
    pub bytes: u64,
    /// In how many transfers that ended well.
    pub transfers: u64,
    /// How many failed.
    pub failures: u64,
}

/// A program's page, to be read. It may have anything in it.
#[derive(Debug)]
pub struct TallyReader(Mapping);

impl TallyReader {
    /// The page in `memory`, which must not shrink.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(memory: impl AsFd) -> Result<Self> {
        Ok(Self(map(memory, Access::ReadOnly)?))
    }

    /// What the program has counted. What is no channel is left out.
    #[must_use]
    pub fn read(&self) -> Vec<Moved> {
        let slot = |at: u64| {
            let load = |field| self.0.load_acquire64(at + field).ok();
            let card = u32::try_from(load(0)?.checked_sub(1)?).ok()?;
            let part = name(&self.0, at)?;
            let (bytes, transfers, failures) = (load(BYTES)?, load(TRANSFERS)?, load(FAILURES)?);
            Some(Moved { card, part, bytes, transfers, failures })
        };
        (0..SLOTS).filter_map(|number| slot(number * SLOT)).collect()
    }
}

fn map(memory: impl AsFd, access: Access) -> Result<Mapping> {
    let size = usize::try_from(TallyPage::SIZE).unwrap_or(4096);
    Ok(Mapping::shared(memory, 0, size, access)?)
}

/// The name in a slot, if it is one.
fn name(page: &Mapping, at: u64) -> Option<Part> {
    let mut bytes = [0; Part::MAX_LENGTH];
    page.read(at + NAME, &mut bytes).ok()?;
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..length]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_memory::{Memfd, PageSize};
    use proptest::prelude::*;

    fn page() -> (TallyPage, TallyReader, Memfd) {
        let memory = Memfd::create("a test's figures", TallyPage::SIZE, PageSize::Normal).unwrap();
        (TallyPage::new(&memory).unwrap(), TallyReader::new(&memory).unwrap(), memory)
    }

    fn part(name: &str) -> Part {
        name.parse().unwrap()
    }

    #[test]
    fn what_is_counted_is_read() {
        let (page, reader, _memory) = page();
        assert_eq!(reader.read(), []);
        let (h2c, c2h) = (page.tally(0, &part("h2c0")), page.tally(7, &part("c2h0")));
        h2c.moved(4096);
        h2c.moved(10);
        c2h.failed();
        let moved = |card, name, bytes, transfers, failures| Moved {
            card,
            part: part(name),
            bytes,
            transfers,
            failures,
        };
        assert_eq!(reader.read(), [moved(0, "h2c0", 4106, 2, 0), moved(7, "c2h0", 0, 0, 1)]);
        // A channel that is opened again goes on counting.
        drop(h2c);
        page.tally(0, &part("h2c0")).moved(1);
        assert_eq!(reader.read()[0], moved(0, "h2c0", 4107, 3, 0));
    }

    #[test]
    fn a_page_that_is_full_is_no_error() {
        let (page, reader, _memory) = page();
        for card in 0..100 {
            page.tally(card, &part("h2c0")).moved(1);
        }
        let read = reader.read();
        assert_eq!(read.len(), 64);
        assert!(read.iter().all(|moved| moved.bytes == 1));
        Tally::default().moved(1);
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_page_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 4096)) {
            let (page, reader, _memory) = page();
            page.page.write(0, &bytes).unwrap();
            for moved in reader.read() {
                prop_assert!(!moved.part.name().is_empty());
            }
            page.tally(3, &part("c2h0")).moved(1);
        }
    }
}
