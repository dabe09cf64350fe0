//! Which BARs a card of a design has: as large as what is in them, unless the boards file says otherwise.

use crate::check::{Complaint, ensure};
use crate::design::Design;
use crate::dma::DmaIp;
use crate::peripheral::Kind;
use crate::place::KeyPath;
use serde::{Deserialize, Serialize};

/// Bytes of an XDMA's registers (PG195, "PCIe to DMA Address Map").
const XDMA_SIZE: u64 = 0x1_0000;
/// Bytes of a QDMA's registers (PG302, "QDMA_CSR" and queues).
const QDMA_SIZE: u64 = 0x4_0000;
/// The smallest BAR of registers that AMD's cores make.
const SMALLEST: u64 = 0x1000;
/// The largest 32-bit BAR.
const LARGEST_32: u64 = 1 << 31;

/// What a boards file says about a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarShape {
    /// Which BAR, 0 to 5.
    pub bar: u8,
    /// Its size in bytes, a power of two; without it, the next power of two that what is in it fits into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// 32 or 64 bits of address; without it, 64 where the BAR has an even number and the next is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u8>,
    /// Whether it is marked prefetchable; without it, if it is memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefetchable: Option<bool>,
}

/// A BAR of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Its size in bytes, a power of two.
    pub size: u64,
    /// It has 64 bits of address, and uses the place of the next BAR too.
    pub is_64bit: bool,
    /// It is marked prefetchable.
    pub prefetchable: bool,
}

impl Design {
    /// The six BARs of a card. A design that is in a [`Catalogue`](crate::Catalogue) has been checked: what is in a BAR
    /// fits into it, and no two use one place.
    #[must_use]
    pub fn card_bars(&self) -> [Option<Bar>; 6] {
        self.lay_out(&KeyPath::default()).unwrap_or_default()
    }

    /// The window onto the card's memory: BAR, card address of its first byte, and size in bytes.
    #[must_use]
    pub fn bypass_window(&self) -> Option<(u8, u64, u64)> {
        let bypass = self.dma?.bypass?;
        let first = self.memory.first();
        let base = bypass.base.or(first.map(|memory| memory.base)).unwrap_or(0);
        let size = bypass.size.or(first.and_then(|memory| memory.size.checked_next_power_of_two()))?;
        Some((bypass.bar, base, size))
    }

    /// What is in BAR `bar`: where the last of it ends in bytes, and whether it is all memory; `None` if it is empty.
    fn content(&self, bar: u8) -> Option<(u64, bool)> {
        if let Some(dma) = self.dma.filter(|dma| dma.bar == bar) {
            return Some((if dma.ip == DmaIp::Xdma { XDMA_SIZE } else { QDMA_SIZE }, false));
        }
        if let Some((_, _, size)) = self.bypass_window().filter(|(own, ..)| *own == bar) {
            return Some((size, true));
        }
        let words = self.id_word.filter(|word| word.bar == bar).into_iter();
        let words = words.flat_map(|word| [Some(word.offset), word.version_offset]);
        let words = words.flatten().map(|offset| (offset.saturating_add(4), false));
        let peripherals = self.peripherals.iter().filter(|peripheral| peripheral.bar == bar);
        let peripherals = peripherals.map(|peripheral| {
            (peripheral.offset.saturating_add(peripheral.size), peripheral.kind == Kind::Ram)
        });
        peripherals.chain(words).reduce(|a, b| (a.0.max(b.0), a.1 && b.1))
    }

    /// The BARs of a design that is at `at` in its file.
    pub(crate) fn lay_out(&self, at: &KeyPath) -> Result<[Option<Bar>; 6], Complaint> {
        let mut bars = [None; 6];
        let shapes = || {
            self.bars.iter().enumerate().map(|(index, shape)| (at.clone().key("bars").index(index), shape))
        };
        for (key, shape) in shapes() {
            ensure(shape.bar < 6, || key.clone().key("bar"), || no_such_bar(shape.bar))?;
            let twice = self.bars.iter().filter(|other| other.bar == shape.bar).count() > 1;
            ensure(!twice, || key.key("bar"), || format!("BAR {} is there twice", shape.bar))?;
        }
        let used =
            |bar: u8| bar > 5 || self.content(bar).is_some() || self.bars.iter().any(|own| own.bar == bar);
        for bar in (0..6).filter(|bar| used(*bar)) {
            let own = shapes().find(|(_, shape)| shape.bar == bar);
            let key = |name: &'static str| match &own {
                Some((key, _)) => key.clone().key(name),
                None if self.dma.is_some_and(|dma| dma.uses(bar)) => at.clone().key("dma"),
                None => at.clone().key("peripherals"),
            };
            let shape = own.as_ref().map(|(_, shape)| **shape);
            let (end, memory) = self.content(bar).unwrap_or((0, false));
            let needed = end.max(SMALLEST).checked_next_power_of_two();
            let size = shape.and_then(|shape| shape.size).or(needed.filter(|_| end > 0));
            let size = size.ok_or_else(|| Complaint {
                key: key("bar"),
                message: format!("there is nothing in BAR {bar}; say how large it is"),
            })?;
            let right = size.is_power_of_two() && size >= SMALLEST && size >= end;
            ensure(
                right,
                || key("size"),
                || {
                    format!(
                        "{size:#x} is no power of two of {SMALLEST:#x} or more that has room for {end:#x} bytes"
                    )
                },
            )?;
            let free = bar % 2 == 0 && !used(bar + 1);
            let bits = shape.and_then(|shape| shape.bits).unwrap_or(if free { 64 } else { 32 });
            ensure(
                bits == 32 || (bits == 64 && free),
                || key("bits"),
                || {
                    format!(
                        "{bits} is not possible: BAR {bar} has 32 bits, or 64 if it is even and the next is free"
                    )
                },
            )?;
            ensure(
                bits == 64 || size <= LARGEST_32,
                || key("size"),
                || {
                    format!(
                        "BAR {bar} has {size:#x} bytes, but only 32 bits of address, which is 2 GiB at most"
                    )
                },
            )?;
            let prefetchable = shape.and_then(|shape| shape.prefetchable).unwrap_or(memory);
            bars[usize::from(bar)] = Some(Bar { size, is_64bit: bits == 64, prefetchable });
        }
        Ok(bars)
    }
}

/// What is said of a BAR with another number than 0 to 5.
pub(crate) fn no_such_bar(bar: u8) -> String {
    format!("there is no BAR {bar}; a card has BARs 0 to 5")
}

#[cfg(test)]
mod tests {
    use crate::Catalogue;

    fn sizes(name: &str) -> [Option<(u64, bool)>; 6] {
        let design = Catalogue::built_in().design(name).unwrap().clone();
        design.card_bars().map(|bar| bar.map(|bar| (bar.size, bar.is_64bit)))
    }

    #[test]
    fn bars_are_as_large_as_on_the_cards() {
        assert_eq!(
            sizes("Project-0"),
            [Some((0x2_0000, true)), None, Some((0x1_0000, true)), None, None, None]
        );
        assert_eq!(sizes("NiteFury_dma_ddr3")[0], Some((0x4000, true)));
        assert_eq!(sizes("TEF1001_dma_stream_crc64")[0], Some((0x8000, true)));
        assert_eq!(sizes("dma_blkram"), [Some((0x1_0000, true)), None, None, None, None, None]);
        let ram = [Some((0x10_0000, true)), None, Some((0x2_0000, true)), None, Some((0x1_0000, true)), None];
        assert_eq!(sizes("memmapped_blkram"), ram);
        // The DMA's BAR is the second: both have 32 bits.
        assert_eq!(sizes("U200_enum")[..2], [Some((0x1000, false)), Some((0x1_0000, false))]);
        assert_eq!(sizes("LOGSYS_70T_enum"), [None; 6]);
    }
}
