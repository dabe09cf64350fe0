//! The guest's side: what is measured on its kernel, by groups and a type1 container where nothing else is said.
//!
//! The broker has one edu, the other is for the side without a broker, in a container of its own. Nothing but the processor
//! works on either: no card moves data.

use super::large_pages;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Broker;
use crate::rounds::{Rounds, timed};
use crate::rows::Wish;
use anyhow::{Context, ensure};
use jitney_broker::Bus;
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use jitney_vfio::{AddressSpace, CardAddress, IommuInterface, OpenOptions, Owner, open_all_with};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const INTERFACE: &str = "group";

/// Where the raw side maps: far below what the allocator hands out, which is the highest first.
const RAW_IOVA: u64 = 16 << 20;

/// The edu's identification.
const REGISTER: u64 = 0;

/// Measures, and prints the figures as one line of JSON.
pub(crate) fn run(cards: &[CardAddress], quick: bool) -> anyhow::Result<()> {
    let [shared, own] = cards else { anyhow::bail!("two cards are needed, not {}", cards.len()) };
    let wish = Wish { quick, no_lab: true };
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let broker = Broker::start(shared, &["--iommu", INTERFACE], folder.path())?;
    let mut figures = Vec::new();
    for size in SIZES {
        figures.extend(buffers(&broker, own, size, wish)?);
    }
    figures.push(starts(&broker, own, wish)?);
    figures.extend(large_pages::measure(own, wish)?);
    hand_on(&figures)
}

/// Prints figures for the program on the host.
pub(super) fn hand_on(figures: &[Figure]) -> anyhow::Result<()> {
    let line = serde_json::to_string(figures)?;
    writeln!(std::io::stdout(), "{line}").context("printing the figures")
}

/// A size of buffers, how many of them are measured at once, and how much brokering may cost: beside the ioctls alone, and beside
/// the owner's own buffers.
struct Size {
    name: &'static str,
    bytes: u64,
    batch: u32,
    ioctls: f64,
    own: f64,
}

/// Of a small buffer most is the way to the broker and back, twice, on a processor that is
/// emulated; of a large one all is memory.
const SIZES: [Size; 2] = [
    Size { name: "64 KiB", bytes: 64 << 10, batch: 50, ioctls: 10.0, own: 3.0 },
    Size { name: "64 MiB", bytes: 64 << 20, batch: 1, ioctls: 5.0, own: 1.25 },
];

/// A DMA buffer of normal pages, made and freed by the client of a broker, beside the two ioctls without which there is none, and
/// beside the same buffer of an owner.
///
/// - By the broker: its memfd, whose pages the kernel zeroes as it pins them, the map, the descriptor to the client, the client's
///   mapping; and all of it undone.
/// - The ioctls: `VFIO_IOMMU_MAP_DMA` and `VFIO_IOMMU_UNMAP_DMA` of memory that is there, filled, and the same each time, with
///   the view by which the kernel is told of it.
/// - By its owner: as by the broker, in one process.
fn buffers(broker: &Broker, own: &CardAddress, size: Size, wish: Wish) -> anyhow::Result<[Figure; 2]> {
    let client = Bus::options().broker(broker.socket()).open()?;
    let options = OpenOptions { iommu: IommuInterface::Group, ..OpenOptions::default() };
    let opened = open_all_with(std::slice::from_ref(own), options)?;
    let space = AddressSpace::joined(opened.iter().map(|opened| &opened.space));
    let owner = Owner::of(opened)?;
    let memory = Memfd::create("raw", size.bytes, PageSize::Normal)?;
    let length = usize::try_from(size.bytes)?;
    Mapping::shared(&memory, 0, length, Access::ReadWrite)?.fill(0, length, 1)?;
    let pair = || {
        space.map(&memory, 0, RAW_IOVA, size.bytes)?;
        space.unmap(RAW_IOVA, size.bytes)
    };
    let rounds = Rounds::measure(
        "DMA buffers on a real kernel",
        wish.rounds(20),
        [
            &mut || timed(|| (0..size.batch).try_for_each(|_| client.dma_buffer(size.bytes)?.free())),
            &mut || timed(|| (0..size.batch).try_for_each(|_| pair())),
            &mut || timed(|| (0..size.batch).try_for_each(|_| owner.dma_buffer(size.bytes)?.free())),
        ],
    )?;
    let each = |side| rounds.seconds(side) * 1e6 / f64::from(size.batch);
    let figure = |other, than: &str, bar| Figure {
        what: format!("a brokered DMA buffer of {} on a real kernel, made and freed ÷ {than}", size.name),
        measured: rounds.ratio(0, other),
        unit: Unit::Ratio,
        bar: Bar::AtMost(bar),
        detail: format!("{:.0} and {:.0} µs", each(0), each(other)),
    };
    Ok([
        figure(1, "the ioctls that map and unmap memory that is there", size.ioctls),
        figure(2, "the owner's own", size.own),
    ])
}

/// A program from its start to its first register, beside the same alone: then it has to open the group, the container and the
/// card, and to map the BAR, all of which a broker has done. The edu needs no reset, which takes most real cards longer than all of
/// this; the bar is for a card like it.
fn starts(broker: &Broker, own: &CardAddress, wish: Wish) -> anyhow::Result<Figure> {
    let (socket, card) = (broker.socket().to_string_lossy(), own.to_string());
    let rounds = Rounds::measure(
        "starts on a real kernel",
        wish.rounds(20),
        [&mut || start(&[("JITNEY_BROKER", &socket)]), &mut || {
            start(&[("JITNEY_CARDS", &card), ("JITNEY_IOMMU", INTERFACE)])
        }],
    )?;
    let each = |side| rounds.seconds(side) * 1e3;
    Ok(Figure {
        what: "from exec to the first register read on a real kernel, as a client ÷ alone".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.25),
        detail: format!("{:.1} and {:.1} ms", each(0), each(1)),
    })
}

/// How long a process takes to its first register; `variables` tell it whose card that is.
fn start(variables: &[(&str, &str)]) -> anyhow::Result<Duration> {
    let program = std::env::current_exe().context("this program's own path")?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .arg("--first-read")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a program that reads a register")?;
    let mut byte = [0];
    let read = child.stdout.take().map(|mut output| output.read_exact(&mut byte));
    let time = start.elapsed();
    let status = child.wait().context("waiting for a program that reads a register")?;
    ensure!(
        status.success() && matches!(read, Some(Ok(()))),
        "a program that reads a register ended with {status}"
    );
    Ok(time)
}

/// Is that process: reads a register of the first card, and says so.
pub(crate) fn read_first() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let card = bus.open_cards()?.into_iter().next().context("there is no card")?;
    card.bar(0)?.read32(REGISTER)?;
    std::io::stdout().write_all(b"\n").context("saying so")
}
