//! Which board a card is. Registers are only read, so it can be done while others use the card.

use crate::board::Board;
use crate::error::{Error, Result};
use jitney_designs::{self as designs, CardIds, Catalogue, Design, DmaIp, Facts};
use jitney_vfio::{Card, ErrorKind, Identity};
use jitney_xdma::{Direction, Xdma};
use std::sync::Arc;

/// Which board `card` is, by the built-in catalogue and the user's files.
///
/// # Errors
/// [`Error::UnknownBoard`] if no design has its ids, and what [`Catalogue::load`] answers.
pub fn identify(card: &Arc<dyn Card>) -> Result<Board> {
    identify_in(&Catalogue::load()?, card)
}

/// What `card` is found by in a catalogue.
#[must_use]
pub fn ids(card: &Identity) -> CardIds {
    CardIds {
        vendor: card.vendor,
        device: card.device,
        subsystem_vendor: card.subsystem_vendor,
        subsystem_device: card.subsystem_device,
        revision: card.revision,
    }
}

/// The XDMA on `card` whatever its ids are: the first BAR whose identifier registers say so. For a card that no
/// catalogue knows.
///
/// # Errors
/// What reading a register of the card answers.
pub fn probe(card: &Arc<dyn Card>) -> Result<Option<Xdma>> {
    let Some(bar) = Xdma::find(&**card)? else { return Ok(None) };
    Ok(Some(Xdma::identify(Arc::clone(card), bar)?))
}

/// Which board `card` is, by `catalogue`: by its PCI ids, and where designs share those, by a word in a register.
///
/// # Errors
/// [`Error::UnknownBoard`] if no design has its ids; [`Error::Card`] or [`Error::Xdma`] if a register that tells
/// variants of the design apart cannot be read; [`Error::Catalogue`] if a boards file names its design and is wrong.
pub fn identify_in(catalogue: &Catalogue, card: &Arc<dyn Card>) -> Result<Board> {
    let mut seen = String::new();
    for design in catalogue.candidates(ids(card.identity())) {
        if let Some(bad) = design.names().find_map(|name| catalogue.bad_file(name)) {
            return Err(designs::Error::clone(bad.error()).into());
        }
        let word = design.id_word.map(|place| register(card, place.bar, place.offset)).transpose()?;
        let facts = Facts { word, channels: channels(card, design)?, revision: card.identity().revision };
        let variant = design.variant(&facts);
        if let (Some(word), None) = (word, variant) {
            seen = format!(", and its id word reads {word:#010x}{}", in_quotes(word));
            continue;
        }
        let version_offset = design.id_word.and_then(|place| place.version_offset.map(|at| (place.bar, at)));
        return Ok(Board {
            card: Arc::clone(card),
            name: design.board_of(variant).to_owned(),
            variant: variant.and_then(|variant| variant.name.clone()),
            version: version_offset.map(|(bar, at)| register(card, bar, at)).transpose()?,
            memories: design.memory_of(variant).to_vec(),
            fpga: design.fpga_of(variant).to_vec(),
            design: Arc::clone(design),
        });
    }
    let unusable = catalogue.bad_files().map(|bad| format!("; not used: {}", bad.error())).collect();
    Err(Error::UnknownBoard { card: Box::new(card.identity().clone()), seen, unusable })
}
/// The channels that the XDMA has, H2C and C2H, if a variant of the design asks for them.
fn channels(card: &Arc<dyn Card>, design: &Design) -> Result<Option<[u8; 2]>> {
    let asked = design.variants.iter().any(|variant| variant.h2c.is_some() || variant.c2h.is_some());
    match design.dma {
        Some(dma) if asked && dma.ip == DmaIp::Xdma => {
            let xdma = Xdma::identify(Arc::clone(card), dma.bar.into())?;
            Ok(Some(
                Direction::ALL
                    .map(|direction| u8::try_from(xdma.channels(direction).len()).unwrap_or(u8::MAX)),
            ))
        }
        _ => Ok(None),
    }
}

fn register(card: &Arc<dyn Card>, bar: u8, offset: u64) -> Result<u32> {
    let region = card.bar(bar.into())?;
    let value = region.read32(offset)?;
    if value == u32::MAX {
        let what = format!(
            "{} reads as all-ones at {offset:#x}: its link is down or the card was reset",
            region.name()
        );
        return Err(jitney_vfio::Error::new(ErrorKind::LinkDown, what).into());
    }
    Ok(value)
}

/// The word as text, if it is text.
fn in_quotes(word: u32) -> String {
    match std::str::from_utf8(&word.to_be_bytes()) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => format!(" ({text:?})"),
        _ => String::new(),
    }
}
