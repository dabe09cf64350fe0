//! Packets that a board's streams have to get right.

use super::dma_memory::{lengths, noise};
use super::joined::Joined;
use super::verdict::{Checks, Found};
use crate::args::Dma;
use crate::channels;
use crate::report::Report;
use anyhow::{Context, bail, ensure};
use jitney_boards::Board;
use jitney_vfio::DmaRequest;
use jitney_xdma::{C2h, Direction, H2c, Pending, Xdma};

/// The longest packet that is sent.
const LONGEST: u64 = 64 << 10;

pub(super) fn add_checks(board: &Board, dma: Dma, checks: &mut Checks, report: &mut Report) {
    let found = board.xdma().map_err(anyhow::Error::from).and_then(|xdma| {
        let joined = Joined::of(board, &xdma)?;
        Ok((xdma, joined))
    });
    let (xdma, joined) = match found {
        Ok(found) => found,
        Err(error) => return checks.run(report, "streams", |_| Err(error)),
    };
    let is_crc = matches!(joined, Joined::Crc64(_));
    for (from, to) in joined.pairs() {
        let what = if is_crc { "CRC64 of packets" } else { "packets" };
        checks.run(report, &format!("h2c{from} to c2h{to}: {what}"), |_| {
            joined.join((from, to))?;
            let mut bench = Bench::new(board, &xdma, dma, from, to)?;
            if is_crc { bench.crcs(board) } else { bench.packets() }
        });
    }
    if let Joined::Apart { comes } = joined {
        for channel in xdma.channels(Direction::HostToCard) {
            checks.run(report, &format!("{channel}: packets are taken"), |_| {
                swallowed(board, &xdma, dma, channel.index)
            });
        }
        for channel in xdma.channels(Direction::CardToHost) {
            checks.run(report, &format!("{channel}: data comes"), |_| match comes {
                true => constant(board, &xdma, dma, channel.index),
                false => Ok(Found::Unfit("nothing feeds it in this design".into())),
            });
        }
    }
}

/// A channel each way that are joined.
struct Bench<'a> {
    board: &'a Board,
    h2c: H2c,
    c2h: C2h,
}

impl<'a> Bench<'a> {
    fn new(board: &'a Board, xdma: &Xdma, dma: Dma, from: u8, to: u8) -> anyhow::Result<Self> {
        let h2c = channels::to_card(xdma, Dma { channel: from, ..dma })?;
        let c2h = channels::from_card(xdma, Dma { channel: to, ..dma })?;
        Ok(Self { board, h2c, c2h })
    }

    /// Packets of every length arrive whole, in order, with their ends; also one that is longer than what it is received into.
    fn packets(&mut self) -> anyhow::Result<Found> {
        let card = self.board.card();
        let (source, target) = (card.dma_buffer(LONGEST.into())?, card.dma_buffer(LONGEST.into())?);
        let all: Vec<u64> = lengths(LONGEST).collect();
        for (number, length) in (1_u64..).zip(&all) {
            let data = noise(*length, number);
            source.write(0, &data)?;
            // What a word of the data path has behind the end is the card's.
            let room = length.next_multiple_of(64);
            let armed = self.c2h.receive(&target, 0..room)?;
            self.h2c.write_range(&source, 0..*length, 0)?;
            let done = finished(armed, self.c2h.info().to_string())?;
            let mut seen = vec![0; data.len()];
            target.read(0, &mut seen)?;
            ensure!(
                done.bytes == *length && done.ends_packet,
                "a packet of {length} bytes came as {} bytes{}",
                done.bytes,
                if done.ends_packet { "" } else { " without its end" }
            );
            ensure!(seen == data, "a packet of {length} bytes came with other data");
        }
        let parts = [4096, 4096, 128];
        let data = noise(parts.iter().sum::<u64>() - 28, 99);
        source.write(0, &data)?;
        let mut at = 0;
        let armed = parts.map(|part| {
            at += part;
            self.c2h.receive(&target, at - part..at)
        });
        self.h2c.write_range(&source, 0..data.len() as u64, 0)?;
        let mut ends = Vec::new();
        for part in armed {
            ends.push(finished(part?, self.c2h.info().to_string())?.ends_packet);
        }
        ensure!(ends == [false, false, true], "a packet in three parts did not end in the third: {ends:?}");
        let mut seen = vec![0; data.len()];
        target.read(0, &mut seen)?;
        ensure!(seen == data, "a packet in three parts came with other data");
        Ok(Found::Good(format!("{} packets of 1 to {LONGEST} bytes, whole and in order", all.len() + 1)))
    }

    /// Each packet gives its CRC.
    fn crcs(&mut self, board: &Board) -> anyhow::Result<Found> {
        let word =
            u64::from(board.design().dma.and_then(|dma| dma.width).context("the width of the data path")?)
                / 8;
        let card = board.card();
        let (source, target) = (card.dma_buffer(LONGEST.into())?, card.dma_buffer(DmaRequest::new(4096))?);
        // The logic takes whole words of the data path.
        let all: Vec<u64> = lengths(LONGEST).filter(|length| length.is_multiple_of(word)).collect();
        let crc = crc::Crc::<u64>::new(&crc::CRC_64_XZ);
        for (number, length) in (1_u64..).zip(&all) {
            let data = noise(*length, number);
            source.write(0, &data)?;
            let armed = self.c2h.receive(&target, 0..64)?;
            self.h2c.write_range(&source, 0..*length, 0)?;
            let done = finished(armed, self.c2h.info().to_string())?;
            ensure!(
                done.bytes == 8 && done.ends_packet,
                "the CRC of {length} bytes came as {} bytes",
                done.bytes
            );
            let mut seen = [0; 8];
            target.read(0, &mut seen)?;
            // That of XZ without the inversion at its end.
            let (seen, expected) = (u64::from_le_bytes(seen), !crc.checksum(&data));
            ensure!(
                seen == expected,
                "the CRC of {length} bytes is {seen:#018x} and should be {expected:#018x}"
            );
        }
        Ok(Found::Good(format!("{} packets of {word} to {LONGEST} bytes", all.len())))
    }
}

/// What a receipt came to, within a time that is long for any card.
fn finished(armed: Pending, channel: String) -> anyhow::Result<jitney_xdma::Completed> {
    match armed.wait_for(std::time::Duration::from_secs(5))? {
        Some(done) => Ok(done),
        None => bail!("nothing came on {channel} within 5 s"),
    }
}

fn swallowed(board: &Board, xdma: &Xdma, dma: Dma, channel: u8) -> anyhow::Result<Found> {
    let h2c = channels::to_card(xdma, Dma { channel, ..dma })?;
    let source = board.card().dma_buffer(LONGEST.into())?;
    let all: Vec<u64> = lengths(LONGEST).collect();
    all.iter().try_for_each(|length| h2c.write_range(&source, 0..*length, 0).map(drop))?;
    Ok(Found::Good(format!("{} packets of 1 to {LONGEST} bytes", all.len())))
}

fn constant(board: &Board, xdma: &Xdma, dma: Dma, channel: u8) -> anyhow::Result<Found> {
    let c2h = channels::from_card(xdma, Dma { channel, ..dma })?;
    let target = board.card().dma_buffer(LONGEST.into())?;
    let done = finished(c2h.receive(&target, 0..LONGEST)?, c2h.info().to_string())?;
    ensure!(done.bytes > 0, "an empty packet came");
    Ok(Found::Good(format!("{} bytes in a packet", done.bytes)))
}
