//! All workers of a broker: who does which work, and what they have finished.

use super::token::Token;
use super::worker::{Ending, Finished, Order, Report, Worker};
use super::{card_worker, space_worker, watch};
use crate::machine::{CardDescription, Failure, Place, Space, Task, TaskId, Work};
use crate::protocol::CardId;
use jitney_memory::{EventFd, MemoryId};
use jitney_vfio::{AddressSpace, Error, ErrorKind, Identity, Mapper, Notice, Notices, OpenedSpace, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

pub(super) struct Workers {
    cards: BTreeMap<CardId, CardAtWork>,
    spaces: BTreeMap<Space, Worker>,
    all: AddressSpace,
    report: Report,
    finished: mpsc::Receiver<Finished>,
    /// Workers of cards that were closed.
    ending: Vec<Ending>,
}

/// How long a broker that ends waits for its workers, so that its cards are another's to open when it has ended. One that waits for
/// a card that does not answer keeps nobody.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the server keeps of a card.
struct CardAtWork {
    worker: Worker,
    notices: Notices,
    mapper: Arc<dyn Mapper>,
}

impl Workers {
    /// Starts a worker for each card and each space, and has `poll` report what they finish and what happens to cards. The cards
    /// are numbered as they come.
    pub(super) fn start(
        spaces: Vec<OpenedSpace>,
        all: AddressSpace,
        poll: impl AsFd,
    ) -> Result<(Self, Vec<CardDescription>)> {
        let mut next = 0;
        let mut number = |_: &Identity| {
            next += 1;
            Some(CardId(next - 1))
        };
        Self::numbered(spaces, all, &HashMap::new(), &mut number, poll)
    }

    /// The same for cards that a broker before this one had: each has the number by which `known` knows it, and one that is not
    /// known is closed. `files` is what is mapped where.
    pub(super) fn resume(
        spaces: Vec<OpenedSpace>,
        all: AddressSpace,
        files: &HashMap<u64, MemoryId>,
        known: &[CardDescription],
        poll: impl AsFd,
    ) -> Result<Self> {
        let mut number = |identity: &Identity| {
            known.iter().find(|card| card.identity.address == identity.address).map(|card| card.id)
        };
        Ok(Self::numbered(spaces, all, files, &mut number, poll)?.0)
    }

    fn numbered(
        spaces: Vec<OpenedSpace>,
        all: AddressSpace,
        files: &HashMap<u64, MemoryId>,
        number: &mut dyn FnMut(&Identity) -> Option<CardId>,
        poll: impl AsFd,
    ) -> Result<(Self, Vec<CardDescription>)> {
        let (sender, finished) = mpsc::channel();
        let report = Report { finished: sender, wake: Arc::new(EventFd::new()?) };
        watch(&poll, &report.wake, Token::Finished)?;
        let (mut cards, mut descriptions, mut workers) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        if spaces.len() != 1 {
            let worker = space_worker::start("spaces".into(), all.clone(), files.clone(), report.clone())?;
            workers.insert(Space::All, worker);
        }
        for (index, OpenedSpace { cards: opened, space }) in spaces.into_iter().enumerate() {
            let physical = space.physical().is_some();
            for card in opened {
                let Some(id) = number(card.identity()) else { continue };
                descriptions.push(CardDescription {
                    id,
                    identity: card.identity().clone(),
                    bars: *card.bars(),
                    space: index,
                    physical,
                });
                let (notices, mapper) = (card.notices().clone(), Arc::clone(card.mapper()));
                watch(&poll, &notices, Token::Card(id))?;
                let worker = card_worker::start(id, card, report.clone())?;
                cards.insert(id, CardAtWork { worker, notices, mapper });
            }
            let name = format!("space {index}");
            let worker = space_worker::start(name, space, files.clone(), report.clone())?;
            workers.insert(Space::One(index), worker);
        }
        Ok((Self { cards, spaces: workers, all, report, finished, ending: Vec::new() }, descriptions))
    }

    /// Hands a piece of work to who does it.
    pub(super) fn begin(&mut self, id: TaskId, task: Task, descriptor: Option<OwnedFd>) {
        self.hand_out(id, task, descriptor, false);
    }

    /// The same with work that a broker before this one may have done, or a part of it.
    pub(super) fn begin_again(&mut self, id: TaskId, task: Task) {
        self.hand_out(id, task, None, true);
    }

    fn hand_out(&mut self, id: TaskId, task: Task, descriptor: Option<OwnedFd>, again: bool) {
        if let Work::Close { card } = task.work {
            self.leave_out(card);
        }
        let worker = match task.work.place() {
            Place::Card(card) => self.cards.get(&card).map(|card| &card.worker),
            Place::Space(space) => self.spaces.get(&space),
        };
        let closes = matches!(task.work, Work::Close { .. }).then(|| task.work.place());
        if worker.is_none_or(|worker| !worker.tell(Order::Begin { id, task, descriptor, again })) {
            let error = Error::new(ErrorKind::LinkDown, "there is nobody any more who could do that");
            self.report.send(Finished {
                task: id,
                outcome: Err(Failure::from(error)),
                descriptors: Vec::new(),
                vectors: None,
            });
        }
        if let Some(Place::Card(card)) = closes {
            // What it was told it does; then it ends, and lets go of the card's last descriptors.
            self.ending.extend(self.cards.remove(&card).map(|card| card.worker.end()));
        }
    }

    /// Says that nobody waits for a piece of work any more.
    pub(super) fn cancel(&self, id: TaskId) {
        // Those who do not have it do not mind.
        for worker in self.spaces.values() {
            worker.tell(Order::Cancel { id });
        }
    }

    /// Waits until something is finished, but not for long.
    pub(super) fn wait(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).ok();
        // Woken or not, it is looked at.
        let _ = rustix::event::poll(&mut [PollFd::new(&*self.report.wake, PollFlags::IN)], limit.as_ref());
    }

    /// What was finished since the last call.
    pub(super) fn finished(&self) -> Result<Vec<Finished>> {
        self.report.wake.take()?;
        Ok(self.finished.try_iter().collect())
    }

    /// The notices about a card that have come.
    pub(super) fn notices(&self, card: CardId) -> Vec<Notice> {
        let Some(card) = self.cards.get(&card) else { return Vec::new() };
        card.notices.take().unwrap_or_else(|error| {
            tracing::error!(%error, "notices about a card cannot be read");
            Vec::new()
        })
    }

    /// Has nothing mapped any more for a card that goes, if its mapper maps for no other.
    fn leave_out(&self, card: CardId) {
        let Some(CardAtWork { mapper, .. }) = self.cards.get(&card) else { return };
        let same = |other: &CardAtWork| std::ptr::addr_eq(Arc::as_ptr(&other.mapper), Arc::as_ptr(mapper));
        if self.cards.iter().all(|(id, other)| *id == card || !same(other)) {
            self.all.leave_out(mapper);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let cards = std::mem::take(&mut self.cards).into_values().map(|card| card.worker.end());
        let spaces = std::mem::take(&mut self.spaces).into_values().map(Worker::end);
        self.ending.extend(cards.chain(spaces));
        let deadline = Instant::now() + FAREWELL;
        let busy = self.ending.iter().filter(|ending| !ending.wait(deadline)).count();
        if busy > 0 {
            tracing::warn!(busy, "the broker ends while workers still wait for a card");
        }
    }
}
