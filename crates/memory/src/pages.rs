//! The pages that memory is made of, and how many huge ones there are.

use std::{fmt, fs};

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

/// How many huge pages of a size the kernel has set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePool {
    /// All of them.
    pub total: u64,
    /// Those that nobody has and that are not promised to anybody.
    pub free: u64,
}

impl HugePool {
    /// The pool of pages of that size; empty if the kernel has none, as for normal pages.
    #[must_use]
    pub fn of(pages: PageSize) -> Self {
        let count = |file: &str| {
            fs::read_to_string(format!("{}/{file}", Self::folder(pages)))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        let free = count("free_hugepages").saturating_sub(count("resv_hugepages"));
        Self { total: count("nr_hugepages"), free }
    }

    /// The command that sets `total` pages of that size aside.
    #[must_use]
    pub fn command(pages: PageSize, total: u64) -> String {
        format!("echo {total} | sudo tee {}/nr_hugepages", Self::folder(pages))
    }

    fn folder(pages: PageSize) -> String {
        format!("/sys/kernel/mm/hugepages/hugepages-{}kB", pages.bytes() / 1024)
    }
}
