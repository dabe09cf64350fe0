//! Why the kernel did not map memory, in words: what its errno means here, with the numbers that matter.

use crate::error::{Error, ErrorKind, Result};
use jitney_host::{Caller, Root};
use rustix::io::Errno;
use rustix::process::Resource;
use std::ops::RangeInclusive;

/// A map that failed, and what is known of the address space that it was for.
pub(super) struct FailedMap<'a> {
    /// What maps: `the container of groups 86, 87`.
    pub(super) space: &'a str,
    pub(super) iova: u64,
    pub(super) size: u64,
    pub(super) granule: u64,
    pub(super) ranges: &'a [RangeInclusive<u64>],
    /// The ranges are what is usual, and the machine may have reserved parts of them.
    pub(super) guessed: bool,
    /// How many more maps there can be, where the kernel says so.
    pub(super) available: Option<u32>,
}

/// What an unmap of `size` bytes at `iova` in `space` comes to, of which the kernel says how many bytes it unmapped.
pub(super) fn unmapped(outcome: rustix::io::Result<u64>, space: &str, iova: u64, size: u64) -> Result<()> {
    let what = || format!("unmapping {size:#x} bytes at IOVA {iova:#x} in {space}");
    match outcome {
        Ok(unmapped) if unmapped == size => Ok(()),
        // Linux before 6.0 unmaps nothing of what another process mapped for type1, and calls that a success.
        Ok(unmapped) => {
            Err(Error::new(ErrorKind::System, format!("{}: {unmapped:#x} bytes were unmapped", what())))
        }
        Err(errno) => Err(Error::from_errno(errno, what())),
    }
}

/// What it comes to that nothing should be mapped at `size` bytes at `iova` in `space` any more.
pub(super) fn gone(outcome: rustix::io::Result<()>, space: &str, iova: u64, size: u64) -> Result<()> {
    let what = || format!("unmapping {size:#x} bytes at IOVA {iova:#x} in {space}, if they are mapped");
    outcome.map_err(|errno| match errno {
        Errno::EXIST => Error::new(
            ErrorKind::System,
            format!("{}: something is still mapped there that could not be unmapped", what()),
        )
        .with_remedy(
            "it goes when the cards are closed: end all programs that use them; Linux before 6.0 (type1) lets nobody \
             unmap what another process has mapped",
        ),
        _ => Error::from_errno(errno, what()),
    })
}

impl FailedMap<'_> {
    /// The error for `errno`.
    pub(super) fn explain(&self, errno: Errno) -> Error {
        let Self { space, iova, size, granule, .. } = self;
        let what = format!("mapping {size:#x} bytes at IOVA {iova:#x} in {space}");
        match errno {
            Errno::EXIST | Errno::ADDRINUSE => {
                Error::new(ErrorKind::Held, format!("{what}: something is mapped there already"))
                    .with_errno(errno)
                    .with_remedy(
                        "have one owner for all programs that use these cards: start them under one broker",
                    )
            }
            Errno::INVAL if !self.aligned() => {
                let why = format!("addresses and sizes have to be multiples of {granule:#x}");
                Error::from_errno(errno, format!("{what}: {why}"))
            }
            Errno::INVAL if !self.inside() => {
                let ranges: Vec<String> = self
                    .ranges
                    .iter()
                    .map(|range| format!("[{:#x}, {:#x}]", range.start(), range.end()))
                    .collect();
                let why = format!("the IOMMU maps only within {}", ranges.join(" and "));
                Error::from_errno(errno, format!("{what}: {why}"))
            }
            Errno::INVAL if self.guessed => {
                let why = "the machine has these addresses itself, of which Linux before 5.4 says nothing";
                Error::new(ErrorKind::Held, format!("{what}: {why}")).with_errno(errno)
            }
            Errno::NOSPC => {
                let left = match self.available {
                    Some(left) => format!("{left} more are possible"),
                    None => "no more are possible".to_owned(),
                };
                Error::from_errno(errno, format!("{what}: too many maps, {left}")).with_remedy(
                    "use fewer, larger buffers, or raise /sys/module/vfio_iommu_type1/parameters/dma_entry_limit",
                )
            }
            Errno::NOMEM => Memlock::of_this_process().explain(&what, *size),
            _ => Error::from_errno(errno, what),
        }
    }

    fn aligned(&self) -> bool {
        self.iova.is_multiple_of(self.granule) && self.size.is_multiple_of(self.granule) && self.size > 0
    }

    fn inside(&self) -> bool {
        let last = self.size.checked_sub(1).and_then(|more| self.iova.checked_add(more));
        last.is_some_and(|last| {
            self.ranges.iter().any(|range| range.contains(&self.iova) && range.contains(&last))
        })
    }
}

/// How much memory this process may lock, and how much it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memlock {
    /// In bytes; none if there is no limit, or none that holds for this process.
    limit: Option<u64>,
    /// In bytes, as far as the process can tell: iommufd counts for all processes of a user together.
    locked: u64,
}

impl Memlock {
    fn of_this_process() -> Self {
        match Caller::of(&Root::default()) {
            Ok(caller) => Self::of(&caller),
            // Without /proc the limit is known, and not what was locked.
            Err(_) => Self { limit: rustix::process::getrlimit(Resource::Memlock).current, locked: 0 },
        }
    }

    fn of(caller: &Caller) -> Self {
        Self { limit: caller.memlock(), locked: caller.locked }
    }

    fn explain(self, what: &str, size: u64) -> Error {
        let Some(limit) = self.limit else {
            return Error::from_errno(
                Errno::NOMEM,
                format!("{what}: the machine has not enough free memory"),
            );
        };
        let locked = self.locked;
        let needed = locked.saturating_add(size);
        let kilobytes = needed.div_ceil(1024);
        let why = format!(
            "this process may lock {limit:#x} bytes of memory (RLIMIT_MEMLOCK), has locked {locked:#x} and needs {needed:#x}"
        );
        Error::from_errno(Errno::NOMEM, format!("{what}: {why}")).with_remedy(format!(
            "put \"LimitMEMLOCK=infinity\" into its service, or \"@vfio - memlock unlimited\" into \
             /etc/security/limits.conf and log in again, or for now: sudo prlimit --pid $$ --memlock={}; clients of a \
             broker that runs as root need no limit",
            kilobytes.saturating_mul(1024)
        ))
    }
}

/// What to do about `EPERM` where nothing but interrupt remapping is missing; `module` is the one that can be told to go on without.
pub(super) fn no_remapping(module: &str) -> String {
    format!(
        "the machine has no interrupt remapping; switch it on in the BIOS (x2APIC, VT-d), or accept that cards can forge \
         interrupts: echo 1 | sudo tee /sys/module/{module}/parameters/allow_unsafe_interrupts"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGES: [RangeInclusive<u64>; 2] = [0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff];

    fn failed(iova: u64, size: u64) -> FailedMap<'static> {
        FailedMap {
            space: "the container of group 86",
            iova,
            size,
            granule: 4096,
            ranges: &RANGES,
            guessed: false,
            available: Some(0),
        }
    }

    #[test]
    fn each_errno_has_its_meaning() {
        let text = failed(0x1000, 0x1000).explain(Errno::EXIST).to_string();
        assert!(text.contains("0x1000 bytes at IOVA 0x1000 in the container of group 86"), "{text}");
        assert!(text.contains("already: EEXIST"), "{text}");

        let text = failed(0xfedf_f000, 0x2000).explain(Errno::INVAL).to_string();
        assert!(text.contains("[0x0, 0xfedfffff] and [0xfef00000, 0x7fffffffff]: EINVAL"), "{text}");
        let text = failed(0x800, 0x1000).explain(Errno::INVAL).to_string();
        assert!(text.contains("multiples of 0x1000: EINVAL"), "{text}");
        for (iova, size) in [(u64::MAX - 4095, 8192), (0x80_0000_0000, 4096)] {
            let text = failed(iova, size).explain(Errno::INVAL).to_string();
            assert!(text.contains("maps only within"), "{text}");
        }
        // Nothing wrong that could be seen from here.
        assert!(failed(0, 4096).explain(Errno::INVAL).to_string().ends_with("EINVAL (Invalid argument)"));

        let error = failed(0, 4096).explain(Errno::NOSPC);
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.to_string().contains("0 more are possible: ENOSPC"), "{error}");
        let guess = FailedMap { guessed: true, ..failed(0, 4096) }.explain(Errno::INVAL);
        assert_eq!((guess.kind(), guess.errno()), (ErrorKind::Held, Some(Errno::INVAL)), "others may do");
        let odd = FailedMap { guessed: true, ..failed(0x800, 4096) }.explain(Errno::INVAL);
        assert_eq!(odd.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn an_unmap_of_less_than_was_mapped_is_no_success() {
        assert!(unmapped(Ok(0x2000), "the container", 0x1000, 0x2000).is_ok());
        for less in [0, 0x1000, 0x3000] {
            let error = unmapped(Ok(less), "the container", 0x1000, 0x2000).unwrap_err();
            assert!(
                error.to_string().contains(&format!("the container: {less:#x} bytes were unmapped")),
                "{error}"
            );
        }
        let error = unmapped(Err(Errno::INVAL), "the container", 0x1000, 0x2000).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::INVAL));
    }

    #[test]
    fn a_limit_of_locked_memory_is_explained_with_its_numbers() {
        let memlock = Memlock { limit: Some(8 << 20), locked: 1 << 20 };
        let text = memlock.explain("mapping", 16 << 20).to_string();
        assert!(
            text.contains("may lock 0x800000 bytes of memory (RLIMIT_MEMLOCK), has locked 0x100000"),
            "{text}"
        );
        assert!(text.contains("needs 0x1100000: ENOMEM"), "{text}");
        assert!(text.contains("LimitMEMLOCK=infinity") && text.contains("--memlock=17825792"), "{text}");
    }

    #[test]
    fn who_may_lock_any_amount_is_not_told_of_a_limit() {
        let here = Caller::of(&Root::default()).unwrap();
        let locks_at_will = Caller { capabilities: u64::MAX, memlock_limit: Some(4096), ..here.clone() };
        let memlock = Memlock::of(&locks_at_will);
        assert_eq!(memlock.limit, None);
        let limited = Caller { capabilities: 0, locked: 512, ..locks_at_will };
        assert_eq!(Memlock::of(&limited), Memlock { limit: Some(4096), locked: 512 });
        assert!(memlock.explain("x", 1).to_string().contains("free memory"));
    }
}
