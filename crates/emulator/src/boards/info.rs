//! What there is to say about an emulated board.

use super::board::Replaced;
use super::card::Card;
use super::models::has_model;
use jitney_designs::{Design, DmaIp, Kind, Memory, Peripheral};
use std::fmt::Write;

/// What of a board is not as on a card, a line each.
pub(super) fn approximations(design: &Design, card: &Card, replaced: &Replaced) -> Vec<String> {
    let mut lines = Vec::new();
    match design.dma {
        Some(dma) if dma.ip == DmaIp::Qdma => lines.push(format!(
            "its QDMA is not emulated: BAR {} is there and holds plain registers, and no DMA moves anything",
            dma.bar
        )),
        _ => {}
    }
    let plain =
        present(design, card).filter(|(index, own)| !has_model(own.kind) && replaced.model(*index).is_none());
    let plain: Vec<String> = plain.map(|(_, own)| place(own)).collect();
    if !plain.is_empty() {
        lines.push(format!("plain registers stand for what has no model: {}", plain.join(", ")));
    }
    lines
}

/// A board in a line: `NiteFury: XDMA 1+1, 1 GiB ddr`.
pub(super) fn summary(design: &Design, card: &Card) -> String {
    let dma = dma(design, card).unwrap_or_else(|| "no DMA".into());
    let memory = card.memory.iter().map(|memory| format!(", {}", amount(memory))).collect::<String>();
    format!("{}: {dma}{memory}", card.board)
}

/// A board in a few lines.
pub(super) fn info(design: &Design, card: &Card, replaced: &Replaced) -> String {
    let [vendor, device, sub_vendor, sub_device] = card.ids;
    let mut text = format!("{vendor:04x}:{device:04x}, subsystem {sub_vendor:04x}:{sub_device:04x}");
    let revision = match card.version {
        Some(version) => format!("version {version}"),
        None => format!("revision {}", card.revision),
    };
    let _ = writeln!(text, ", {revision}");
    for (index, bar) in design.card_bars().iter().enumerate() {
        let Some(bar) = bar else { continue };
        let content = match design.dma {
            Some(own) if usize::from(own.bar) == index => dma(design, card).unwrap_or_default(),
            Some(own) if own.bypass.is_some_and(|bypass| usize::from(bypass.bar) == index) => {
                "the card's memory, without DMA".to_owned()
            }
            _ => {
                let here = present(design, card).filter(|(_, own)| usize::from(own.bar) == index);
                here.map(|(_, own)| place_in_bar(own)).collect::<Vec<_>>().join(", ")
            }
        };
        let _ = writeln!(text, "BAR{index} {:>8}: {content}", size(bar.size));
    }
    for memory in &card.memory {
        let _ = writeln!(text, "Memory: {} at {:#x}", amount(memory), memory.base);
    }
    for line in approximations(design, card, replaced) {
        let mut line = line.chars();
        let first: String = line.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
        let _ = writeln!(text, "{first}{}", line.as_str());
    }
    if let Some(note) = &design.note {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// The peripherals that a card of this revision has, each with its number in the design.
pub(super) fn present<'a>(design: &'a Design, card: &Card) -> impl Iterator<Item = (usize, &'a Peripheral)> {
    let revision = card.revision;
    design.peripherals.iter().enumerate().filter(move |(_, own)| revision >= own.from_revision)
}

fn dma(design: &Design, card: &Card) -> Option<String> {
    let dma = design.dma?;
    if dma.ip == DmaIp::Qdma {
        return Some("QDMA".into());
    }
    let kind = if dma.has_streams() { "streams" } else { "memory mapped" };
    let [h2c, c2h] = card.channels;
    Some(format!("XDMA {h2c}+{c2h}, {kind}"))
}

fn amount(memory: &Memory) -> String {
    let kind = memory.kind.map(|kind| format!(" {kind}")).unwrap_or_default();
    format!("{}{kind}", size(memory.size))
}

fn place(peripheral: &Peripheral) -> String {
    format!("{} in BAR {} at {:#x}", label(peripheral), peripheral.bar, peripheral.offset)
}

fn place_in_bar(peripheral: &Peripheral) -> String {
    let note = peripheral.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    match peripheral.kind {
        Kind::Ram => format!("RAM of {} at {:#x}{note}", size(peripheral.size), peripheral.offset),
        Kind::QuadSpi => {
            let flash = peripheral.flash.map(|flash| format!(" with {flash}, {}", size(flash.size().into())));
            format!("{} {:#x}{}{note}", label(peripheral), peripheral.offset, flash.unwrap_or_default())
        }
        _ => format!("{} {:#x}{note}", label(peripheral), peripheral.offset),
    }
}

fn label(peripheral: &Peripheral) -> String {
    match &peripheral.name {
        Some(name) => format!("{name} ({})", peripheral.kind),
        None => peripheral.kind.to_string(),
    }
}

/// Bytes as `1 GiB`, or exactly in hexadecimal where that would not be a whole number.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) if bytes / unit < 1024 || *unit == 1 << 30 => format!("{} {name}", bytes / unit),
        _ => format!("{bytes:#x} bytes"),
    }
}
