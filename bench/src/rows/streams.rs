//! A stream there and back, beside a copy of as many bytes.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Board;
use crate::rounds::{Rounds, timed};
use anyhow::{Context, ensure};
use jitney_broker::Bus;
use jitney_xdma::{Error, Overrun, Piece};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of a packet, and how many are sent in a measurement: 1 GiB on either side, as for transfers to memory. Less would lie
/// in the caches, where no stream worth measuring lies.
const PACKET: u64 = 1 << 20;
const PACKETS: u64 = 1024;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("NiteFury_dma_stream_loopback", folder.path())?;
    let bus = Bus::alone(&[board.address()])?;
    let card = bus.open_cards()?.remove(0);
    let board = jitney_boards::identify(&card)?;
    board.stream_switch()?.lease()?.set_routes(&[Some(1), Some(0)])?;
    let xdma = board.xdma()?;
    // Who waits sleeps until the interrupt: the engines need the processors.
    let (h2c, c2h) = (xdma.h2c(0)?.by_interrupt()?, xdma.c2h(1)?.by_interrupt()?);
    let (source, target) = (bus.dma_buffer(PACKETS * PACKET)?, bus.dma_buffer(PACKETS * PACKET)?);
    let place = |number: u64| number * PACKET..(number + 1) * PACKET;
    let loopback = || {
        thread::scope(|scope| {
            let sent = scope.spawn(|| -> Result<(), Error> {
                let packets = (0..PACKETS).map(|number| Piece::new(&source, place(number), 0));
                h2c.submit_batch(packets)?.into_iter().try_for_each(|pending| pending.wait().map(drop))
            });
            let armed = c2h.receive_batch(&target, (0..PACKETS).map(place));
            let received = armed.and_then(|armed| armed.into_iter().try_for_each(|one| one.wait().map(drop)));
            sent.join().map_or(received.clone(), |sent| sent.and(received))
        })
    };
    let rounds = Rounds::measure(
        "a stream there and back",
        wish.rounds(9),
        [&mut || timed(loopback), &mut || {
            timed(|| {
                let length = usize::try_from(PACKETS * PACKET).unwrap_or(usize::MAX);
                source.view().copy_to(0, target.view(), 0, length)
            })
        }],
    )?;
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let rate = |side: usize| (PACKET * PACKETS) as f64 / 1e9 / rounds.seconds(side);
    let through = Figure {
        what: "a stream there and back ÷ one thread's memcpy, bytes per second".into(),
        measured: 1.0 / rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtLeast(0.6),
        detail: format!("{:.2} and {:.2} GB/s", rate(0), rate(1)),
    };

    let time = Duration::from_secs(if wish.quick { 5 } else { 60 });
    let mut capture = c2h.capture(64, PACKET, Overrun::Wait)?;
    let mut block = vec![0; capture.block_size()];
    let (started, mut bytes, mut lost) = (Instant::now(), 0_u64, 0_u64);
    let sent = thread::scope(|scope| -> anyhow::Result<u64> {
        let sender = scope.spawn(|| -> Result<u64, Error> {
            let mut sent = 0;
            while started.elapsed() < time {
                h2c.write_range(&source, 0..PACKET, 0)?;
                sent += PACKET;
            }
            Ok(sent)
        });
        while let Some(captured) = capture.read(&mut block, Some(Duration::from_secs(2)))? {
            bytes += captured.bytes as u64;
            lost += captured.lost;
        }
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.map_err(Into::into)
    })?;
    ensure!(bytes > 0, "nothing was captured");
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let captured = Figure {
        what: format!("bytes lost by a capture of {} s", time.as_secs()),
        measured: (sent - bytes + lost * PACKET) as f64 / 1024.0,
        unit: Unit::Kibibytes,
        bar: Bar::AtMost(0.0),
        detail: format!("{:.2} of {:.2} GB captured", bytes as f64 / 1e9, sent as f64 / 1e9),
    };
    Ok(vec![through, captured])
}
