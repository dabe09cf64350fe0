//! Many clients at once that do everything, and are killed at any moment: what is left is right.

use super::Play;
use crate::client::{Buffer, Client, is_refused};
use crate::grant::Grant;
use crate::protocol::{Kind, Offered, Reply, Request};
use crate::round::{End, Round};
use crate::stage::{Random, Stage};
use crate::villain::{Role, Villain};
use crate::xdma::{self, Channel, Direction};
use anyhow::{Context, bail};
use std::os::fd::AsFd;
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[("chaos", play)];

const SIZE: u64 = 64 << 10;
/// Where on the card, out of the way of the good client and of other rows.
const PLACE: u64 = 24 << 20;
/// Names that they offer memory by, so that they meet.
const NAMES: usize = 6;

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    let mut random = Random::new(round.seed);
    let start = |random: &mut Random| -> anyhow::Result<Villain> {
        let choices = random.next();
        round.start(&Role { choices, ..round.role("chaos", 1) })
    };
    let mut villains = Vec::new();
    for _ in 0..round.figure(12, 64) {
        villains.push(start(&mut random)?);
    }
    for _ in 0..round.figure(300, 10_000) {
        std::thread::sleep(Duration::from_micros(random.next() % 6000));
        let which = random.below(villains.len());
        let killed = std::mem::replace(&mut villains[which], start(&mut random)?);
        round.end(killed, End::Anywhere)?;
        round.did(1);
    }
    villains.into_iter().try_for_each(|villain| round.end(villain, End::Anywhere))
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let mut random = stage.random();
    stage.ready();
    loop {
        if let Err(error) = live(stage, &mut random) {
            // Others have it, it took too long, or there are too many: that is life here.
            let usual = [Kind::Held, Kind::TimedOut, Kind::Exhausted, Kind::NotFound];
            if !usual.into_iter().any(|kind| is_refused(&error, kind)) {
                stage.broken(format!("{error:#}"));
            }
        }
    }
}

/// A client's life, if nobody ends it.
fn live(stage: &Stage, random: &mut Random) -> anyhow::Result<()> {
    let (mut client, grant) = stage.with_card()?;
    let mut grant = Grant::negotiate(grant)?;
    let ring = client.allocate(stage.card, 4096)?;
    let (out, back) = (client.allocate(stage.card, SIZE)?, client.allocate(stage.card, SIZE)?);
    for _ in 0..=random.below(3) {
        match random.below(5) {
            0 => share(&mut client, random, &out)?,
            1 => attach(&mut client, random)?,
            2 => wait_a_little(&mut client, stage, random)?,
            _ => there_and_back(stage, random, (&mut client, &mut grant), (&ring, &out, &back))?,
        }
    }
    match random.below(2) {
        0 => client.done(&Request::Goodbye),
        // What it has goes without a word.
        _ => Ok(()),
    }
}

fn share(client: &mut Client, random: &mut Random, buffer: &Buffer) -> anyhow::Result<()> {
    let name = Some(format!("chaos-{}", random.below(NAMES)));
    let request = Request::Share { iova: buffer.iova, name, writable: true };
    let number = client.post(&request, &[buffer.memory.as_fd()])?;
    client.answer(number).context("Share")?;
    if random.below(2) == 0 {
        client.done(&Request::Unshare { iova: buffer.iova })?;
    }
    Ok(())
}

fn attach(client: &mut Client, random: &mut Random) -> anyhow::Result<()> {
    let offered = Offered::Name(format!("chaos-{}", random.below(NAMES)));
    let answer = match client.ask(&Request::Attach { offered }) {
        // It is what it has itself.
        Err(error) if is_refused(&error, Kind::Invalid) => return Ok(()),
        answer => answer?,
    };
    match answer.reply {
        Reply::Attached { iova, .. } if random.below(2) == 0 => client.done(&Request::Free { iova }),
        Reply::Attached { .. } => Ok(()),
        other => bail!("Attach was answered with {other:?}"),
    }
}

/// Stands in line for what is nobody's to drive, for some time.
fn wait_a_little(client: &mut Client, stage: &Stage, random: &mut Random) -> anyhow::Result<()> {
    let part = format!("chaos-{}", random.below(3));
    let wait = [1, 5, 20][random.below(3)];
    let request =
        Request::Lease { card: stage.card, part, shared: random.below(4) == 0, will: Vec::new(), wait };
    match client.ask(&request)?.reply {
        Reply::Leased { lease } if random.below(2) == 0 => {
            client.done(&Request::Release { card: stage.card, lease, will: false })
        }
        Reply::Leased { .. } => Ok(()),
        other => bail!("Lease was answered with {other:?}"),
    }
}

/// Memory to the card and back, with channels that all of them want, and wait for.
fn there_and_back(
    stage: &Stage,
    random: &mut Random,
    (client, grant): (&mut Client, &mut Grant),
    (ring, out, back): (&Buffer, &Buffer, &Buffer),
) -> anyhow::Result<()> {
    let channel = |direction| Channel { direction, number: xdma::CHANNELS - 1 };
    let channels = [channel(Direction::HostToCard), channel(Direction::CardToHost)];
    let mut leases = Vec::new();
    for channel in channels {
        let request = Request::Lease {
            card: stage.card,
            part: channel.part(),
            shared: false,
            will: channel.will().to_vec(),
            wait: [200, u32::MAX][random.below(2)],
        };
        match client.ask(&request)?.reply {
            Reply::Leased { lease } => leases.push(lease),
            other => bail!("Lease was answered with {other:?}"),
        }
        channel.stop(grant)?;
    }
    let mut data = vec![0; usize::try_from(SIZE)?];
    random.fill(&mut data);
    xdma::put(out, 0, &data)?;
    channels[0].transfer(grant, ring, out, PLACE)?;
    channels[1].transfer(grant, ring, back, PLACE)?;
    if xdma::get(back)? != data {
        stage.broken("memory came back from the card otherwise than it went there");
    }
    for lease in leases {
        client.done(&Request::Release { card: stage.card, lease, will: random.below(2) == 0 })?;
    }
    Ok(())
}
