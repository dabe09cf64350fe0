//! The cards that the broker has open, what takes time on them, and by what their users are told of notices.

use super::io;
use crate::machine::{ClientId, Outcome, TaskId};
use jitney_memory::EventFd;
use jitney_vfio::{Error, ErrorKind, Mapper, Notice, OpenedCard, Result, Will, WillStep};
use rustix::event::epoll;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};

type Finished = (TaskId, Result<Outcome>);

pub(super) struct Cards {
    /// Each until it is closed for good.
    cards: Vec<Option<Arc<OpenedCard>>>,
    bells: HashMap<(ClientId, usize), Bells>,
    finished: (mpsc::Sender<Finished>, mpsc::Receiver<Finished>),
    wake: Arc<EventFd>,
}

/// How a client is told of what happens to a card. It has copies of both.
struct Bells {
    leaving: EventFd,
    failed: EventFd,
}

impl Cards {
    /// `wake` is signalled when a piece of work is finished that was begun here.
    pub(super) fn new(cards: Vec<OpenedCard>, wake: Arc<EventFd>) -> Self {
        let cards = cards.into_iter().map(|card| Some(Arc::new(card))).collect();
        Self { cards, bells: HashMap::new(), finished: mpsc::channel(), wake }
    }

    /// Has `poll` watch for notices about the cards, each with the token that `token` gives for its index.
    pub(super) fn watch(&self, poll: impl AsFd, token: impl Fn(usize) -> u64) -> Result<()> {
        for (index, card) in self.cards.iter().enumerate() {
            let Some(card) = card else { continue };
            let data = epoll::EventData::new_u64(token(index));
            epoll::add(&poll, &card.notices, data, epoll::EventFlags::IN)
                .map_err(|errno| Error::from_errno(errno, "epoll of the broker"))?;
        }
        Ok(())
    }

    /// The notices about a card that have come.
    pub(super) fn notices(&self, card: usize) -> Vec<Notice> {
        let Some(card) = self.cards.get(card).and_then(Option::as_ref) else { return Vec::new() };
        card.notices.take().unwrap_or_else(|error| {
            tracing::error!(card = %card.identity(), %error, "notices about a card cannot be read");
            Vec::new()
        })
    }

    pub(super) fn wire(&self, card: usize, vector: u16, event: Option<BorrowedFd<'_>>) -> Result<()> {
        self.get(card)?.wire(vector, event)
    }

    pub(super) fn carry_out(&self, card: usize, will: &Will) -> Result<()> {
        let card = self.get(card)?;
        let mut outcome = Ok(());
        for step in &will.0 {
            let (bar, offset) = step.register();
            let done = card.device.bar(usize::from(bar)).and_then(|bar| match *step {
                WillStep::Write { value, .. } => bar.write32(offset, value),
                WillStep::WaitUntil { mask, value, within_ms, .. } => {
                    let since = std::time::Instant::now();
                    while bar.read32(offset)? & mask != value {
                        if since.elapsed().as_millis() > u128::from(within_ms) {
                            return Err(Error::new(ErrorKind::TimedOut, "a will has waited in vain"));
                        }
                    }
                    Ok(())
                }
            });
            outcome = outcome.and(done);
        }
        outcome
    }

    /// What `client` gets of a card: the kind of its grant, and the descriptors of grant and events.
    pub(super) fn grant(&mut self, card: usize, client: ClientId) -> Result<(u8, Vec<OwnedFd>)> {
        let opened = self.get(card)?;
        opened.device.set_bus_master(true)?;
        let grant = opened.grant()?;
        let kind = grant.kind();
        let bells = match self.bells.remove(&(client, card)) {
            Some(bells) => bells,
            None => Bells { leaving: EventFd::new()?, failed: EventFd::new()? },
        };
        let copy = |event: &EventFd| event.as_fd().try_clone_to_owned().map_err(|error| io(&error));
        let descriptors = vec![grant.into(), copy(&bells.leaving)?, copy(&bells.failed)?];
        self.bells.insert((client, card), bells);
        Ok((kind, descriptors))
    }

    /// Tells a client of a notice.
    pub(super) fn tell(&mut self, client: ClientId, card: usize, notice: Notice) {
        let told = match (notice, self.bells.get(&(client, card))) {
            (_, None) => return,
            (Notice::Leaving, Some(bells)) => bells.leaving.signal(),
            (Notice::Failed, Some(bells)) => bells.failed.signal(),
        };
        if let Err(error) = told {
            tracing::error!(client = client.0, %error, "a client could not be told of a notice");
        }
        if notice == Notice::Failed {
            // Who opens the card anew hears of what happens from then on.
            self.bells.remove(&(client, card));
        }
    }

    /// Forgets a client that is gone.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.bells.retain(|(other, _), _| *other != client);
    }

    /// Resets a card. That takes up to a second on a real one, so it has a thread of its own.
    pub(super) fn begin_reset(&self, task: TaskId, card: usize, unused: bool) -> Result<()> {
        let card = Arc::clone(self.get(card)?);
        self.begin("reset", task, move || {
            // A reset leaves bus mastering as it was; `grant` switches it on again.
            let quiet = if unused { card.device.set_bus_master(false) } else { Ok(()) };
            quiet.and_then(|()| card.reset())
        })
    }

    /// Closes a card for good, which may make the kernel reset it. Returns what mapped memory for it, if no other card is
    /// left that it does so for.
    pub(super) fn begin_close(&mut self, task: TaskId, card: usize) -> Result<Option<Arc<dyn Mapper>>> {
        let Some(card) = self.cards.get_mut(card).and_then(Option::take) else { return Ok(None) };
        let mapper = Arc::clone(&card.mapper);
        let same =
            |other: &Arc<OpenedCard>| std::ptr::addr_eq(Arc::as_ptr(&other.mapper), Arc::as_ptr(&mapper));
        let last = !self.cards.iter().flatten().any(same);
        self.begin("close", task, move || {
            drop(card);
            Ok(())
        })?;
        Ok(last.then_some(mapper))
    }

    /// The next piece of work that is finished.
    pub(super) fn next_finished(&self) -> Option<Finished> {
        self.finished.1.try_recv().ok()
    }

    fn begin(
        &self,
        name: &str,
        task: TaskId,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let (finished, wake) = (self.finished.0.clone(), Arc::clone(&self.wake));
        let thread = move || {
            let outcome = work().map(|()| Outcome::Done);
            // The broker may have stopped meanwhile; then nobody waits for this.
            if finished.send((task, outcome)).is_ok()
                && let Err(error) = wake.signal()
            {
                tracing::error!(%error, "the broker could not be told that something is done");
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(thread).map_err(|error| io(&error))?;
        Ok(())
    }

    fn get(&self, card: usize) -> Result<&Arc<OpenedCard>> {
        self.cards.get(card).and_then(Option::as_ref).ok_or_else(|| {
            Error::new(ErrorKind::LinkDown, format!("the broker's card {card} was closed: it is gone"))
        })
    }
}
