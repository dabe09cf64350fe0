//! What a grant can be misused for.

use super::Play;
use crate::client::is_refused;
use crate::grant::{CardError, Grant, MSIX};
use crate::protocol::{Kind, Request};
use crate::round::{End, Round};
use crate::stage::Stage;
use crate::villain::Role;
use crate::xdma::{Channel, Direction};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[("grant-maps", play_maps), ("grant-powers", play_powers)];

const EPERM: u32 = 1;

pub(super) fn maps(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("grant-maps", round.figure(5, 200)), End::Killed)
}

/// Maps where the broker will want to, and unmaps what others have.
fn play_maps(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, grant) = stage.with_card()?;
    let mut grant = Grant::negotiate(grant)?;
    let memory = memfd_create("squatter", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, 1 << 32)?;
    let expect = |what: &str, outcome: Result<(), CardError>| match outcome {
        Err(CardError { errno: EPERM, .. }) => stage.did(1),
        other => stage.broken(format!("{what} through the grant: {other:?}")),
    };
    for _ in 0..stage.count {
        for shift in [32, 39, 48, 52, 63] {
            expect("DMA_MAP", grant.map(&memory, (1_u64 << shift) - (1 << 32), 1 << 32)?);
        }
        let buffer = client.allocate(stage.card, 1 << 20)?;
        expect("DMA_UNMAP of a buffer of its own", grant.unmap(Some((buffer.iova, buffer.size)))?);
        expect("DMA_UNMAP of what is near", grant.unmap(Some((buffer.iova + buffer.size, 256 << 10)))?);
        expect("DMA_UNMAP of everything", grant.unmap(None)?);
        expect("DMA_UNMAP of all addresses", grant.unmap(Some((0, u64::MAX - 4095)))?);
        client.done(&Request::Free { iova: buffer.iova })?;
    }
    stage.stay()
}

pub(super) fn powers(round: &Round<'_>) -> anyhow::Result<()> {
    for number in 0..round.figure(3, 50) {
        // The good client is there for certain only before its card was reset.
        let word = if number == 0 { "first" } else { "" }.to_owned();
        round.play(&Role { word, ..round.role("grant-powers", 1) }, End::Killed)?;
    }
    Ok(())
}

/// Takes interrupts, resets the card, switches it off, and leaves a will.
fn play_powers(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, grant) = stage.with_card()?;
    let mut grant = Grant::negotiate(grant)?;
    let channel = Channel { direction: Direction::HostToCard, number: 1 };
    client.lease(stage.card, &channel.part(), &channel.will())?;
    match client.done(&Request::Reset { card: stage.card }) {
        Err(error) if is_refused(&error, Kind::Held) => {}
        Ok(()) if stage.word != "first" => {}
        other => stage.broken(format!("a card that others use was reset: {other:?}")),
    }
    // Its card may refuse each of these; it has to answer.
    for kind in 0..5 {
        let _ = grant.trigger(kind, 0, 0)?;
        let _ = grant.trigger(kind, 0, 1)?;
    }
    let _ = grant.trigger(MSIX, 0, 32)?;
    let _ = grant.reset()?;
    grant.set_command(0)?;
    std::thread::sleep(Duration::from_millis(20));
    grant.set_command(0x0407)?;
    let _ = grant.reset()?;
    grant.set_command(0)?;
    stage.did(1);
    stage.stay()
}
