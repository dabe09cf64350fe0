//! Eventfds that block who signals them.

use super::Play;
use crate::grant::{Grant, MSIX};
use crate::protocol::Request;
use crate::round::{End, Round};
use crate::stage::Stage;
use anyhow::anyhow;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::write;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[("events", play)];

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("events", round.figure(3, 30)), End::Killed)
}

/// An event that has no room for another.
fn full(flags: EventfdFlags) -> anyhow::Result<OwnedFd> {
    let event = eventfd(0, flags | EventfdFlags::CLOEXEC)?;
    write(&event, &(u64::MAX - 1).to_ne_bytes())?;
    Ok(event)
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, grant) = stage.with_card()?;
    // What the broker shares with its clients does not block it, whatever they make of it.
    fcntl_setfl(&client.socket, OFlags::empty())?;
    fcntl_setfl(&grant, OFlags::empty())?;
    let mut grant = Grant::negotiate(grant)?;
    client.lease(stage.card, "irq1", &[])?;
    for _ in 0..stage.count {
        for flags in [EventfdFlags::empty(), EventfdFlags::NONBLOCK] {
            let event = full(flags)?;
            client.wire(stage.card, 1, &event)?;
            // Whatever the receiver has set.
            fcntl_setfl(&event, OFlags::empty())?;
            std::thread::scope(|scope| {
                // The interrupt, through the grant, whose board may be the one that waits.
                let rung = scope.spawn(|| grant.trigger(MSIX, 1, 1));
                std::thread::sleep(Duration::from_millis(50));
                let silenced = client.done(&Request::Silence { card: stage.card, vector: 1 });
                // Room again, for who still waits.
                rustix::io::read(&event, &mut [0; 8])?;
                if let Err(error) = silenced {
                    stage.broken(format!("Silence of a full eventfd: {error:#}"));
                }
                // The card may refuse it; it only has to answer.
                let _ = rung.join().map_err(|_| anyhow!("a panic"))??;
                anyhow::Ok(())
            })?;
            stage.did(1);
        }
    }
    // A full one is wired when its owner dies, and rung once more.
    let event = full(EventfdFlags::empty())?;
    client.wire(stage.card, 1, &event)?;
    fcntl_setfl(&event, OFlags::empty())?;
    std::thread::spawn(move || grant.trigger(MSIX, 1, 1));
    std::thread::sleep(Duration::from_millis(100));
    stage.stay()
}
