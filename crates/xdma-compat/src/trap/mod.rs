//! Registers by plain loads and stores of the program's.
//!
//! A BAR that can be mapped (of a real card, and of an emulated board where it is memory) is mapped: a load is a load.
//! One that only messages reach gets a range of addresses without memory. A load or store there is a fault, and
//! its instruction is carried out here with a message in the place of the access ([`step`]), after which the program
//! goes on. An access takes as long as a message and its answer, some ten microseconds.

mod context;
mod handler;
mod step;
mod windows;

pub(crate) use handler::{Action, mask_without_faults, replace_action};
pub(crate) use windows::{is_window, unmap};

use crate::card::Card;
use crate::failure::{Failure, Outcome};
use crate::node::Node;
use crate::placeholder::Opened;
use rustix::io::Errno;
use std::sync::Arc;
use windows::{PAGE, Way};

/// What a program asks of `mmap`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) address: usize,
    pub(crate) length: usize,
    pub(crate) protection: i32,
    pub(crate) flags: i32,
    pub(crate) offset: i64,
}

/// Maps registers; where they are.
///
/// # Errors
/// As `mmap` of the driver: EINVAL for a range beyond the BAR; and EOPNOTSUPP for what cannot be kept.
pub(crate) fn map(card: &Card, opened: Opened, wanted: Wanted) -> Outcome<usize> {
    let Opened { node, access } = opened;
    let region = card.region(node)?;
    let writes = wanted.protection & libc::PROT_WRITE != 0;
    if !access.reads() || writes && !access.writes() {
        return Err(Failure::new(Errno::ACCESS, "the descriptor was not opened for that"));
    }
    if wanted.flags & libc::MAP_TYPE == libc::MAP_PRIVATE {
        let why = "registers cannot be mapped with MAP_PRIVATE, which would keep writes from the card: use MAP_SHARED";
        return Err(Failure::new(Errno::INVAL, why));
    }
    let pages = region.size().next_multiple_of(PAGE as u64);
    let offset = u64::try_from(wanted.offset).ok().filter(|offset| offset.is_multiple_of(PAGE as u64));
    let length = wanted.length.checked_next_multiple_of(PAGE).filter(|length| *length > 0);
    let (Some(offset), Some(length)) = (offset, length) else {
        return Err(Failure::new(
            Errno::INVAL,
            "offsets are multiples of a page, and lengths more than zero",
        ));
    };
    if offset.checked_add(length as u64).is_none_or(|end| end > pages) {
        let why = format!(
            "{length:#x} bytes at {offset:#x} are beyond {}, which has {:#x} bytes",
            region.name(),
            region.size()
        );
        return Err(Failure::new(Errno::INVAL, why));
    }
    let whole = region.registers().filter(|registers| registers.len() as u64 == region.size());
    match whole {
        Some(_) if wanted.flags & libc::MAP_FIXED != 0 => {
            let why = "registers of a card that can be mapped are where they are: MAP_FIXED cannot be kept";
            Err(Failure::new(Errno::OPNOTSUPP, why))
        }
        Some(registers) => {
            let base =
                usize::try_from(registers.address() + offset).map_err(|_| Failure::silent(Errno::NOMEM))?;
            windows::add(base, length, node, offset, Way::Mapped)?;
            // For as long as the process: the program's pointers into it are not ours to count.
            std::mem::forget(Arc::clone(registers));
            Ok(base)
        }
        None => {
            handler::install();
            windows::reserve(wanted, length, node, offset)
        }
    }
}

/// Says that an access could not be carried out, and what becomes of it.
fn complain_of(node: Node, what: &str, failure: &Failure) {
    crate::failure::complain(format_args!("{what} of registers of {node}"), failure);
}
