//! All workers of a broker: who does which work, and what they have finished.

use super::lookout::{Lookout, Marks};
use super::token::Token;
use super::worker::{Ending, Finished, Order, Report, Worker};
use super::{card_worker, lookout, space_worker, watch};
use crate::machine::{CardDescription, Failure, Outcome, Place, Space, Task, TaskId, Work};
use crate::protocol::CardId;
use jitney_memory::{EventFd, MemoryId};
use jitney_vfio::{
    AddressSpace, Error, ErrorKind, Identity, Mapper, Notice, Notices, OpenOptions, OpenedSpace, Result,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

pub(super) struct Workers {
    cards: BTreeMap<CardId, CardAtWork>,
    spaces: BTreeMap<Space, Worker>,
    all: AddressSpace,
    /// Of a broker that takes cards on demand.
    on_demand: Option<OnDemand>,
    epoll: Arc<OwnedFd>,
    report: Report,
    finished: mpsc::Receiver<Finished>,
    gone: mpsc::Receiver<CardId>,
    /// Workers of cards that were closed.
    ending: Vec<Ending>,
}

/// How long a broker that ends waits for its workers, so that its cards are another's to open when it has ended. One that waits for
/// a card that does not answer keeps nobody.
const FAREWELL: Duration = Duration::from_secs(1);

/// Who looks for cards, how they are opened, and the address spaces of those that are.
struct OnDemand {
    lookout: Worker,
    options: OpenOptions,
    marks: Marks,
    open: BTreeMap<usize, AddressSpace>,
}

/// What the server keeps of a card.
struct CardAtWork {
    worker: Worker,
    notices: Notices,
    mapper: Arc<dyn Mapper>,
}

impl Workers {
    /// Starts a worker for each card and each space, and has `epoll` report what they finish and what happens to cards. The cards
    /// are numbered as they come.
    pub(super) fn start(
        spaces: Vec<OpenedSpace>,
        all: AddressSpace,
        epoll: &Arc<OwnedFd>,
    ) -> Result<(Self, Vec<CardDescription>)> {
        let (mut workers, mut next, mut descriptions) = (Self::none(all, epoll)?, 0, Vec::new());
        if spaces.len() != 1 {
            workers.start_all(HashMap::new())?;
        }
        for (index, opened) in spaces.into_iter().enumerate() {
            let physical = opened.space.physical().is_some();
            for card in &opened.cards {
                let (identity, bars) = (card.identity().clone(), *card.bars());
                let id = CardId(next);
                next += 1;
                descriptions.push(CardDescription { id, identity, bars, space: index, physical });
            }
            workers.add(index, opened, &descriptions, HashMap::new())?;
        }
        Ok((workers, descriptions))
    }

    /// The same for cards that a broker before this one had: each has the number by which `known` knows it, and one that is not
    /// known is closed. `files` is what is mapped where; `lookout` is that of a broker that takes cards on demand.
    pub(super) fn resume(
        spaces: BTreeMap<usize, OpenedSpace>,
        files: &HashMap<u64, MemoryId>,
        known: &[CardDescription],
        lookout: Option<Lookout>,
        epoll: &Arc<OwnedFd>,
    ) -> Result<Self> {
        let all = AddressSpace::joined(spaces.values().map(|opened| &opened.space));
        let mut workers = Self::none(all, epoll)?;
        if let Some(lookout) = lookout {
            workers.look_out(lookout)?;
        }
        if spaces.len() != 1 || workers.on_demand.is_some() {
            workers.start_all(files.clone())?;
        }
        for (index, opened) in spaces {
            workers.add(index, opened, known, files.clone())?;
        }
        Ok(workers)
    }

    /// Those of a broker that takes cards on demand, and has none yet.
    pub(super) fn on_demand(lookout: Lookout, epoll: &Arc<OwnedFd>) -> Result<Self> {
        let mut workers = Self::none(AddressSpace::default(), epoll)?;
        workers.look_out(lookout)?;
        workers.start_all(HashMap::new())?;
        Ok(workers)
    }

    fn none(all: AddressSpace, epoll: &Arc<OwnedFd>) -> Result<Self> {
        let (sender, finished) = mpsc::channel();
        let (say_gone, gone) = mpsc::channel();
        let report = Report { finished: sender, gone: say_gone, wake: Arc::new(EventFd::new()?) };
        watch(epoll, &report.wake, Token::Finished)?;
        let (cards, spaces, epoll) = (BTreeMap::new(), BTreeMap::new(), Arc::clone(epoll));
        Ok(Self { cards, spaces, all, on_demand: None, epoll, report, finished, gone, ending: Vec::new() })
    }

    fn look_out(&mut self, lookout: Lookout) -> Result<()> {
        let (options, marks) = (lookout.open_options()?, lookout.marks());
        let lookout = lookout::start(lookout, self.report.clone())?;
        self.on_demand = Some(OnDemand { lookout, options, marks, open: BTreeMap::new() });
        Ok(())
    }

    /// Starts the worker of all spaces together.
    fn start_all(&mut self, files: HashMap<u64, MemoryId>) -> Result<()> {
        let (all, changes) = (self.all.clone(), self.on_demand.is_some());
        let worker = space_worker::start("spaces".into(), all, files, changes, self.report.clone())?;
        self.spaces.insert(Space::All, worker);
        Ok(())
    }

    /// Starts the workers of a space and of its cards, as far as they are `known`.
    fn add(
        &mut self,
        index: usize,
        opened: OpenedSpace,
        known: &[CardDescription],
        files: HashMap<u64, MemoryId>,
    ) -> Result<()> {
        let OpenedSpace { cards, space } = opened;
        for card in cards {
            let description = known.iter().find(|it| it.identity.address == card.identity().address);
            let Some(id) = description.map(|description| description.id) else { continue };
            let (notices, mapper) = (card.notices().clone(), Arc::clone(card.mapper()));
            watch(&self.epoll, &notices, Token::Card(id))?;
            let worker = card_worker::start(id, card, self.report.clone())?;
            self.cards.insert(id, CardAtWork { worker, notices, mapper });
        }
        if let Some(on_demand) = &mut self.on_demand {
            on_demand.open.insert(index, space.clone());
        }
        let name = format!("space {index}");
        let worker = space_worker::start(name, space, files, false, self.report.clone())?;
        self.spaces.insert(Space::One(index), worker);
        Ok(())
    }

    /// Takes in cards that were opened because somebody has asked for them.
    pub(super) fn has_opened(
        &mut self,
        index: usize,
        opened: OpenedSpace,
        known: &[CardDescription],
    ) -> Result<()> {
        self.add(index, opened, known, HashMap::new())?;
        // What waits for that would be closed by who has it last.
        drop(self.join_again());
        Ok(())
    }

    /// Has all spaces together be those that are open. What is returned ends when the worker of all has heard of it.
    fn join_again(&mut self) -> mpsc::Receiver<Infallible> {
        let (until, heard) = mpsc::channel();
        if let Some(on_demand) = &self.on_demand {
            self.all = AddressSpace::joined(on_demand.open.values());
            if let Some(worker) = self.spaces.get(&Space::All) {
                worker.tell(Order::Space { space: self.all.clone(), until });
            }
        }
        heard
    }

    /// Has all of a space closed. `kept` hangs up when a keeper has let go of it, too.
    pub(super) fn give_back(&mut self, id: TaskId, index: usize, kept: Option<OwnedFd>) {
        if let Some(on_demand) = &mut self.on_demand {
            on_demand.open.remove(&index);
        }
        let after = self.join_again();
        match self.spaces.remove(&Space::One(index)) {
            Some(worker) => {
                worker.tell(Order::Return { id, after, kept });
                self.ending.retain(|ending| !ending.wait(Instant::now()));
                self.ending.push(worker.end());
            }
            // The broker before this one has done that.
            None => self.report.send(Finished::of(id, Ok(Outcome::Done))),
        }
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
        if let Work::Take { cards, .. } = &task.work {
            return self.take(id, cards);
        }
        if let Work::Return { space } = task.work {
            return self.give_back(id, space, descriptor);
        }
        if let Work::Close { card } = task.work {
            self.leave_out(card);
        }
        let worker = match task.work.place() {
            Place::Card(card) => self.cards.get(&card).map(|card| &card.worker),
            Place::Space(space) => self.spaces.get(&space),
            Place::Lookout => self.on_demand.as_ref().map(|on_demand| &on_demand.lookout),
            Place::Unit(_) => None,
        };
        let closes = matches!(task.work, Work::Close { .. }).then(|| task.work.place());
        if worker.is_none_or(|worker| !worker.tell(Order::Begin { id, task, descriptor, again })) {
            let error = Error::new(ErrorKind::LinkDown, "there is nobody any more who could do that");
            self.report.send(Finished::of(id, Err(Failure::from(error))));
        }
        if let Some(Place::Card(card)) = closes {
            // What it was told it does; then it ends, and lets go of the card's last descriptors.
            self.ending.extend(self.cards.remove(&card).map(|card| card.worker.end()));
        }
    }

    fn take(&self, id: TaskId, cards: &[(CardId, Identity)]) {
        let missing = || Error::new(ErrorKind::Invalid, "this broker takes no cards on demand");
        let started = self.on_demand.as_ref().ok_or_else(missing).and_then(|on_demand| {
            lookout::take(id, cards.into(), on_demand.options, on_demand.marks.clone(), self.report.clone())
        });
        if let Err(error) = started {
            self.report.send(Finished::of(id, Err(Failure::from(error))));
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

    /// The cards that were found not to answer any more since the last call.
    pub(super) fn gone(&self) -> Vec<CardId> {
        self.gone.try_iter().collect()
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
        let lookout = self.on_demand.take().map(|on_demand| on_demand.lookout.end());
        self.ending.extend(cards.chain(spaces).chain(lookout));
        let deadline = Instant::now() + FAREWELL;
        let busy = self.ending.iter().filter(|ending| !ending.wait(deadline)).count();
        if busy > 0 {
            tracing::warn!(busy, "the broker ends while workers still wait for a card");
        }
    }
}
