//! What a client that does nothing costs its broker, and what a board costs that nobody wrote to.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::{Board, Broker};
use crate::progress::Progress;
use anyhow::Context;
use jitney_broker::Bus;

const CLIENTS: usize = 100;
const BOARD_MEMORY: u64 = 1 << 30;

pub(super) fn measure(_wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let [started, read] = board()?;
    Ok(vec![clients()?, started, read])
}

/// Clients that have opened the card, as every program does, and then do nothing.
fn clients() -> anyhow::Result<Figure> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let broker = Broker::start(&board.address(), &[], folder.path())?;
    let open = || {
        let bus = Bus::options().broker(broker.socket()).open()?;
        let cards = bus.open_cards()?;
        anyhow::Ok((bus, cards))
    };
    // What the first one costs once is not what each one costs.
    drop(open()?);
    let before = resident(broker.pid())?;
    let progress = Progress::new("idle clients", CLIENTS);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(open()?);
        progress.advance();
    }
    let after = resident(broker.pid())?;
    Ok(Figure {
        what: format!("memory of the owner for each of {CLIENTS} idle clients"),
        measured: after.saturating_sub(before) as f64 / CLIENTS as f64,
        unit: Unit::Kibibytes,
        bar: Bar::AtMost(64.0),
        detail: format!("resident: {before} KiB without, {after} KiB with them"),
    })
}

/// A board of 1 GiB that was started, and one all of whose memory was read.
fn board() -> anyhow::Result<[Figure; 2]> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let started = resident(board.pid())?;
    {
        let _progress = Progress::new("reading 1 GiB", 1);
        let bus = Bus::alone(&[board.address()])?;
        let card = bus.open_cards()?.remove(0);
        let c2h = jitney_boards::identify(&card)?.xdma()?.c2h(0)?;
        // While it is mapped, the program's buffer counts as memory of both.
        let buffer = bus.dma_buffer(BOARD_MEMORY)?;
        c2h.read(&buffer, 0)?;
    }
    let read = resident(board.pid())?;
    let figure = |what: &str, resident: u64| Figure {
        what: format!("memory of a board of 1 GiB that {what}"),
        measured: resident as f64,
        unit: Unit::Kibibytes,
        bar: Bar::AtMost(16.0 * 1024.0),
        detail: "resident, in all".into(),
    };
    Ok([figure("nobody wrote to", started), figure("was read as a whole, and not written to", read)])
}

/// A process's resident memory in KiB, what it shares with others included, see proc(5).
fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.with_context(|| format!("no resident size in {path}"))
}
