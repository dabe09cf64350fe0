//! Transfer rates of several transfers.

use super::size::human;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Transfers of the same size, one duration each.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    bytes: u64,
    durations: Vec<Duration>,
}

/// Smallest, mean and largest rate, in 10^6 bytes per second. The mean is all bytes by all time.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct Summary {
    pub(crate) transfers: usize,
    pub(crate) bytes: u64,
    pub(crate) min_mb_per_s: f64,
    pub(crate) mean_mb_per_s: f64,
    pub(crate) max_mb_per_s: f64,
}

impl Rates {
    pub(crate) const fn of(bytes: u64) -> Self {
        Self { bytes, durations: Vec::new() }
    }

    pub(crate) fn add(&mut self, duration: Duration) {
        self.durations.push(duration);
    }

    pub(crate) fn summary(&self) -> Summary {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let rate = |transfers: usize, time: Duration| {
            self.bytes as f64 * transfers as f64 / 1e6 / time.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        let each = |time: Option<&Duration>| time.map_or(0.0, |time| rate(1, *time));
        let transfers = self.durations.len();
        Summary {
            transfers,
            bytes: self.bytes,
            min_mb_per_s: each(self.durations.iter().max()),
            mean_mb_per_s: if transfers > 0 { rate(transfers, self.durations.iter().sum()) } else { 0.0 },
            max_mb_per_s: each(self.durations.iter().min()),
        }
    }
}

impl Summary {
    /// `host to card: 16 transfers of 1 GiB: min 1325.8, mean 1325.8, max 1325.8 MB/s`
    pub(crate) fn describe(&self, direction: &str) -> String {
        format!(
            "{direction}: {} transfers of {} bytes: min {:.1}, mean {:.1}, max {:.1} MB/s",
            self.transfers, self.bytes, self.min_mb_per_s, self.mean_mb_per_s, self.max_mb_per_s
        )
    }
}

/// Bytes that were moved, and how long it took.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct Moved {
    bytes: u64,
    seconds: f64,
    mb_per_s: f64,
}

impl Moved {
    pub(crate) fn in_time((bytes, time): (u64, Duration)) -> Self {
        let mut rates = Rates::of(bytes);
        rates.add(time);
        Self { bytes, seconds: time.as_secs_f64(), mb_per_s: rates.summary().mean_mb_per_s }
    }
}

/// `64 MiB (67108864 bytes) in 0.05 s (1325.8 MB/s)`
impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, seconds, mb_per_s } = *self;
        if bytes >= 1 << 10 {
            write!(f, "{} ({bytes} bytes)", human(bytes))?;
        } else {
            write!(f, "{bytes} bytes")?;
        }
        match mb_per_s {
            slow if slow < 1.0 => write!(f, " in {seconds:.2} s ({:.1} kB/s)", slow * 1e3),
            fast => write!(f, " in {seconds:.2} s ({fast:.1} MB/s)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_all_bytes_by_all_time() {
        let mut rates = Rates::of(3_000_000);
        rates.add(Duration::from_secs(1));
        rates.add(Duration::from_secs(3));
        let summary = rates.summary();
        assert!((summary.mean_mb_per_s - 1.5).abs() < 1e-9);
        assert!((summary.min_mb_per_s - 1.0).abs() < 1e-9);
        assert!((summary.max_mb_per_s - 3.0).abs() < 1e-9);
    }

    #[test]
    fn no_transfer_has_no_rate() {
        assert!(Rates::of(1).summary().mean_mb_per_s.abs() < 1e-9);
    }
}
