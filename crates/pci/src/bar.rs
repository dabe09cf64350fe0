//! Base address registers (PCI 3.0, section 6.2.5.1).

use crate::header;

/// BARs of an endpoint; a 64-bit one takes two.
pub const COUNT: usize = 6;

/// Where BAR `index` (taken modulo six) lies in configuration space.
#[must_use]
pub const fn offset(index: u8) -> u16 {
    header::BAR0 + 4 * (index % 6) as u16
}

/// What the low bits of a BAR say; software cannot change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory.
    Memory {
        /// 64 bits: the next BAR holds the upper half of the address.
        wide: bool,
        /// Reads have no side effects and writes may be merged.
        prefetchable: bool,
    },
}

impl BarKind {
    /// The kind that a BAR with this (lower) word is of.
    #[must_use]
    pub const fn from_bits(word: u32) -> Self {
        if word & 1 == 1 {
            Self::Io
        } else {
            Self::Memory { wide: word >> 1 & 3 == 2, prefetchable: word & 8 != 0 }
        }
    }

    /// The bits below the address.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Io => 1,
            Self::Memory { wide, prefetchable } => (wide as u32) << 2 | (prefetchable as u32) << 3,
        }
    }

    /// The bits of the (lower) word that are address, not kind.
    #[must_use]
    pub const fn address_mask(self) -> u32 {
        match self {
            Self::Io => !0x3,
            Self::Memory { .. } => !0xf,
        }
    }
}

/// A BAR as configuration space holds it. One that is not implemented reads as 32-bit memory at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Its number, below [`COUNT`]; of a 64-bit BAR that of the lower half.
    pub index: usize,
    /// I/O or memory.
    pub kind: BarKind,
    /// Its address on the bus.
    pub address: u64,
}

/// What the six words of [`header::BAR0`] say; the upper halves of 64-bit BARs are no BARs of their own.
///
/// A last BAR that claims 64 bits has no upper half: it is taken as zero.
#[must_use]
pub fn decode(words: &[u32; COUNT]) -> Vec<Bar> {
    let mut bars = Vec::with_capacity(COUNT);
    let mut words = words.iter().copied().enumerate();
    while let Some((index, low)) = words.next() {
        let kind = BarKind::from_bits(low);
        let high = match kind {
            BarKind::Memory { wide: true, .. } => words.next().map_or(0, |(_, high)| high),
            _ => 0,
        };
        let address = u64::from(high) << 32 | u64::from(low & kind.address_mask());
        bars.push(Bar { index, kind, address });
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDE: BarKind = BarKind::Memory { wide: true, prefetchable: false };

    #[test]
    fn a_nitefury_has_two_wide_bars() {
        let bars = decode(&[0xf7e0_0004, 0x0000_0001, 0xf7f0_000c, 0, 0, 0]);
        assert_eq!(bars[0], Bar { index: 0, kind: WIDE, address: 0x1_f7e0_0000 });
        let prefetchable = BarKind::Memory { wide: true, prefetchable: true };
        assert_eq!(bars[1], Bar { index: 2, kind: prefetchable, address: 0xf7f0_0000 });
        assert_eq!(bars.iter().map(|bar| bar.index).collect::<Vec<_>>(), [0, 2, 4, 5]);
    }

    #[test]
    fn io_and_narrow_bars() {
        let bars = decode(&[0xe001, 0xf000_0000, 0, 0, 0, 0xf100_0004]);
        assert_eq!((bars[0].kind, bars[0].address), (BarKind::Io, 0xe000));
        assert_eq!(bars[1].kind, BarKind::Memory { wide: false, prefetchable: false });
        assert_eq!(bars[5], Bar { index: 5, kind: WIDE, address: 0xf100_0000 });
    }

    #[test]
    fn offsets() {
        assert_eq!((offset(0), offset(5)), (0x10, 0x24));
    }

    proptest! {
        #[test]
        fn any_words_decode(words: [u32; COUNT]) {
            let bars = decode(&words);
            prop_assert!((3..=COUNT).contains(&bars.len()));
            for bar in bars {
                prop_assert_eq!(BarKind::from_bits(bar.kind.bits()), bar.kind);
                prop_assert_eq!(bar.kind.bits() & bar.kind.address_mask(), 0);
            }
        }
    }
}
