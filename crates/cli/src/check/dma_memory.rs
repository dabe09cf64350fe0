//! Transfers to and from memory that a board's DMA has to get right.

use super::verdict::{Checks, Found};
use crate::args::{Completion, Dma};
use crate::channels;
use crate::report::Report;
use anyhow::{Context, bail, ensure};
use jitney_boards::Board;
use jitney_memory::PageSize;
use jitney_vfio::{DmaBuffer, DmaRequest, ErrorKind};
use jitney_xdma::{C2h, Direction, H2c, Piece};

/// Bytes of the card's memory that are used.
const WINDOW: u64 = 256 << 10;
/// Bytes beside a transfer that it must not touch.
const GUARD: u64 = 128;
/// What is in a buffer before something is received into it.
const UNTOUCHED: u8 = 0xa5;

pub(super) fn add_checks(board: &Board, dma: Dma, checks: &mut Checks, report: &mut Report) {
    let xdma = match board.xdma() {
        Ok(xdma) => xdma,
        Err(error) => return checks.run(report, "XDMA", |_| Err(error.into())),
    };
    let Some(memory) = board.memory() else {
        return checks.run(report, "transfers", |_| {
            Ok(Found::Unfit("the design names no memory behind the DMA".into()))
        });
    };
    let base = memory.base;
    let room = memory.size.min(WINDOW);
    let ways = Direction::ALL.map(|direction| xdma.channels(direction).to_vec());
    for to in &ways[0] {
        for from in &ways[1] {
            // Each channel with all places once, and with each other one with those that matter most.
            let places = if to.index == from.index { &PLACES[..] } else { &CROSS_PLACES[..] };
            checks.run(report, &format!("{to} and {from}: lengths and places"), |_| {
                let channels = Dma { channel: to.index, ..dma };
                let back = Dma { channel: from.index, ..dma };
                let pair = (channels::to_card(&xdma, channels)?, channels::from_card(&xdma, back)?);
                Bench::new(board, pair, base, room, PageSize::Normal, None)?.boundaries(places)
            });
        }
    }
    let mut with = |name: &str, dma: Dma, pages, below, job: fn(&mut Bench) -> anyhow::Result<Found>| {
        checks.run(report, name, |_| {
            let pair = channels::open(&xdma, dma)?;
            match Bench::new(board, pair, base, room, pages, below) {
                Ok(mut bench) => job(&mut bench),
                Err(error) => unfit(error),
            }
        });
    };
    with("several pieces in a transfer", dma, PageSize::Normal, None, Bench::pieces);
    with("many transfers at once", dma, PageSize::Normal, None, Bench::many);
    with("a buffer of huge pages", dma, PageSize::Huge2M, None, Bench::whole);
    with("a buffer below 4 GiB", dma, PageSize::Normal, Some(u64::from(u32::MAX)), Bench::whole);
    let vectors = board.card().vectors();
    let by_interrupt = Dma { completion: Completion::Interrupt, ..dma };
    match vectors {
        Ok(0) => checks.run(report, "completion by interrupt", |_| {
            Ok(Found::Unfit("the card has no interrupts".into()))
        }),
        Ok(_) => {
            checks.run(report, "completion by interrupt", |_| {
                let pair = channels::open(&xdma, by_interrupt)?;
                Bench::new(board, pair, base, room, PageSize::Normal, None)?.many()
            });
        }
        Err(error) => checks.run(report, "completion by interrupt", |_| Err(error.into())),
    }
}

/// What a machine does not have fails no board.
fn unfit(error: anyhow::Error) -> anyhow::Result<Found> {
    let kind = error.downcast_ref::<jitney_vfio::Error>().map(jitney_vfio::Error::kind);
    match kind {
        Some(ErrorKind::Exhausted | ErrorKind::Unsupported) => Ok(Found::Unfit(format!("{error:#}"))),
        _ => Err(error),
    }
}

/// A part of a card's memory and what has to be in it, a channel each way and a buffer for each.
struct Bench {
    h2c: H2c,
    c2h: C2h,
    sent: DmaBuffer,
    received: DmaBuffer,
    base: u64,
    room: u64,
    /// What is in the buffer that is sent.
    data: Vec<u8>,
    /// What has to be in the card's memory.
    image: Vec<u8>,
}

impl Bench {
    fn new(
        board: &Board,
        (h2c, c2h): (H2c, C2h),
        base: u64,
        room: u64,
        pages: PageSize,
        below: Option<u64>,
    ) -> anyhow::Result<Self> {
        let top = below.unwrap_or(u64::MAX).min(h2c.limits().top()).min(c2h.limits().top());
        let request = DmaRequest::new(room).of(pages).below(top);
        let card = board.card();
        let (sent, received) = (card.dma_buffer(request)?, card.dma_buffer(request)?);
        let data = noise(room, 1);
        sent.write(0, &data)?;
        let image = noise(room, 2);
        let mut bench = Self { h2c, c2h, sent, received, base, room, data, image };
        // What is there at first is known.
        bench.received.write(0, &bench.image)?;
        bench.h2c.write_range(&bench.received, 0..room, base)?;
        bench.must_be(0..room, 0)?;
        Ok(bench)
    }

    /// Every length with every pair of places, as far as the channels can.
    fn boundaries(&mut self, places: &[u64]) -> anyhow::Result<Found> {
        let (mut done, mut impossible) = (0_u64, 0_u64);
        for length in lengths(self.room / 4) {
            for host in places {
                for card in places {
                    // Room for the guards on either side.
                    let (host, card) = (host + GUARD, card + GUARD);
                    if !self.can(host, card, length) {
                        impossible += 1;
                        continue;
                    }
                    self.round(host, card, length).with_context(|| {
                        format!(
                            "{length} bytes between byte {host:#x} of a buffer and {:#x}",
                            self.base + card
                        )
                    })?;
                    done += 1;
                }
            }
        }
        ensure!(done > 0, "the channels can move none of the lengths");
        let left_out = match impossible {
            0 => String::new(),
            _ => format!("; {impossible} that the channels' alignment rules out"),
        };
        Ok(Found::Good(format!("{done} transfers each way, nothing beside them touched{left_out}")))
    }

    /// Whether both channels can move `length` bytes between these places.
    fn can(&self, host: u64, card: u64, length: u64) -> bool {
        let range = host..host + length;
        self.h2c.plan(&self.sent, range.clone(), self.base + card).is_ok()
            && self.c2h.plan(&self.received, range, self.base + card).is_ok()
    }

    /// Writes, and reads what was written and what is beside it.
    fn round(&mut self, host: u64, card: u64, length: u64) -> anyhow::Result<()> {
        self.h2c.write_range(&self.sent, host..host + length, self.base + card)?;
        let (from, to) = (index(card), index(card + length));
        self.image[from..to].copy_from_slice(&self.data[index(host)..index(host + length)]);
        // What was moved, into an equally odd place.
        self.must_be(card..card + length, host)?;
        // And what is around it on the card.
        let around = (card - GUARD) & !63;
        self.must_be(around..(card + length + GUARD).next_multiple_of(64).min(self.room), around)
    }

    /// Reads the part `card` of the card's memory to byte `host` of the buffer, and fails unless it is as it has to be, and nothing
    /// else in the buffer was touched.
    fn must_be(&mut self, card: std::ops::Range<u64>, host: u64) -> anyhow::Result<()> {
        let length = card.end - card.start;
        let (first, end) = (host.saturating_sub(GUARD), (host + length + GUARD).min(self.room));
        self.received.write(first, &vec![UNTOUCHED; index(end - first)])?;
        self.c2h.read_range(&self.received, host..host + length, self.base + card.start)?;
        let mut seen = vec![0; index(end - first)];
        self.received.read(first, &mut seen)?;
        let (before, rest) = seen.split_at(index(host - first));
        let (moved, behind) = rest.split_at(index(length));
        let expected = &self.image[index(card.start)..index(card.end)];
        if let Some(at) = moved.iter().zip(expected).position(|(seen, expected)| seen != expected) {
            bail!(
                "card address {:#x} has {:#04x} and should have {:#04x}",
                self.base + card.start + at as u64,
                moved[at],
                expected[at]
            );
        }
        if let Some(at) = before.iter().rposition(|byte| *byte != UNTOUCHED) {
            bail!("host memory was written {} bytes in front of what was to be", before.len() - at);
        }
        if let Some(at) = behind.iter().position(|byte| *byte != UNTOUCHED) {
            bail!("host memory was written {} bytes behind what was to be", at + 1);
        }
        Ok(())
    }

    /// Three pieces of a buffer, out of order, in one transfer each way.
    fn pieces(&mut self) -> anyhow::Result<Found> {
        let (part, base) = (self.room / 8, self.base);
        let order = [2, 0, 1];
        let pieces = |buffer: &DmaBuffer| {
            let pieces = (0..).zip(order).map(|(place, from): (u64, u64)| {
                Piece::new(buffer, from * part..(from + 1) * part, base + place * part)
            });
            pieces.collect::<Vec<_>>()
        };
        self.h2c.submit_pieces(pieces(&self.sent))?.wait()?;
        for (place, from) in (0..).zip(order) {
            let (place, from): (u64, u64) = (place * part, from * part);
            let data = self.data[index(from)..index(from + part)].to_vec();
            self.image[index(place)..index(place + part)].copy_from_slice(&data);
        }
        self.must_be(0..self.room, 0)?;
        self.received.write(0, &vec![UNTOUCHED; index(self.room)])?;
        self.c2h.submit_pieces(pieces(&self.received))?.wait()?;
        let mut seen = vec![0; index(3 * part)];
        self.received.read(0, &mut seen)?;
        ensure!(
            seen == self.data[..index(3 * part)],
            "what was gathered and scattered came back in another order"
        );
        Ok(Found::Good(format!("3 pieces of {part:#x} bytes each way")))
    }

    /// Many short transfers, all of them queued before the first is waited for.
    fn many(&mut self) -> anyhow::Result<Found> {
        const LENGTH: u64 = 1024;
        let count = self.room / LENGTH;
        let pieces = |buffer: &DmaBuffer| {
            let piece = |number| {
                Piece::new(buffer, number * LENGTH..(number + 1) * LENGTH, self.base + number * LENGTH)
            };
            (0..count).map(piece).collect::<Vec<_>>()
        };
        let wait = |all: Vec<jitney_xdma::Pending>| all.into_iter().try_for_each(|one| one.wait().map(drop));
        wait(self.h2c.submit_batch(pieces(&self.sent))?)?;
        self.image.copy_from_slice(&self.data);
        self.received.write(0, &vec![UNTOUCHED; index(self.room)])?;
        wait(self.c2h.submit_batch(pieces(&self.received))?)?;
        let mut seen = vec![0; index(self.room)];
        self.received.read(0, &mut seen)?;
        ensure!(seen == self.data, "{count} transfers of {LENGTH} bytes did not bring back what was written");
        Ok(Found::Good(format!("{count} of {LENGTH} bytes each way")))
    }

    /// All of the room at once.
    fn whole(&mut self) -> anyhow::Result<Found> {
        self.h2c.write_range(&self.sent, 0..self.room, self.base)?;
        self.image.copy_from_slice(&self.data);
        self.must_be(0..self.room, 0)?;
        Ok(Found::Good(format!("{:#x} bytes each way at IOVA {:#x}", self.room, self.sent.iova())))
    }
}

/// Where transfers begin: around words of data paths, read requests and pages.
const PLACES: [u64; 12] = [0, 1, 2, 3, 4, 7, 8, 31, 63, 64, 4095, 4096];

/// The same in short.
const CROSS_PLACES: [u64; 3] = [0, 1, 4095];

/// Lengths around each power of two, up to `most`.
pub(super) fn lengths(most: u64) -> impl Iterator<Item = u64> {
    let around = (0..40).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
    let mut last = 0;
    around.filter(move |length| {
        let is_new = *length > last && *length <= most;
        last = last.max(*length);
        is_new
    })
}

/// Bytes that tell one place from another.
pub(super) fn noise(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(index(length) + 8);
    while bytes.len() < index(length) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(index(length));
    bytes
}

/// A place in a buffer of this process.
fn index(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_around_powers_of_two_and_each_once() {
        let all: Vec<u64> = lengths(9).collect();
        assert_eq!(all, [1, 2, 3, 4, 5, 7, 8, 9]);
        assert_eq!(lengths(1 << 16).last(), Some(1 << 16));
    }
}
