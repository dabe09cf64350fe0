//! What the link between card and host carries, where a board was asked to have one that limits it.

use crate::function::PacketSizes;
use jitney_xdma_spec::Direction;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a packet beside its data: framing, sequence number, checksum and a header of three words; with an address
/// of 64 bits, of four (PCIe 5.0, sections 2.2 and 4.2).
const COMPLETION: u64 = 20;
const REQUEST: u64 = 24;
/// Of a link's time, the share that packets have; acknowledgements and flow control have the rest. So a 5 GT/s ×4 link
/// carries 1.76 GB/s to the card, and 1.67 each way at once; 1.755 and 1.637 were measured on cards.
const PACKETS_PERCENT: u64 = 95;
/// From a read to its answer: what was measured on cards of several generations.
const ROUND_TRIP: Duration = Duration::from_micros(1);

/// Most time that an engine may be late by.
const LATE: Duration = Duration::from_millis(50);

/// How fast data goes between card and host.
///
/// As text: `gen2x4`, of generation 1 to 5 and with 1, 2, 4, 8 or 16 lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLimit {
    /// As fast as a PCIe link carries it: packets have headers, and reads take their time.
    Pcie {
        /// 1 to 5, for 2.5, 5, 8, 16 and 32 GT/s.
        generation: u8,
        /// 1, 2, 4, 8 or 16.
        lanes: u8,
    },
    /// So many bytes of data a second each way, and without latency.
    Rate(u64),
}

/// Why a text is no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is no link: give its generation, 1 to 5, and its lanes, 1, 2, 4, 8 or 16, as in 'gen2x4'")]
pub struct LinkError {
    /// What was given.
    pub given: String,
}

impl FromStr for LinkLimit {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let parse = || {
            let (generation, lanes) = text.strip_prefix("gen")?.split_once('x')?;
            let generation = generation.parse().ok().filter(|generation| (1..=5).contains(generation))?;
            let lanes = lanes.parse().ok().filter(|lanes| matches!(lanes, 1 | 2 | 4 | 8 | 16))?;
            Some(Self::Pcie { generation, lanes })
        };
        parse().ok_or_else(|| LinkError { given: text.to_owned() })
    }
}

impl fmt::Display for LinkLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcie { generation, lanes } => write!(f, "gen{generation}x{lanes}"),
            Self::Rate(rate) => write!(f, "{rate} bytes/s"),
        }
    }
}

impl LinkLimit {
    /// Bytes a second each way, headers and all; at least 1.
    fn raw(self) -> u64 {
        let per_lane = match self {
            Self::Rate(rate) => return rate.max(1),
            // 8 of 10 bits are data, and 128 of 130.
            Self::Pcie { generation: 0 | 1, .. } => 250_000_000,
            Self::Pcie { generation: 2, .. } => 500_000_000,
            Self::Pcie { generation, .. } => 984_615_384 << (generation - 3).min(2),
        };
        let Self::Pcie { lanes, .. } = self else { return per_lane };
        per_lane * u64::from(lanes.max(1)) * PACKETS_PERCENT / 100
    }

    /// How many bytes `length` bytes of data take on the link: to the card, and to the host.
    fn bytes(self, direction: Direction, length: u64, sizes: PacketSizes) -> [u64; 2] {
        let packets = |size: u32| length.div_ceil(u64::from(size.max(1)));
        match (self, direction) {
            (Self::Rate(_), Direction::HostToCard) => [length, 0],
            (Self::Rate(_), Direction::CardToHost) => [0, length],
            (Self::Pcie { .. }, Direction::HostToCard) => {
                [length + COMPLETION * packets(sizes.payload), REQUEST * packets(sizes.read_request)]
            }
            (Self::Pcie { .. }, Direction::CardToHost) => [0, length + REQUEST * packets(sizes.payload)],
        }
    }
}

/// A link that all channels share.
#[derive(Debug)]
pub(super) struct Link {
    limit: LinkLimit,
    /// When each way, to the card and to the host, has carried all that it took on.
    free: Mutex<[Instant; 2]>,
}

impl Link {
    pub(super) fn new(limit: LinkLimit) -> Self {
        Self { limit, free: Mutex::new([Instant::now(); 2]) }
    }

    /// Forgets what it had taken on: nobody waits for that any more.
    pub(super) fn reset(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = [Instant::now(); 2];
    }

    /// Of `length`, as many bytes as take about a millisecond, so that a reset is noticed soon. At least a packet of 64.
    pub(super) fn piece(&self, length: u64) -> u64 {
        length.min((self.limit.raw() / 1000).next_multiple_of(64).max(64))
    }

    /// Takes `length` bytes of data on; says when they have been carried.
    ///
    /// They are there since `since`: what an engine whose thread had to wait for a processor comes too late with, goes over
    /// the link as if it had come in time. So a transfer lasts as long as on the link, also on a machine that is busy.
    pub(super) fn reserve(
        &self,
        direction: Direction,
        length: u64,
        sizes: PacketSizes,
        since: Instant,
    ) -> Instant {
        self.reserve_at(Instant::now(), direction, length, sizes, since)
    }

    fn reserve_at(
        &self,
        now: Instant,
        direction: Direction,
        length: u64,
        sizes: PacketSizes,
        since: Instant,
    ) -> Instant {
        let takes = self.limit.bytes(direction, length, sizes).map(|bytes| {
            let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.limit.raw());
            Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
        });
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.checked_sub(LATE).map_or(since, |latest| latest.max(since)).min(now);
        for (free, takes) in free.iter_mut().zip(takes) {
            *free = (*free).max(since).checked_add(takes).unwrap_or(*free);
        }
        match direction {
            Direction::HostToCard => free[0],
            Direction::CardToHost => free[1],
        }
    }

    /// When the first data of a run is there: a descriptor is read, and from the host the data, too.
    pub(super) fn first_data(&self, direction: Direction) -> Instant {
        let reads = if direction == Direction::HostToCard { 2 } else { 1 };
        let latency =
            if matches!(self.limit, LinkLimit::Rate(_)) { Duration::ZERO } else { reads * ROUND_TRIP };
        Instant::now() + latency
    }
}

/// Waits until a moment that may be a microsecond away, or until something has `ended`.
pub(super) fn wait_until(until: Instant, ended: &dyn Fn() -> bool) {
    /// A thread that sleeps is woken up to so much too late.
    const COARSE: Duration = Duration::from_micros(100);
    const LOOK: Duration = Duration::from_millis(10);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || ended() {
            return;
        }
        match left.checked_sub(COARSE) {
            Some(long) if !long.is_zero() => std::thread::sleep(long.min(LOOK)),
            _ => std::thread::yield_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{CardToHost, HostToCard};
    use proptest::prelude::*;

    const SIZES: PacketSizes = PacketSizes { payload: 256, read_request: 512 };

    /// Bytes of data a second, if each of these directions moves as much.
    fn rate(link: &str, sizes: PacketSizes, directions: &[Direction]) -> f64 {
        let limit: LinkLimit = link.parse().unwrap();
        let used = directions.iter().map(|direction| limit.bytes(*direction, 1 << 20, sizes));
        let used = used.fold([0, 0], |[down, up], [to_card, to_host]| [down + to_card, up + to_host]);
        f64::from(1 << 20) * limit.raw() as f64 / *used.iter().max().unwrap() as f64
    }

    fn near(rate: f64, measured: f64, tolerance: f64) {
        assert!((rate / measured - 1.0).abs() < tolerance, "{rate:.3e} is not near {measured:.3e}");
    }

    #[test]
    fn links_carry_what_was_measured_on_cards() {
        // Block RAM, and a loopback of streams both ways at once, at 5 GT/s ×4; an own engine at 8 GT/s ×8.
        near(rate("gen2x4", SIZES, &[HostToCard]), 1.755e9, 0.02);
        near(rate("gen2x4", SIZES, &[HostToCard, CardToHost]), 1.637e9, 0.03);
        near(rate("gen3x8", SIZES, &[CardToHost]), 6.6e9, 0.05);
        // What is slower on cards was not slowed down by the link.
        assert!(rate("gen2x4", SIZES, &[CardToHost]) > 1.414e9);
        assert!(rate("gen3x16", SIZES, &[CardToHost]) > 11.89e9);
    }

    #[test]
    fn smaller_packets_carry_less() {
        let small = PacketSizes { payload: 128, read_request: 128 };
        for direction in [HostToCard, CardToHost] {
            assert!(rate("gen2x4", small, &[direction]) < 0.95 * rate("gen2x4", SIZES, &[direction]));
        }
        near(rate("gen5x16", SIZES, &[HostToCard]) / rate("gen1x1", SIZES, &[HostToCard]), 252.06, 0.001);
    }

    #[test]
    fn links_are_read_from_text() {
        assert_eq!("gen2x4".parse(), Ok(LinkLimit::Pcie { generation: 2, lanes: 4 }));
        for text in ["gen1x1", "gen3x8", "gen5x16"] {
            assert_eq!(text.parse::<LinkLimit>().unwrap().to_string(), text);
        }
        for bad in ["", "gen", "gen2", "gen0x4", "gen6x4", "gen2x3", "gen2x32", "2x4", "gen2x4 ", "Gen2x4"] {
            assert!(bad.parse::<LinkLimit>().unwrap_err().to_string().contains("as in 'gen2x4'"), "{bad}");
        }
    }

    #[test]
    fn bytes_take_their_time_and_directions_do_not_wait_for_each_other() {
        let link = Link::new(LinkLimit::Rate(10_000_000));
        assert_eq!((link.piece(256 << 10), link.piece(8)), (10_048, 8));
        assert_eq!(Link::new(LinkLimit::Rate(0)).piece(4096), 64);
        let now = Instant::now();
        let ends: Vec<_> =
            (0..20).map(|_| link.reserve_at(now, HostToCard, 10_000, SIZES, now) - now).collect();
        assert_eq!((ends[0], ends[19]), (Duration::from_millis(1), Duration::from_millis(20)));
        let other = link.reserve_at(now, CardToHost, 10_000, SIZES, now);
        assert_eq!(other - now, Duration::from_millis(1));
        wait_until(other, &|| false);
        assert!(Instant::now() >= other);
        wait_until(now + Duration::from_secs(100), &|| true);
    }

    #[test]
    fn who_is_late_catches_up_but_not_with_all_of_the_past() {
        let link = Link::new(LinkLimit::Rate(10_000_000));
        let start = Instant::now();
        let reserve =
            |now, since| link.reserve_at(start + now, HostToCard, 10_000, SIZES, start + since) - start;
        let ms = Duration::from_millis;
        assert_eq!(reserve(ms(0), ms(0)), ms(1));
        // As if it had been there all the time: the second millisecond.
        assert_eq!(reserve(ms(20), ms(0)), ms(2));
        // What begins now begins now.
        assert_eq!(reserve(ms(20), ms(20)), ms(21));
        assert_eq!(reserve(ms(500), ms(0)), ms(500) - LATE + ms(1));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = text.parse::<LinkLimit>();
        }

        #[test]
        fn no_link_is_too_odd(generation: u8, lanes: u8, length in 0..1u64 << 40) {
            let link = Link::new(LinkLimit::Pcie { generation, lanes });
            let _ = (link.piece(length), link.reserve(HostToCard, length, SIZES, Instant::now()));
        }
    }
}
