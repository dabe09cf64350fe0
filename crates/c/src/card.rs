//! `jitney_card`.

use crate::boundary::{DONE, run};
use crate::buffer::{Buffer, BufferOptions, request};
use crate::bus::{Bus, CardInfo};
use crate::handle::{self, object};
use crate::pointer::{Text, give};
use jitney::emulated::EmulatedCard;
use jitney_faces::{Failure, Kind, Reach, SharedCard, choose};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A card that is open.
#[derive(Debug)]
pub struct Card {
    pub(crate) shared: Arc<SharedCard>,
    emulated: Option<EmulatedCard>,
}
object!(Card, 0x92, "the card");

impl Card {
    pub(crate) const fn new(shared: Arc<SharedCard>, emulated: Option<EmulatedCard>) -> Self {
        Self { shared, emulated }
    }

    /// The board behind the card, if it is emulated in this process.
    pub(crate) fn emulated(&self) -> Result<&EmulatedCard, Failure> {
        self.emulated.as_ref().ok_or_else(|| {
            let what = format!("{} is not emulated in this process", self.shared.address());
            Failure::new(Kind::Unsupported, what).with_remedy("open it by jitney_card_emulate")
        })
    }
}

/// Opens a card of a bus: by its address, `vendor:device` in hexadecimal, the name of its board, `serial:00-00-00-01-01-00-0a-35` or
/// `dna:4002000000000001000000ab`; NULL for the only one there is. `-ENOENT` if there is none or more than one, which the error names.
///
/// It stays open until it and all that was made of it is freed, in any order; the bus may be freed before.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_open(
    bus: *mut Bus,
    selector: Text,
    card: Option<&mut MaybeUninit<*mut Card>>,
) -> c_int {
    run(|| {
        let bus = handle::get(bus)?;
        let selector = selector.get("the selector")?;
        let opened =
            choose(&bus.shared, |find| selector.into_iter().fold(find, |find, text| find.named(text)))?;
        let shared = SharedCard::new(opened, Some(Arc::clone(&bus.shared)), None);
        handle::hand_out(card, Card::new(shared, None))
    })
}

/// Frees a card; NULL is none. What was made of it goes on.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_free(card: *mut Card) -> c_int {
    run(|| handle::free(card).and(DONE))
}

/// Who the card is, its BARs and its vectors.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_describe(card: *mut Card, info: Option<&mut MaybeUninit<CardInfo>>) -> c_int {
    run(|| {
        let card = handle::get(card)?.shared.slot.get()?;
        let mut found = CardInfo::new(card.identity());
        found.bars = card.bars().map(|bar| bar.size);
        found.vectors = card.vectors()?;
        found.serial = card.serial_number()?.map_or(0, |serial| serial.0);
        give(info, found);
        DONE
    })
}

/// Memory of `size` bytes or more that this process and the card see; `options` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_buffer(
    card: *mut Card,
    size: u64,
    options: Option<&BufferOptions>,
    buffer: Option<&mut MaybeUninit<*mut Buffer>>,
) -> c_int {
    run(|| {
        let shared = Arc::clone(&handle::get(card)?.shared);
        let memory = shared.slot.get()?.dma_buffer(request(size, options)?)?;
        handle::hand_out(buffer, Buffer::new(memory, Reach::of_card(&shared), Some(shared)))
    })
}

/// Resets the card. `-EBUSY` while anybody uses a part of it.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_reset(card: *mut Card) -> c_int {
    run(|| {
        handle::get(card)?.shared.slot.get()?.reset()?;
        DONE
    })
}
