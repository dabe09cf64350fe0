//! The word that confirms a design, and what is different on some of its cards.

use super::{Check, LARGEST_BAR, ensure};
use crate::design::{Design, IdWord};
use crate::peripheral::Kind;
use crate::place::KeyPath;

pub(super) fn check(design: &Design, at: &KeyPath) -> Check {
    if let Some(word) = &design.id_word {
        check_word(design, word, &at.clone().key("id_word"))?;
    }
    for (index, variant) in design.variants.iter().enumerate() {
        let place = at.clone().key("variants").index(index);
        let key = |name: &'static str| || place.clone().key(name);
        let by_channels = variant.h2c.is_some() || variant.c2h.is_some();
        let conditional = variant.word.is_some() || !variant.revisions.is_empty() || by_channels;
        ensure(conditional, || place.clone(), || "it needs a condition: word, revisions, h2c or c2h".into())?;
        if let Some(word) = &variant.word {
            let readable =
                word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            ensure(readable, key("word"), || format!("{word:?} is not four ASCII characters"))?;
            ensure(design.id_word.is_some(), key("word"), || {
                "the design has no id_word that says where to read it".into()
            })?;
        }
        let field = if variant.h2c.is_some() { "h2c" } else { "c2h" };
        ensure(!by_channels || design.has_xdma(), key(field), || "the design has no XDMA".into())?;
        ensure(variant.h2c <= Some(4) && variant.c2h <= Some(4), key(field), || {
            "an XDMA has 4 channels in each direction at most".into()
        })?;
        let possible =
            design.revisions.is_empty() || variant.revisions.iter().all(|own| design.revisions.contains(own));
        ensure(possible, key("revisions"), || "one of them is none of the design's revisions".into())?;
        let named = variant.board.as_ref().is_none_or(|board| !board.trim().is_empty());
        ensure(named, key("board"), || "a board has a name".into())?;
        super::check_fpga(&variant.fpga, &place.clone().key("fpga"))?;
        let again = design.variants[..index].iter().any(|other| {
            let same = (&other.word, &other.revisions) == (&variant.word, &variant.revisions);
            same && (other.h2c, other.c2h) == (variant.h2c, variant.c2h)
        });
        ensure(!again, || place.clone(), || "an earlier variant has the same conditions".into())?;
    }
    Ok(())
}

fn check_word(design: &Design, word: &IdWord, at: &KeyPath) -> Check {
    let offsets = || [Some(word.offset), word.version_offset].into_iter().flatten();
    let fits = |offset: u64| offset.is_multiple_of(4) && offset < LARGEST_BAR;
    ensure(
        word.bar < 6 && offsets().all(fits),
        || at.clone(),
        || "it has to be in BAR 0 to 5, at a multiple of 4 bytes".into(),
    )?;
    let apart = design.dma.is_none_or(|dma| !dma.uses(word.bar));
    ensure(apart, || at.clone().key("bar"), || format!("BAR {} is the DMA engine's", word.bar))?;
    ensure(
        word.version_offset != Some(word.offset),
        || at.clone().key("version_offset"),
        || "the version is where the id word is".into(),
    )?;
    ensure(
        word.usual_version == 0 || word.version_offset.is_some(),
        || at.clone().key("usual_version"),
        || "version_offset does not say where the version is".into(),
    )?;
    for offset in offsets() {
        let frame = design.peripherals.iter().find(|own| own.contains(word.bar, offset));
        let Some(frame) = frame else { continue };
        let inside = offset - frame.offset;
        let possible = match frame.kind {
            // A GPIO of which one channel is said has no second.
            Kind::AxiGpio => inside == 0 || (inside == 8 && frame.pins.len() != 1),
            Kind::Ram => false,
            kind => !kind.has_own_registers(),
        };
        ensure(
            possible,
            || at.clone().key("offset"),
            || {
                format!(
                    "{offset:#x} is in the {} at {:#x}, at a register that holds something else",
                    frame.kind, frame.offset
                )
            },
        )?;
    }
    let expected =
        !design.variants.is_empty() && design.variants.iter().all(|variant| variant.word.is_some());
    ensure(expected, || at.clone(), || "it needs variants, each of which says which word it expects".into())
}
