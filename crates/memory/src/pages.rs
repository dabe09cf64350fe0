//! The pages that memory is made of.

use std::fmt;

/// The pages that memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageSize {
    /// The pages every machine has: 4 KiB on x86-64.
    Normal,
    /// Huge pages of 2 MiB, which have to be reserved.
    Huge2M,
    /// Huge pages of 1 GiB, which have to be reserved.
    Huge1G,
}

impl PageSize {
    /// Size of a page in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Normal => rustix::param::page_size() as u64,
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }

    /// The least multiple of the page size that is not below `size`, or nothing if 64 bits do not hold it.
    #[must_use]
    pub fn round_up(self, size: u64) -> Option<u64> {
        size.checked_next_multiple_of(self.bytes())
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => write!(f, "{} KiB", self.bytes() / 1024),
            Self::Huge2M => f.write_str("2 MiB"),
            Self::Huge1G => f.write_str("1 GiB"),
        }
    }
}
