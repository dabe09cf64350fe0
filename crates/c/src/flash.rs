//! `jitney_flash`: a board's configuration flash.

use crate::boundary::{DONE, run};
use crate::card::Card;
use crate::handle::{self, object};
use crate::pointer::{BytesOut, field, give};
use jitney::boards;
use jitney_faces::{Failure, Kind, SharedCard};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A flash, identified, whose bus this program has until it is freed.
#[derive(Debug)]
pub struct Flash {
    flash: boards::Flash,
    _card: Arc<SharedCard>,
}
object!(Flash, 0x9a, "the flash");

/// What a flash is.
#[repr(C)]
#[derive(Debug)]
pub struct FlashInfo {
    /// What it is called; empty if its ID is not known.
    pub name: [c_char; 32],
    /// Who made it.
    pub maker: [c_char; 32],
    /// Its ID: maker, type, capacity, and what follows.
    pub id: [u8; 6],
    /// Bytes in all.
    pub size: u64,
    /// Bytes that are erased at once.
    pub sector: u64,
    /// Bytes that are programmed at once.
    pub page: u64,
}

/// Takes the bus of the board's configuration flash, and identifies it. `jitney flash write` is what writes to it.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_flash_open(card: *mut Card, flash: Option<&mut MaybeUninit<*mut Flash>>) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let found = card.board()?.quad_spi()?.lease()?.flash()?;
        let own = Flash { flash: found, _card: card };
        handle::hand_out(flash, own)
    })
}

/// What the flash is.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_flash_describe(
    flash: *mut Flash,
    info: Option<&mut MaybeUninit<FlashInfo>>,
) -> c_int {
    run(|| {
        let own = handle::get(flash)?;
        let part = own.flash.part();
        let found = FlashInfo {
            name: field(part.name.unwrap_or_default()),
            maker: field(&part.maker.to_string()),
            id: part.id,
            size: part.size,
            sector: part.sector,
            page: part.page,
        };
        give(info, found);
        DONE
    })
}

/// Reads `size` bytes from `address` on.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_flash_read(
    flash: *mut Flash,
    address: u64,
    mut data: BytesOut,
    size: usize,
) -> c_int {
    run(|| {
        let own = handle::get(flash)?;
        let all = own.flash.part().size;
        // Before room of any size is looked at.
        if address.checked_add(size as u64).is_none_or(|end| end > all) {
            let what =
                format!("{size:#x} bytes from {address:#x} on are not all in the flash, which has {all:#x}");
            return Err(Failure::new(Kind::OutOfBounds, what));
        }
        own.flash.read(address, data.get(size)?)?;
        DONE
    })
}

/// Frees a flash, and its bus is others'; NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_flash_free(flash: *mut Flash) -> c_int {
    run(|| handle::free(flash).and(DONE))
}
