//! Cards that arrive and leave while a program runs: what a broker says, or what a program that is alone sees ([`alone`]).

mod alone;

use crate::line::Line;
use crate::link::{Link, lock};
use crate::owner_options::OwnerOptions;
use crate::protocol::{CardEntry, CardId, Notice, Request};
use crate::server::Lookout;
use alone::{look_out, seen};
use jitney_memory::EventFd;
use jitney_vfio::{Error, Identity, Result};
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often it is looked for what nobody tells.
const PACE: Duration = Duration::from_secs(1);

/// A card has come, or is not there any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// There is a card that was not there before.
    Arrived(Identity),
    /// There is no such card any more.
    Left(Identity),
}

impl Change {
    /// Which card it is about.
    #[must_use]
    pub const fn card(&self) -> &Identity {
        match self {
            Self::Arrived(card) | Self::Left(card) => card,
        }
    }
}

/// `0000:2e:00.0 (10ee:7011) has arrived`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrived(card) => write!(f, "{card} has arrived"),
            Self::Left(card) => write!(f, "{card} has left"),
        }
    }
}

/// Hears of cards that arrive and leave, as [`Bus::watch`](crate::Bus::watch) makes it. Changes are told once, in their order.
///
/// [`AsFd`] gives a descriptor for a poll loop of the program's own. It is readable when there *may* be something, and once a second
/// under a broker: [`poll`](Self::poll) then says.
pub struct Watch {
    /// Watches all from which something can come.
    poll: OwnedFd,
    queue: Arc<Queue>,
    source: Source,
    #[cfg(feature = "async")]
    watched: jitney_vfio::Watched,
}

enum Source {
    Broker {
        link: Arc<Link>,
        /// Has the broker look which cards there are.
        tick: OwnedFd,
        /// For as long as this is there, what the broker says is heard.
        _ears: Arc<Ears>,
    },
    Alone {
        /// Ends the thread that looks.
        end: EventFd,
        /// The process that has the thread. One that was forked from it leaves it alone.
        process: u32,
    },
}

/// What was heard and not told yet.
struct Queue {
    changes: Mutex<VecDeque<Result<Change>>>,
    event: EventFd,
}

/// What hears a broker's notices.
pub(crate) struct Ears {
    queue: Arc<Queue>,
    heard: Mutex<Heard>,
    /// The list of the bus.
    list: Arc<Mutex<Vec<CardEntry>>>,
}

#[derive(Default)]
struct Heard {
    /// So that what the list has already is no news.
    known: BTreeMap<CardId, Identity>,
    /// So that a list that was made before a notice came does not undo it: no number is used again.
    gone: BTreeSet<CardId>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Queue {
    fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self { changes: Mutex::default(), event: EventFd::new()? }))
    }

    fn put(&self, change: Result<Change>) {
        lock(&self.changes).push_back(change);
        if let Err(error) = self.event.signal() {
            tracing::error!(%error, "a change of the cards could not be passed on");
        }
    }

    fn take(&self) -> Result<Option<Change>> {
        let mut changes = lock(&self.changes);
        let next = changes.pop_front();
        if changes.is_empty() {
            self.event.take()?;
        }
        next.transpose()
    }
}

impl Ears {
    pub(crate) fn hear(&self, notice: &Notice) {
        match notice {
            Notice::Came { card } => self.came(card),
            Notice::Gone { card } => self.is_gone(*card),
            _ => {}
        }
    }

    fn came(&self, card: &CardEntry) {
        let mut heard = lock(&self.heard);
        if !heard.gone.contains(&card.id) && heard.known.insert(card.id, card.identity.clone()).is_none() {
            let mut list = lock(&self.list);
            if list.iter().all(|other| other.id != card.id) {
                list.push(card.clone());
            }
            self.queue.put(Ok(Change::Arrived(card.identity.clone())));
        }
    }

    fn is_gone(&self, card: CardId) {
        let mut heard = lock(&self.heard);
        heard.gone.insert(card);
        if let Some(identity) = heard.known.remove(&card) {
            lock(&self.list).retain(|other| other.id != card);
            self.queue.put(Ok(Change::Left(identity)));
        }
    }
}

impl Watch {
    /// What a broker says, compared with `list`, which follows it.
    pub(crate) fn of_broker(link: &Arc<Link>, list: &Arc<Mutex<Vec<CardEntry>>>) -> Result<Self> {
        let queue = Queue::new()?;
        let known: BTreeMap<_, _> = lock(list).iter().map(|card| (card.id, card.identity.clone())).collect();
        let before: Vec<CardId> = known.keys().copied().collect();
        let heard = Mutex::new(Heard { known, ..Heard::default() });
        let ears = Arc::new(Ears { queue: Arc::clone(&queue), heard, list: Arc::clone(list) });
        link.listen(&ears);
        // What has changed since the list was made.
        let now = link.cards()?;
        now.iter().for_each(|card| ears.came(card));
        before.into_iter().filter(|id| now.iter().all(|card| card.id != *id)).for_each(|id| ears.is_gone(id));
        let tick = timer(PACE)?;
        let poll = watching([link.as_fd(), tick.as_fd(), queue.event.as_fd()])?;
        Ok(Self::new(poll, queue, Source::Broker { link: Arc::clone(link), tick, _ears: ears }))
    }

    /// What this process sees itself of what `options` mean; `own` are the cards that it has open. It never hears anything without options.
    pub(crate) fn alone(options: Option<OwnerOptions>, own: Vec<Identity>) -> Result<Self> {
        let queue = Queue::new()?;
        let Some(options) = options else { return Self::of(queue, EventFd::new()?) };
        let mut lookout = Lookout::new(options);
        let known = seen(&mut lookout, &own)?;
        for card in own.into_iter().filter(|own| known.iter().all(|card| card.address != own.address)) {
            queue.put(Ok(Change::Left(card)));
        }
        Self::looking(queue, lookout, known)
    }

    /// The cards that there are, as arrivals, and then what this process sees itself.
    pub(crate) fn of_the_machine(options: OwnerOptions) -> Result<Self> {
        let queue = Queue::new()?;
        let mut lookout = Lookout::new(options);
        let known = seen(&mut lookout, &[])?;
        known.iter().for_each(|card| queue.put(Ok(Change::Arrived(card.clone()))));
        Self::looking(queue, lookout, known)
    }

    fn looking(queue: Arc<Queue>, mut lookout: Lookout, known: Vec<Identity>) -> Result<Self> {
        let end = EventFd::new()?;
        let (told, ended) = (Arc::clone(&queue), end.try_clone()?);
        std::thread::Builder::new()
            .name("jitney-watch".into())
            .spawn(move || look_out(&mut lookout, known, &told, &ended))
            .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))?;
        Self::of(queue, end)
    }

    fn of(queue: Arc<Queue>, end: EventFd) -> Result<Self> {
        let poll = watching([queue.event.as_fd()])?;
        Ok(Self::new(poll, queue, Source::Alone { end, process: std::process::id() }))
    }

    fn new(poll: OwnedFd, queue: Arc<Queue>, source: Source) -> Self {
        Self {
            poll,
            queue,
            source,
            #[cfg(feature = "async")]
            watched: jitney_vfio::Watched::default(),
        }
    }

    /// The next change, if there is one by now.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`](jitney_vfio::ErrorKind::Disconnected) if the broker is gone; what looking for cards says.
    pub fn poll(&self) -> Result<Option<Change>> {
        if let Source::Broker { link, tick, .. } = &self.source {
            let mut count = [0; 8];
            match rustix::io::read(tick, &mut count) {
                // Some brokers look when they are asked, and only then.
                Ok(_) => ask(link.line())?,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            link.line().take_in()?;
            let change = self.queue.take()?;
            if change.is_none() {
                link.line().check()?;
            }
            return Ok(change);
        }
        self.queue.take()
    }

    /// Waits for the next change, at most `timeout`, without end if that is `None`; nothing if there was none.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<Change>> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(change) = self.poll()? {
                return Ok(Some(change));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut [PollFd::new(&self.poll, PollFlags::IN)], left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Waits for the next change, as a task of any executor.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    #[cfg(feature = "async")]
    pub async fn changed(&self) -> Result<Change> {
        loop {
            if let Some(change) = self.poll()? {
                return Ok(change);
            }
            self.watched.readable(&self.poll).await?;
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Source::Alone { end, process } = &self.source
            && *process == std::process::id()
            && let Err(error) = end.signal()
        {
            tracing::error!(%error, "the thread that looks for cards goes on");
        }
    }
}

/// Has the broker look, if it does not do so already. What it sees comes as notices.
fn ask(line: &Line) -> Result<()> {
    let request = Request::Cards { after: None };
    if line.is_posted(&request) { Ok(()) } else { line.post(&request) }
}

fn timer(pace: Duration) -> Result<OwnedFd> {
    let timer = rustix::time::timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
    );
    let timer = timer.map_err(failed)?;
    let pace = Timespec::try_from(pace).map_err(|_| failed(Errno::INVAL))?;
    let times = Itimerspec { it_interval: pace, it_value: pace };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).map_err(failed)?;
    Ok(timer)
}

/// A descriptor that is readable when one of these is.
fn watching<const N: usize>(sources: [BorrowedFd<'_>; N]) -> Result<OwnedFd> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
    for source in sources {
        epoll::add(&poll, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN).map_err(failed)?;
    }
    Ok(poll)
}

fn failed(errno: Errno) -> Error {
    Error::from_errno(errno, "watching for cards")
}
