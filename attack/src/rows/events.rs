//! Eventfds that block who signals them.

use super::Play;
use crate::grant::{Grant, MSIX};
use crate::protocol::Request;
use crate::round::{End, Round};
use crate::stage::Stage;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::write;
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[("events", play)];

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("events", round.figure(3, 30)), End::Killed)
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, grant) = stage.with_card()?;
    // What the broker shares with its clients does not block it, whatever they make of it.
    fcntl_setfl(&client.socket, OFlags::empty())?;
    fcntl_setfl(&grant, OFlags::empty())?;
    let mut grant = Grant::negotiate(grant)?;
    client.lease(stage.card, "irq1", &[])?;
    for _ in 0..stage.count {
        for flags in [EventfdFlags::CLOEXEC, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK] {
            let event = eventfd(0, flags)?;
            write(&event, &(u64::MAX - 1).to_ne_bytes())?;
            client.wire(stage.card, 1, &event)?;
            // Whatever the receiver has set.
            fcntl_setfl(&event, OFlags::empty())?;
            std::thread::scope(|scope| {
                // The interrupt, through the grant, whose board may be the one that waits.
                let rung = scope.spawn(|| grant.trigger(MSIX, 1, 1));
                std::thread::sleep(Duration::from_millis(50));
                let silenced = client.done(&Request::Silence { card: stage.card, vector: 1 });
                // Room again, for a board that waits.
                let mut count = [0; 8];
                rustix::io::read(&event, &mut count)?;
                if let Err(error) = silenced {
                    stage.broken(format!("Silence of a full eventfd: {error:#}"));
                }
                rung.join().map_err(|_| anyhow::anyhow!("a panic"))??.ok();
                anyhow::Ok(())
            })?;
            stage.did(1);
        }
    }
    // A full one is wired when it dies.
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    write(&event, &(u64::MAX - 1).to_ne_bytes())?;
    client.wire(stage.card, 1, &event)?;
    fcntl_setfl(&event, OFlags::empty())?;
    stage.stay()
}
