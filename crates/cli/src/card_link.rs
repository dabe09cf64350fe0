//! A card's end of its PCIe link, as its configuration space has it.

use jitney_pci::config::SIZE;
use jitney_pci::express::LinkEnd;
use jitney_vfio::{Card, Result};

/// That of `card`; nothing if its configuration space says none, as that of a card on a bus without one.
pub(crate) fn end(card: &dyn Card) -> Result<Option<LinkEnd>> {
    let region = card.config()?;
    let mut bytes = [0; SIZE as usize];
    for (offset, word) in (0..).step_by(4).zip(bytes.chunks_exact_mut(4)) {
        word.copy_from_slice(&region.read32(offset)?.to_le_bytes());
    }
    Ok(LinkEnd::of(&bytes))
}
