//! The account: who is there and has what, what is mapped, what is at work, and what a card may still be at work for.

use crate::machine::{ClientId, Space, Task, TaskId};
use crate::protocol::{CardId, Reply, Request, TOKEN_SIZE};
use jitney_vfio::{Error, LeaseId, Mode, Part, Will};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// When something happened: how many pieces of work had been ordered before.
pub(crate) type Moment = u64;

/// What belongs to the event that is being taken in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Current {
    /// How much had been ordered when it came.
    pub(crate) began: Moment,
    /// The work that it says is finished.
    pub(crate) finished: Option<TaskId>,
    /// To whom one last error may be said, and the number that it answers.
    pub(crate) last_word: Option<(ClientId, u64)>,
    /// Cards that are reset because nobody uses them, or closed.
    pub(crate) put_away: Vec<CardId>,
    /// Cards that are reset, and for whom.
    pub(crate) resets: Vec<(CardId, Option<ClientId>)>,
    /// Whose time in line is over, or who has given up.
    pub(crate) given_up: Option<(ClientId, u64)>,
    /// Who was turned away.
    pub(crate) turned_away: Option<ClientId>,
    pub(crate) reply: Option<Result<Reply, Error>>,
    /// What somebody asks for.
    pub(crate) request: Option<(ClientId, Request)>,
    /// Whose descriptor is to be kept, for an offer of which nobody was told yet.
    pub(crate) kept: Option<TaskId>,
    /// Offers that have ended, and who has to be told and was not yet.
    pub(crate) withdrawn: Vec<(Offer, BTreeSet<ClientId>)>,
}

/// Memory that somebody offers to others.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// The work that made it.
    pub(crate) id: TaskId,
    pub(crate) iova: u64,
    pub(crate) maker: ClientId,
    /// Of who made it, and of who goes on with it.
    pub(crate) uid: Option<u32>,
    pub(crate) name: Option<String>,
    pub(crate) writable: bool,
    pub(crate) token: [u8; TOKEN_SIZE],
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) uid: u32,
    pub(crate) greeted: bool,
    pub(crate) gone: Option<Gone>,
    /// Requests that were not answered.
    pub(crate) asked: BTreeMap<u64, Request>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    /// Cards that it has opened, and whether that was granted.
    pub(crate) opened: BTreeMap<CardId, bool>,
    /// Cards that it may have told of its memory, and until when it may have; `None` while it still may.
    pub(crate) reached: BTreeMap<CardId, Option<Moment>>,
    /// Cards on which a will of it failed before it ended the lease.
    pub(crate) stuck: BTreeMap<CardId, Moment>,
}

/// What is left to do for somebody who is gone.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) goodbye: Option<u64>,
    pub(crate) unquiet: BTreeMap<CardId, Moment>,
    /// Leases whose wills were not carried out yet.
    pub(crate) wills: BTreeSet<LeaseId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) card: CardId,
    pub(crate) part: Part,
    pub(crate) mode: Mode,
    pub(crate) will: Will,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct CardAccount {
    pub(crate) closing: bool,
    pub(crate) wired: BTreeMap<u16, ClientId>,
    /// Vectors of somebody who was gone that could not be silenced.
    pub(crate) unsilenced: BTreeSet<u16>,
    pub(crate) bus_master: bool,
    /// A will could not stop what its client drove, and it was not reset since.
    pub(crate) hung: bool,
    /// It could not be reset when nobody used it any more.
    pub(crate) reset_failed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) space: Space,
    pub(crate) range: Range<u64>,
    /// Those whose hold may not have ended.
    pub(crate) holders: BTreeSet<ClientId>,
    /// Those of the holders who may not write to it.
    pub(crate) readers: BTreeSet<ClientId>,
    /// Whose it counts as when nobody has it any more; nobody's, if several users had it.
    pub(crate) uid: Option<u32>,
    pub(crate) state: State,
    /// It lies where it lies in the machine.
    pub(crate) placed: bool,
    /// It was told to nobody, since it lay where something else was.
    pub(crate) stray: bool,
    /// Cards that may still be at work in it for somebody whose hold has ended.
    pub(crate) waits_for: BTreeMap<CardId, Moment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Mapping,
    /// Mapped, and whether who asked for it was told.
    Live(bool),
    Unmapping,
}

#[derive(Debug, Clone)]
pub(crate) struct AtWork {
    pub(crate) id: TaskId,
    pub(crate) task: Task,
    pub(crate) ordered: Moment,
    pub(crate) cancelled: bool,
}

/// Adds what `more` says to `traces`: of a card that both know, the later moment counts.
pub(crate) fn add_traces(traces: &mut BTreeMap<CardId, Moment>, more: &BTreeMap<CardId, Moment>) {
    for (&card, &until) in more {
        let known = traces.entry(card).or_insert(until);
        *known = until.max(*known);
    }
}

impl Memory {
    /// Who has it, and where.
    pub(crate) fn holds(&self) -> Vec<(ClientId, u64)> {
        self.holders.iter().map(|holder| (*holder, self.range.start)).collect()
    }

    /// A client's hold of it ends.
    pub(crate) fn end_hold(&mut self, client: ClientId, known: &Known) {
        self.holders.remove(&client);
        self.readers.remove(&client);
        add_traces(&mut self.waits_for, known.unquiet());
    }
}

impl Known {
    /// The cards that may still be at work for it although nobody looks after that.
    pub(crate) fn unquiet(&self) -> &BTreeMap<CardId, Moment> {
        self.gone.as_ref().map_or(&self.stuck, |gone| &gone.unquiet)
    }
}
