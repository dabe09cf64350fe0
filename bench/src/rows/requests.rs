//! A request to a broker, beside a bare ping-pong of two processes, and beside itself when 64 clients ask at once.

use super::Wish;
use crate::echo::Echo;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::{Board, Broker};
use crate::rounds::{Rounds, timed};
use anyhow::{Context, anyhow};
use jitney_broker::Bus;
use jitney_vfio::{Card, CardAddress, LeaseRequest};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Leases per measurement.
const LEASES: u32 = 1000;
/// Clients that ask at once.
const CLIENTS: usize = 64;
/// Requests of each of them.
const EACH: usize = 100;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let broker = Broker::start(&board.address(), &[], folder.path())?;
    let card = Bus::options().broker(broker.socket()).open()?.open_cards()?.remove(0);
    let mut echo = Echo::start()?;
    let rounds = Rounds::measure(
        "leases",
        wish.rounds(40),
        [
            &mut || timed(|| (0..LEASES).try_for_each(|_| lease(&*card, "bench"))),
            // A lease and its release are a request each.
            &mut || timed(|| (0..2 * LEASES).try_for_each(|_| echo.ping())),
        ],
    )?;
    let each = |side| rounds.seconds(side) * 1e6 / f64::from(LEASES);
    let leased = Figure {
        what: "a lease and its release by a client ÷ two bare ping-pongs".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(2.0),
        detail: format!("{:.1} and {:.1} µs", each(0), each(1)),
    };
    let (alone, crowd) = (slowest(broker.socket(), 1)?, slowest(broker.socket(), CLIENTS)?);
    let crowded = Figure {
        what: "64 clients that ask at once: the p99 of their waits ÷ one client's, each 64 times as long or less".into(),
        measured: crowd.as_secs_f64() / alone.as_secs_f64() / 64.0,
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.5),
        detail: format!("{:.0} and {:.0} µs", crowd.as_secs_f64() * 1e6, alone.as_secs_f64() * 1e6),
    };
    Ok(vec![leased, crowded, kept(wish, &*card, &board.address(), folder.path())?])
}

/// What it costs to write down what is done, for a broker that goes on after this one.
fn kept(wish: Wish, alone: &dyn Card, address: &CardAddress, folder: &Path) -> anyhow::Result<Figure> {
    let folder = folder.join("kept");
    std::fs::create_dir(&folder).context("a folder for a second broker")?;
    let broker = Broker::start(address, &["--keep"], &folder)?;
    let card = Bus::options().broker(broker.socket()).open()?.open_cards()?.remove(0);
    let rounds = Rounds::measure(
        "leases under a keeper",
        wish.rounds(40),
        [&mut || timed(|| (0..LEASES).try_for_each(|_| lease(&*card, "bench"))), &mut || {
            timed(|| (0..LEASES).try_for_each(|_| lease(alone, "bench")))
        }],
    )?;
    let each = |side| rounds.seconds(side) * 1e6 / f64::from(LEASES);
    Ok(Figure {
        what: "a lease and its release where somebody keeps (`--keep`) ÷ where nobody does".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.5),
        detail: format!("{:.1} and {:.1} µs", each(0), each(1)),
    })
}

fn lease(card: &dyn Card, part: &str) -> jitney_vfio::Result<()> {
    card.lease(LeaseRequest::exclusive(part.parse()?)).map(drop)
}

/// The p99 of what a lease and its release take if so many clients, each a connection with a thread, go on asking for them.
fn slowest(broker: &Path, clients: usize) -> anyhow::Result<Duration> {
    let start = Arc::new(Barrier::new(clients));
    let rounds = EACH * CLIENTS / clients;
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (broker, start) = (broker.to_owned(), Arc::clone(&start));
            std::thread::spawn(move || -> anyhow::Result<Vec<Duration>> {
                let card = Bus::options().broker(broker).open()?.open_cards()?.remove(0);
                let part = format!("bench-{client}");
                start.wait();
                (0..rounds)
                    .map(|_| {
                        let since = Instant::now();
                        lease(&*card, &part)?;
                        Ok(since.elapsed())
                    })
                    .collect()
            })
        })
        .collect();
    let mut times = Vec::new();
    for thread in threads {
        times.extend(thread.join().map_err(|_| anyhow!("a client panicked"))??);
    }
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().context("nobody asked for anything")
}
