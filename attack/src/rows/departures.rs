//! SIGKILL in the middle of a transfer: what the card still writes does not land in the memory of who comes next.

use super::Play;
use crate::client::{Buffer, Client};
use crate::grant::Grant;
use crate::round::{End, Round};
use crate::stage::{Random, Stage};
use crate::villain::Role;
use crate::xdma::{self, Channel, Direction};
use std::time::{Duration, Instant};

pub(super) const PLAYS: &[(&str, Play)] = &[("dma", play)];

const SIZE: u64 = 256 << 10;
/// What the card does not write.
const MARK: u8 = 0xa5;
/// How long a newcomer's memory is watched.
const WATCH: Duration = Duration::from_millis(5);

pub(super) fn with_a_will(round: &Round<'_>) -> anyhow::Result<()> {
    rounds(round, "will")
}

pub(super) fn without(round: &Round<'_>) -> anyhow::Result<()> {
    rounds(round, "none")
}

fn rounds(round: &Round<'_>, word: &str) -> anyhow::Result<()> {
    let mut random = Random::new(round.seed);
    let mut newcomers = (0, 0);
    for _ in 0..round.figure(20, 1000) {
        let role = Role { word: word.to_owned(), ..round.role("dma", 1) };
        round.play(&role, End::Killed)?;
        let mut newcomer = Client::welcome(&round.arena.place.socket, "good newcomer")?;
        let _grant = newcomer.open(round.arena.cards[0])?;
        let mut memory = Vec::new();
        for size in [SIZE, 4096, SIZE, SIZE] {
            let buffer = newcomer.allocate(round.arena.cards[0], size)?;
            let mut data = vec![0; usize::try_from(size)?];
            random.fill(&mut data);
            xdma::put(&buffer, 0, &data)?;
            memory.push((buffer, data));
        }
        std::thread::sleep(WATCH);
        for (buffer, data) in &memory {
            newcomers.0 += 1;
            newcomers.1 += different(buffer, data)?;
        }
        round.did(1);
    }
    if newcomers.1 > 0 {
        round.broken(format!(
            "{} bytes in {} buffers that who has them did not write",
            newcomers.1, newcomers.0
        ));
    }
    Ok(())
}

fn different(buffer: &Buffer, data: &[u8]) -> anyhow::Result<usize> {
    Ok(xdma::get(buffer)?.iter().zip(data).filter(|(found, written)| found != written).count())
}

/// Has the card write to its memory without end.
fn play(stage: &Stage) -> anyhow::Result<()> {
    let channel = Channel { direction: Direction::CardToHost, number: xdma::CHANNELS - 1 };
    let (mut client, grant) = stage.with_card()?;
    let mut grant = Grant::negotiate(grant)?;
    let will = if stage.word == "will" { channel.will().to_vec() } else { Vec::new() };
    client.lease(stage.card, &channel.part(), &will)?;
    channel.stop(&mut grant)?;
    let ring = client.allocate(stage.card, 4096)?;
    let data = client.allocate(stage.card, SIZE)?;
    xdma::put(&data, 0, &vec![MARK; usize::try_from(SIZE)?])?;
    channel.run_for_ever(&mut grant, &ring, &data, 16 << 20, 4)?;
    let since = Instant::now();
    // The card has written to all of it, and goes on.
    while xdma::get(&data)?.contains(&MARK) {
        if since.elapsed() > Duration::from_secs(5) {
            stage.broken("the card has not written anything");
            break;
        }
    }
    if !channel.is_busy(&mut grant)? {
        stage.broken("an endless ring is not busy");
    }
    stage.stay()
}
