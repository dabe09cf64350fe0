//! What a process has, as the kernel counts it.

use anyhow::Context;
use std::fmt;
use std::fs;

/// What a process has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Census {
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// Locked and pinned memory, in KiB.
    pub(crate) locked: u64,
    /// Resident memory, in KiB.
    pub(crate) resident: u64,
    /// Maps of DMA memory.
    pub(crate) maps: u64,
}

/// Resident memory may grow by this much, in KiB: allocators keep what they had once.
const RESIDENT_SLACK: u64 = 32 << 10;

impl Census {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let count = |folder: &str| -> anyhow::Result<u64> {
            let path = format!("/proc/{pid}/{folder}");
            Ok(fs::read_dir(&path).with_context(|| format!("reading {path}"))?.count() as u64)
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("reading the status of process {pid}"))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
            .with_context(|| format!("reading the maps of process {pid}"))?;
        Ok(Self {
            descriptors: count("fd")?,
            threads: count("task")?,
            locked: kilobytes("VmLck:") + kilobytes("VmPin:"),
            resident: kilobytes("VmRSS:"),
            maps: maps.lines().filter(|line| line.contains("/memfd:jitney-dma")).count() as u64,
        })
    }

    /// What there is more of than there was, in words; nothing if there is not.
    pub(crate) fn more_than(&self, before: &Self) -> Option<String> {
        let rows = [
            ("descriptors", before.descriptors, self.descriptors),
            ("threads", before.threads, self.threads),
            ("KiB of pinned memory", before.locked, self.locked),
            ("maps of DMA memory", before.maps, self.maps),
            ("KiB of resident memory", before.resident + RESIDENT_SLACK, self.resident),
        ];
        let more: Vec<_> = rows
            .iter()
            .filter(|(_, before, after)| after > before)
            .map(|(what, before, after)| format!("{after} {what} instead of {before}"))
            .collect();
        (!more.is_empty()).then(|| more.join(", "))
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, locked, resident, maps } = self;
        write!(
            f,
            "{descriptors} descriptors, {threads} threads, {locked} KiB pinned, {resident} KiB resident, {maps} maps"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_more_is_seen_and_a_little_memory_is_not() {
        let before = Census { descriptors: 10, threads: 2, locked: 0, resident: 5000, maps: 1 };
        assert_eq!(Census { resident: 6000, ..before }.more_than(&before), None);
        let more = Census { descriptors: 11, ..before }.more_than(&before).unwrap();
        assert_eq!(more, "11 descriptors instead of 10");
        assert!(Census { resident: 5000 + (64 << 10), ..before }.more_than(&before).is_some());
    }

    #[test]
    fn this_process_can_be_counted() {
        let census = Census::of(std::process::id()).unwrap();
        assert!(census.descriptors >= 3 && census.threads >= 1 && census.resident > 0);
    }
}
