//! Many transfers in flight, beside one at a time and beside one that is long; what waiting costs; what the driver itself costs.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Board;
use crate::processor;
use crate::rounds::{Rounds, timed};
use anyhow::Context;
use jitney_broker::Bus;
use jitney_memory::EventFd;
use jitney_vfio::{Card, DmaBuffer, FakeBar, FakeCard, FakeHost};
use jitney_xdma::{Channel, Error, Pending, Piece, Xdma};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Transfers in a measurement.
const MANY: u64 = 4000;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let bus = Bus::alone(&[board.address()])?;
    let card = bus.open_cards()?.remove(0);
    let xdma = jitney_boards::identify(&card)?.xdma()?;
    let buffer = bus.dma_buffer(GIB)?;
    let mut figures = depths(wish, &xdma, &buffer)?;
    figures.push(both_ways(wish, &xdma, &buffer)?);
    figures.push(awaited(wish, &xdma, &buffer)?);
    figures.push(processor::on_one(|| woken(wish))?);
    figures.push(own_time(wish)?);
    Ok(figures)
}

/// Carries `transfers` of `size` bytes each out, at most `depth` of them at once and half of that in a batch.
fn stream<D>(
    channel: &Channel<D>,
    buffer: &DmaBuffer,
    size: u64,
    transfers: u64,
    depth: usize,
) -> Result<(), Error> {
    let batch = (depth / 2).max(1);
    let piece = |number: u64| {
        let start = number * size % (buffer.size() - size + 1) / PAGE * PAGE;
        Piece::new(buffer, start..start + size, start)
    };
    let mut flying: VecDeque<Pending> = VecDeque::with_capacity(depth);
    for first in (0..transfers).step_by(batch) {
        if flying.len() + batch > depth {
            flying.drain(..batch).try_for_each(|pending| pending.wait().map(drop))?;
        }
        let numbers = first..transfers.min(first + batch as u64);
        flying.extend(channel.submit_batch(numbers.map(piece))?);
    }
    flying.into_iter().try_for_each(|pending| pending.wait().map(drop))
}

fn depths(wish: Wish, xdma: &Xdma, buffer: &DmaBuffer) -> anyhow::Result<Vec<Figure>> {
    let h2c = xdma.h2c(0)?;
    let rounds = Rounds::measure(
        "transfers in flight",
        wish.rounds(9),
        [
            &mut || timed(|| stream(&h2c, buffer, PAGE, MANY, 32)),
            &mut || timed(|| stream(&h2c, buffer, PAGE, MANY / 8, 1)),
            &mut || timed(|| stream(&h2c, buffer, MIB, 64, 1)),
            &mut || timed(|| stream(&h2c, buffer, MIB / 16, 4096, 8)),
            &mut || timed(|| h2c.write_range(buffer, 0..GIB, 0).map(drop)),
        ],
    )?;
    let rate = |side: usize, bytes: u64| {
        #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
        let bytes = bytes as f64;
        bytes / rounds.seconds(side)
    };
    let (deep, single) = (rate(0, PAGE * MANY), rate(1, PAGE * (MANY / 8)));
    let (mib, medium, gib) = (rate(2, 64 * MIB), rate(3, 4096 * (MIB / 16)), rate(4, GIB));
    let ratio = |what: &str, one: f64, other: f64, least| Figure {
        what: what.into(),
        measured: one / other,
        unit: Unit::Ratio,
        bar: Bar::AtLeast(least),
        detail: format!("{:.3} and {:.3} GB/s", one / 1e9, other / 1e9),
    };
    Ok(vec![
        ratio("4 KiB at depth 32 ÷ the same at depth 1, bytes per second", deep, single, 16.0),
        ratio("4 KiB at depth 32 ÷ one transfer of 1 MiB, bytes per second", deep, mib, 0.25),
        ratio("64 KiB at depth 8 ÷ 1 GiB in one, bytes per second", medium, gib, 0.8),
    ])
}

fn both_ways(wish: Wish, xdma: &Xdma, buffer: &DmaBuffer) -> anyhow::Result<Figure> {
    let (h2c, c2h) = (xdma.h2c(0)?, xdma.c2h(0)?);
    let half = GIB / 2;
    let rounds = Rounds::measure(
        "both ways at once",
        wish.rounds(9),
        [
            &mut || {
                timed(|| {
                    thread::scope(|scope| {
                        let written = scope.spawn(|| h2c.write_range(buffer, 0..half, 0).map(drop));
                        let read = c2h.read_range(buffer, half..GIB, half).map(drop);
                        written.join().map_or(read.clone(), |written| written.and(read))
                    })
                })
            },
            &mut || timed(|| h2c.write_range(buffer, 0..half, 0).map(drop)),
        ],
    )?;
    Ok(Figure {
        what: "H2C and C2H of 512 MiB at once ÷ one of them, bytes per second".into(),
        measured: 2.0 / rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtLeast(1.2),
        detail: format!("{:.0} and {:.0} ms", rounds.seconds(0) * 1e3, rounds.seconds(1) * 1e3),
    })
}

/// What it costs to be a task.
fn awaited(wish: Wish, xdma: &Xdma, buffer: &DmaBuffer) -> anyhow::Result<Figure> {
    const WAITS: u32 = 500;
    let h2c = xdma.h2c(0)?;
    let write = || h2c.submit(buffer, 0..PAGE, 0);
    let rounds = Rounds::measure(
        "awaiting",
        wish.rounds(20),
        [
            &mut || {
                timed(|| (0..WAITS).try_for_each(|_| async_io::block_on(write()?.into_future()).map(drop)))
            },
            &mut || timed(|| (0..WAITS).try_for_each(|_| write()?.wait().map(drop))),
        ],
    )?;
    let micros = |side: usize| rounds.seconds(side) * 1e6 / f64::from(WAITS);
    Ok(Figure {
        what: "4 KiB awaited ÷ waited for".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.3),
        detail: format!("{:.1} and {:.1} µs", micros(0), micros(1)),
    })
}

/// What it costs to be woken by a card that is a thread beside this one, and done as soon as it has heard.
fn woken(wish: Wish) -> anyhow::Result<Figure> {
    const WAITS: u32 = 2000;
    let pong = EventPong::start()?;
    let host = FakeHost::new();
    let card = Arc::new(AtOnce::new(&host));
    card.is_beside()?;
    let fake =
        FakeCard::builder(&host, 0x10ee, 0x7011).bar(2, 0x1_0000, Arc::clone(&card)).vectors(2).build()?;
    let xdma = Xdma::identify(Arc::clone(&fake) as Arc<dyn Card>, 2)?;
    let h2c = xdma.h2c(0)?.by_interrupt()?;
    let buffer = fake.dma_buffer(PAGE.into())?;
    let rounds = Rounds::measure(
        "being woken",
        wish.rounds(20),
        [&mut || timed(|| (0..WAITS).try_for_each(|_| h2c.write(&buffer, 0).map(drop))), &mut || {
            timed(|| (0..WAITS).try_for_each(|_| pong.ping()))
        }],
    )?;
    let micros = |side: usize| rounds.seconds(side) * 1e6 / f64::from(WAITS);
    Ok(Figure {
        what: "completion by interrupt, of a card that is a thread ÷ an eventfd ping-pong of two threads"
            .into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.5),
        detail: format!("{:.1} and {:.1} µs", micros(0), micros(1)),
    })
}

/// A thread that answers an eventfd by another.
struct EventPong {
    ping: EventFd,
    pong: EventFd,
}

impl EventPong {
    fn start() -> anyhow::Result<Self> {
        let (ping, pong) = (EventFd::new()?, EventFd::new()?);
        let (theirs, answer) = (ping.try_clone()?, pong.try_clone()?);
        // It ends with this process.
        thread::spawn(
            move || {
                while theirs.wait(None).is_ok() && theirs.take().is_ok() && answer.signal().is_ok() {}
            },
        );
        Ok(Self { ping, pong })
    }

    fn ping(&self) -> anyhow::Result<()> {
        self.ping.signal()?;
        self.pong.wait(None)?;
        self.pong.take()?;
        Ok(())
    }
}

/// What the driver takes for a transfer of a card that is done at once, without what the card takes.
fn own_time(wish: Wish) -> anyhow::Result<Figure> {
    const TRANSFERS: u32 = 20_000;
    let host = FakeHost::new();
    let card = Arc::new(AtOnce::new(&host));
    let fake = FakeCard::builder(&host, 0x10ee, 0x7011).bar(2, 0x1_0000, Arc::clone(&card)).build()?;
    let xdma = Xdma::identify(Arc::clone(&fake) as Arc<dyn Card>, 2)?;
    let h2c = xdma.h2c(0)?;
    let buffer = fake.dma_buffer(PAGE.into())?;
    let registers = fake.bar(2)?;
    h2c.write(&buffer, 0)?;
    let before = card.accesses.load(Ordering::Relaxed);
    h2c.write(&buffer, 0)?;
    let accesses = card.accesses.load(Ordering::Relaxed) - before;
    let rounds = Rounds::measure(
        "the driver alone",
        wish.rounds(40),
        [&mut || timed(|| (0..TRANSFERS).try_for_each(|_| h2c.write(&buffer, 0).map(drop))), &mut || {
            // What the engine would do again is not counted by anybody.
            timed(|| (0..TRANSFERS).try_for_each(|_| registers.write32(0x508c, 1)))
        }],
    )?;
    let nanos = |side: usize| rounds.seconds(side) * 1e9 / f64::from(TRANSFERS);
    Ok(Figure {
        what: "the driver's own time for 4 KiB on a card that is done at once".into(),
        measured: nanos(0) - nanos(1),
        unit: Unit::Nanoseconds,
        bar: Bar::AtMost(500.0),
        detail: format!("{:.0} − {:.0} ns; register accesses: {accesses}", nanos(0), nanos(1)),
    })
}

/// An XDMA that has done what it is given at once, without data.
struct AtOnce {
    host: FakeHost,
    accesses: AtomicU32,
    /// Descriptors done by the channel of each direction.
    done: [AtomicU32; 2],
    writeback: AtomicU64,
    plain: Mutex<std::collections::HashMap<u64, u32>>,
    /// Rung by who gives it work, if a thread does that.
    bell: OnceLock<EventFd>,
}

impl AtOnce {
    fn new(host: &FakeHost) -> Self {
        Self {
            host: host.clone(),
            accesses: AtomicU32::new(0),
            done: Default::default(),
            writeback: Default::default(),
            plain: Mutex::default(),
            bell: OnceLock::new(),
        }
    }

    /// From now on, what the first channel is given is done by a thread of its own, which interrupts then. It ends with this process.
    fn is_beside(self: &Arc<Self>) -> anyhow::Result<()> {
        let (bell, card) = (EventFd::new()?, Arc::clone(self));
        let rung = bell.try_clone()?;
        // It is the first.
        let _ = self.bell.set(bell);
        thread::spawn(move || {
            while rung.wait(None).is_ok() && rung.take().is_ok() {
                card.write_back(0, 0);
                card.host.fire(0);
            }
        });
        Ok(())
    }

    /// Writes back that a channel has done all that it was given.
    fn write_back(&self, direction: usize, beside: u64) {
        let word = (self.done[direction].load(Ordering::Relaxed) & 0x00ff_ffff).to_le_bytes();
        let place = self.writeback.load(Ordering::Relaxed) + beside;
        assert!(self.host.write(place, &word).is_ok(), "the word's place is mapped");
    }

    fn plain(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<u64, u32>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeBar for AtOnce {
    fn read32(&self, offset: u64) -> u32 {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        match offset {
            0x0000 | 0x1000 | 0x2000 | 0x3000 | 0x4000 | 0x5000 | 0x6000 => {
                0x1fc0_0006 | u32::try_from(offset << 4).unwrap_or(0)
            }
            0x0040 | 0x1040 => 0,
            0x6020 => self.plain().get(&0x6024).copied().unwrap_or(0),
            _ => self.plain().get(&offset).copied().unwrap_or(0),
        }
    }

    fn write32(&self, offset: u64, value: u32) {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let direction = usize::from(offset & 0x1000 != 0);
        match offset {
            0x408c | 0x508c => {
                self.done[direction].fetch_add(value, Ordering::Relaxed);
                match self.bell.get() {
                    Some(bell) => assert!(bell.signal().is_ok(), "an eventfd can be signalled"),
                    // The other channel's word stands for the same work without a driver.
                    None => self.write_back(direction, if direction == 1 { 8 } else { 0 }),
                }
            }
            0x0004 => self.done[0].store(0, Ordering::Relaxed),
            _ => {
                self.plain().insert(offset, value);
                if matches!(offset, 0x0088 | 0x008c) {
                    let pair = |low| u64::from(self.plain().get(&low).copied().unwrap_or(0));
                    self.writeback.store(pair(0x0088) | pair(0x008c) << 32, Ordering::Relaxed);
                }
            }
        }
    }
}
