//! The rows of the table, and the roles that villains play in them.

mod chaos;
mod departures;
mod descriptors;
mod doors;
mod events;
mod floods;
mod fuse;
mod garbage;
mod grants;
mod limits;
mod logs;
mod maps;
mod shares;
mod silence;
mod squatted;
mod stops;
mod wills;

use crate::figures::{Act, Place};
use crate::round::Round;
use crate::stage::Stage;
use anyhow::bail;
use std::time::Duration;

/// A row.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// One line.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Round<'_>) -> anyhow::Result<()>,
    pub(crate) excuse: Excuse,
}

/// What the good client on the card that is attacked has to put up with. The one on the other card puts up with nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Excuse {
    None,
    /// The card is reset or its interrupts are taken, which who has a grant can do: docs/limits.md says so.
    Disturbed,
    /// What needs the card waits behind wills, as long as those may take.
    Wills,
}

/// As long as a will may wait, and a little.
const WILL_LIMIT: Duration = Duration::from_millis(5500);

impl Excuse {
    /// How long a request may take whatever it takes alone.
    pub(crate) fn limit(self, place: Place, act: Act) -> Duration {
        match (place, self, act) {
            (Place::Same, Self::Disturbed, _) => Duration::MAX,
            (Place::Same, Self::Wills, Act::Wire | Act::Allocate) => WILL_LIMIT,
            _ => Duration::ZERO,
        }
    }
}

const fn row(name: &'static str, about: &'static str, run: fn(&Round<'_>) -> anyhow::Result<()>) -> Row {
    Row { name, about, run, excuse: Excuse::None }
}

const fn excused(row: Row, excuse: Excuse) -> Row {
    Row { excuse, ..row }
}

pub(crate) const ROWS: &[Row] = &[
    row(
        "strangers",
        "descriptors of every kind that nobody asked for, up to 253 in a message",
        descriptors::strangers,
    ),
    row("lingering", "TCP sockets whose close waits for a peer that does not read", descriptors::lingering),
    row("fuse", "files of a file system that never answers a close", fuse::row),
    row("clogged", "more of such files than a process may have open", fuse::clogged),
    row("behind-nothing", "a lingering socket in a message behind empty ones", descriptors::behind_nothing),
    row("in-flight", "sockets inside sockets inside sockets", descriptors::in_flight),
    excused(row("events", "eventfds that are full and block", events::row), Excuse::Disturbed),
    row("connections", "connections by the thousand, with and without Hello", floods::connections),
    row("opens", "a card opened and closed, with and without a goodbye", floods::opens),
    excused(
        row("behind-a-reset", "requests unread behind a reset, whose sender is gone", floods::behind_a_reset),
        Excuse::Disturbed,
    ),
    row("thousand", "a thousand clients at once, each with a card and a buffer", floods::crowd),
    row("chaos", "clients that do everything at once, killed at any moment", chaos::row),
    row("lines", "as many in line for leases as there may be, who come and go", floods::lines),
    row("leases", "as many leases as there may be, and their end", floods::leases),
    row("buffers", "as many buffers as there may be, and their end", floods::buffers),
    row(
        "shares",
        "shared memory: guessed tokens, memory of others, readers who want to write, and death of each",
        shares::row,
    ),
    row("questions", "Usage and Cards as fast as they are answered", floods::questions),
    row("knocks", "the door of `jitney run`: everything that is not a knock", doors::row),
    row("garbage", "half messages, wrong sizes, versions and classes", garbage::garbage),
    row("unreadable", "bodies that cannot be read: an error each, and the client stays", garbage::unreadable),
    excused(
        row("mutated", "valid traffic with bits turned, bytes cut and added", garbage::mutated),
        Excuse::Disturbed,
    ),
    row("unread", "replies that nobody reads", silence::unread),
    row("stopped", "SIGSTOP of a client at every point, then SIGKILL", silence::stopped),
    row("orphans", "a child that keeps the socket of its dead parent", silence::orphans),
    row("namespace", "a client in a pid namespace of its own", silence::namespace),
    row("huge-maps", "gigabytes asked for, then death", maps::row),
    row("grant-maps", "memory mapped and unmapped through the grant", grants::maps),
    excused(
        row("grant-powers", "reset, interrupts and COMMAND through the grant, then death", grants::powers),
        Excuse::Disturbed,
    ),
    excused(row("wills", "wills of 64 steps, and waits that never come true", wills::waits), Excuse::Wills),
    excused(row("many-wills", "256 leases with such wills, then death", wills::many), Excuse::Wills),
    excused(
        row("crowd-of-wills", "several clients with such wills, and all die at once", wills::crowd),
        Excuse::Wills,
    ),
    excused(
        row("released-wills", "several such wills carried out by Release at once", wills::released),
        Excuse::Wills,
    ),
    row("odd-wills", "wills that cannot be: refused, and the client stays", wills::odd),
    row("squatted", "another user's socket at the well-known place", squatted::row),
    row("departures", "SIGKILL in the middle of a transfer, with a will", departures::with_a_will),
    row("departures-no-will", "SIGKILL in the middle of a transfer, without one", departures::without),
    row("limits", "each limit is refused by name, and others are not touched", limits::row),
    row("log", "a log that nobody reads", logs::row),
    row("stop", "SIGTERM in the middle of all that", stops::row),
];

type Play = fn(&Stage) -> anyhow::Result<()>;

/// What villains can do.
const PLAYS: &[&[(&str, Play)]] = &[
    chaos::PLAYS,
    departures::PLAYS,
    descriptors::PLAYS,
    doors::PLAYS,
    events::PLAYS,
    floods::PLAYS,
    fuse::PLAYS,
    garbage::PLAYS,
    grants::PLAYS,
    limits::PLAYS,
    maps::PLAYS,
    shares::PLAYS,
    silence::PLAYS,
    squatted::PLAYS,
    wills::PLAYS,
];

/// Plays a role.
pub(crate) fn play(name: &str, stage: &Stage) -> anyhow::Result<()> {
    match PLAYS.iter().flat_map(|plays| plays.iter()).find(|(play, _)| *play == name) {
        Some((_, play)) => play(stage),
        None => bail!("there is no such play"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_and_every_play_has_a_name_of_its_own() {
        let rows: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(rows.len(), ROWS.len());
        let plays: Vec<_> = PLAYS.iter().flat_map(|plays| plays.iter().map(|(name, _)| *name)).collect();
        assert_eq!(plays.iter().collect::<BTreeSet<_>>().len(), plays.len());
    }
}
