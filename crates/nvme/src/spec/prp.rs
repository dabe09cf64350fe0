//! Physical region pages: how a command says where its data is (section 4.3).

use super::PAGE;

/// The most entries of a list of one page, and so pages of a transfer behind its first.
pub const LIST: u64 = PAGE / 8;

/// Where a command's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prp {
    /// PRP1: the first byte.
    pub first: u64,
    /// The pages behind the first, in order.
    pub pages: Vec<u64>,
}

impl Prp {
    /// The pages of `length` bytes from `iova` on, which are in one piece. Nothing for no bytes, an address that is no multiple of four, or
    /// more pages than one list has.
    #[must_use]
    pub fn new(iova: u64, length: u64) -> Option<Self> {
        let end = iova.checked_add(length)?;
        if length == 0 || !iova.is_multiple_of(4) {
            return None;
        }
        let second = (iova / PAGE + 1).checked_mul(PAGE)?;
        let behind = end.saturating_sub(second).div_ceil(PAGE);
        (behind <= LIST)
            .then(|| Self { first: iova, pages: (0..behind).map(|page| second + page * PAGE).collect() })
    }

    /// PRP2, where a list, if there has to be one, is at `list`.
    #[must_use]
    pub fn second(&self, list: u64) -> u64 {
        match self.pages[..] {
            [] => 0,
            [page] => page,
            _ => list,
        }
    }

    /// The list as it lies in memory, if there has to be one.
    #[must_use]
    pub fn list(&self) -> Option<Vec<u8>> {
        (self.pages.len() > 1).then(|| self.pages.iter().flat_map(|page| page.to_le_bytes()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What a controller makes of it, by the specification: the first entry up to its page's end, then whole pages.
        #[test]
        fn a_controller_finds_every_byte_and_no_other(start in 0_u64..1 << 20, length in 1_u64..3 << 20) {
            let iova = 0x10_0000_0000 + start * 4;
            let Some(prp) = Prp::new(iova, length) else {
                prop_assert!(length > LIST * PAGE);
                return Ok(());
            };
            let (mut at, mut left) = (iova, length);
            for (index, entry) in std::iter::once(prp.first).chain(prp.pages.iter().copied()).enumerate() {
                prop_assert!(index == 0 || entry.is_multiple_of(PAGE));
                prop_assert_eq!(entry, at);
                let here = left.min(PAGE - entry % PAGE);
                (at, left) = (at + here, left - here);
            }
            prop_assert_eq!(left, 0);
            prop_assert_eq!(prp.list().is_some(), prp.pages.len() > 1);
        }
    }

    #[test]
    fn what_cannot_be_said_is_not() {
        assert_eq!(Prp::new(0x1000, 0), None);
        assert_eq!(Prp::new(0x1002, 512), None);
        assert_eq!(Prp::new(u64::MAX - 3, 512), None);
        assert_eq!(Prp::new(0x1000, (LIST + 1) * PAGE).unwrap().pages.len(), 512);
        assert_eq!(Prp::new(0x1000, (LIST + 1) * PAGE + 1), None);
        let two = Prp::new(0x1800, 4096).unwrap();
        assert_eq!((two.second(0x9000), two.list()), (0x2000, None));
        assert_eq!(Prp::new(0x1800, 2048).unwrap().second(0x9000), 0);
        assert_eq!(Prp::new(0x1800, 8192).unwrap().second(0x9000), 0x9000);
    }
}
