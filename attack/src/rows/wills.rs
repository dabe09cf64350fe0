//! Wills that are long, wait for what never comes, or cannot be.

use super::Play;
use crate::client::refusal;
use crate::protocol::{Request, Step};
use crate::round::{End, PLAY_LIMIT, Round};
use crate::stage::Stage;
use crate::villain::Role;
use crate::xdma::{BAR, Channel, Direction};
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] =
    &[("wills", play_waits), ("odd-wills", play_odd), ("released-wills", play_released)];

const STEPS: usize = 64;
/// All waits of a will together, in milliseconds.
const WAITS: u32 = 5000;
const CHANNEL: Channel = Channel { direction: Direction::HostToCard, number: 1 };
/// A register that can be written without consequences: interrupts that are on already are switched on.
const HARMLESS: Step = Step::Write { bar: BAR, offset: 0x2004, value: 0 };

pub(super) fn waits(round: &Round<'_>) -> anyhow::Result<()> {
    for _ in 0..round.figure(1, 10) {
        round.play(&round.role("wills", 1), End::Killed)?;
    }
    Ok(())
}

pub(super) fn many(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("wills", 256), End::Killed)
}

fn play_waits(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    let mut will = vec![HARMLESS; STEPS];
    will[0] = CHANNEL.never(WAITS / 2);
    will[1] = CHANNEL.never(WAITS / 2);
    for number in 0..stage.count {
        client.lease(stage.card, &format!("w{}{number}", stage.word), &will)?;
        stage.did(1);
    }
    stage.stay()
}

pub(super) fn crowd(round: &Round<'_>) -> anyhow::Result<()> {
    let villains = (0..round.figure(4, 30)).map(|number| {
        // Each with a part of its own.
        let role = Role { word: format!("crowd{number}"), ..round.role("wills", 1) };
        let mut villain = round.start(&role)?;
        villain.wait_until_ready(PLAY_LIMIT)?;
        Ok(villain)
    });
    for villain in villains.collect::<anyhow::Result<Vec<_>>>()? {
        round.end(villain, End::Killed)?;
    }
    Ok(())
}

pub(super) fn released(round: &Round<'_>) -> anyhow::Result<()> {
    let mut villain = round.start(&round.role("released-wills", round.figure(4, 60)))?;
    villain.wait_until_ready(PLAY_LIMIT)?;
    std::thread::sleep(Duration::from_secs(round.figure(7, 60).into()));
    round.end(villain, End::Killed)
}

/// Has wills carried out by Release, many at once, and goes on living.
fn play_released(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    let mut leases = Vec::new();
    for number in 0..stage.count {
        leases.push(client.lease(stage.card, &format!("r{number}"), &[CHANNEL.never(WAITS)])?);
    }
    for lease in leases {
        client.post(&Request::Release { card: stage.card, lease, will: true }, &[])?;
        stage.did(1);
    }
    stage.ready();
    while client.users()?.iter().any(|user| user.program == "villain" && user.leases > 0) {
        std::thread::sleep(Duration::from_millis(200));
    }
    stage.stay()
}

pub(super) fn odd(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("odd-wills", round.figure(5, 100)), End::Killed)
}

fn play_odd(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    let write = |bar, offset| Step::Write { bar, offset, value: 0 };
    let wait = |within| Step::WaitUntil { bar: BAR, offset: 0, mask: 0, value: 1, within };
    let odd: Vec<Vec<Step>> = vec![
        vec![HARMLESS; STEPS + 1],
        vec![HARMLESS; 5000],
        vec![write(BAR, 1)],
        vec![write(BAR, 2)],
        vec![write(BAR, 0x1_0000)],
        vec![write(BAR, 0xffff)],
        vec![write(BAR, u64::MAX)],
        vec![write(BAR, u64::MAX - 3)],
        vec![write(1, 0)],
        vec![write(6, 0)],
        vec![write(7, 4)],
        vec![write(255, 0)],
        vec![wait(WAITS + 1)],
        vec![wait(u32::MAX)],
        vec![wait(u32::MAX), wait(2)],
        vec![wait(WAITS), wait(1)],
    ];
    for _ in 0..stage.count {
        for will in &odd {
            match client.lease(stage.card, "odd", will) {
                Err(error) if refusal(&error).is_some() => stage.did(1),
                other => stage.broken(format!("the will {:?}… was taken: {other:?}", &will[..1])),
            }
        }
    }
    // It is still there, and so is what it is used to.
    client.lease(stage.card, "odd", &[HARMLESS; STEPS])?;
    stage.stay()
}
