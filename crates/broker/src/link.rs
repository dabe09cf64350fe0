//! A client's link to its broker.

use crate::client::{ClientCard, OpenCard};
use crate::line::Line;
use crate::offer::{Offer, Token};
use crate::protocol::{CardEntry, CardId, ClientUsage, Notice, Offered, Reply, Request};
use crate::server::door;
use crate::watch::Ears;
use jitney_memory::{EventFd, Memfd};
use jitney_vfio::{
    DmaBuffer, DmaPlace, DmaRequest, DmaView, Error, ErrorKind, Grant, Handed, Identity, Keeper, Moved,
    NoticeSource, Notices, Part, Result, StillUsed, Tally, TallyPage,
};
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// The longest command line that a client tells its broker, in bytes.
const MAX_PROGRAM: usize = 120;

/// The target of log lines about waiting for what others hold, for programs that want to show them.
pub const WAITING: &str = "jitney::waiting";

/// How long whoever is at the other end may take to show that it is a broker.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// How long a client waits until what it has had is taken back. The broker goes on with that in any case.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// A client's link to its broker. It says goodbye when the last user of it is gone.
///
/// It belongs to the process that made it. In one that is forked from that every request fails, and nothing is said to the
/// broker: such a process opens a bus of its own.
pub struct Link {
    line: Line,
    broker: u32,
    signals: Arc<Signals>,
    cards: Mutex<HashMap<CardId, Arc<Mutex<Slot>>>>,
    /// How long to stand in line for what others hold, where nobody says otherwise.
    patience: Option<Duration>,
    /// Where this process counts what it moves; `None` if the broker has no place for that.
    figures: OnceLock<Option<TallyPage>>,
}

/// A card that this process has opened, or had.
#[derive(Default)]
pub(crate) struct Slot {
    open: Weak<OpenCard>,
    /// How often it was opened; who closes it later than it was opened again does not close that.
    pub(crate) opened: u64,
    /// Whether it is open at the broker.
    pub(crate) at_broker: bool,
}

/// By what the users of a card are told of notices.
#[derive(Default)]
struct Signals {
    cards: Mutex<HashMap<CardId, Signal>>,
    /// Offers that have ended of memory that this process attached to.
    withdrawn: Mutex<HashSet<u64>>,
    /// Who watches for cards.
    watching: Mutex<Vec<Weak<Ears>>>,
}

struct Signal {
    leaving: EventFd,
    failed: EventFd,
}

impl Link {
    /// Introduces this process to the broker at the other end of `socket`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if there is no answer within 10 seconds: whoever is there is no broker.
    pub(crate) fn new(socket: OwnedFd, patience: Option<Duration>) -> Result<Self> {
        let signals = Arc::<Signals>::default();
        let heard = Arc::clone(&signals);
        let line = Line::new(socket, move |notice| heard.hear(&notice));
        line.limit_waiting(Some(HELLO_LIMIT))?;
        let mut link =
            Self { line, broker: 0, signals, cards: Mutex::default(), patience, figures: OnceLock::new() };
        match link.ask(&Request::Hello { program: command_line() })? {
            Reply::Welcome { broker } => link.broker = broker,
            other => return Err(unexpected(&other)),
        }
        link.line.limit_waiting(None)?;
        Ok(link)
    }

    /// Introduces this process to the broker behind an inherited door.
    pub(crate) fn through(outside: impl AsFd, patience: Option<Duration>) -> Result<Self> {
        Self::new(door::knock(outside)?, patience)
    }

    /// Where to count what a channel moves. It is for people who watch, so that nothing fails without it.
    pub(crate) fn tally(&self, card: CardId, part: &Part) -> Tally {
        let figures = self.figures.get_or_init(|| match self.figures() {
            Ok(page) => Some(page),
            Err(error) => {
                tracing::debug!(%error, "this program's figures are not shown");
                None
            }
        });
        figures.as_ref().map_or_else(Tally::default, |page| page.tally(card.0, part))
    }

    fn figures(&self) -> Result<TallyPage> {
        match self.exchange(&Request::Tallies, None)? {
            (Reply::Tallies, descriptors) => {
                TallyPage::new(Memfd::adopt(single(descriptors)?, TallyPage::SIZE)?)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// What a client has moved, as it says itself.
    pub(crate) fn traffic(&self, client: u64) -> Result<Vec<Moved>> {
        match self.ask(&Request::Traffic { client })? {
            Reply::Traffic(moved) => Ok(moved),
            other => Err(unexpected(&other)),
        }
    }

    /// Has somebody told of cards that come and go, as long as they are there.
    pub(crate) fn listen(&self, ears: &Arc<Ears>) {
        lock(&self.signals.watching).push(Arc::downgrade(ears));
    }

    /// The line to the broker.
    pub(crate) const fn line(&self) -> &Line {
        &self.line
    }

    /// How long to stand in line, where nobody says otherwise.
    pub(crate) const fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// The broker's process id.
    #[must_use]
    pub const fn broker(&self) -> u32 {
        self.broker
    }

    /// The cards of this broker, in the order of their ids.
    pub(crate) fn cards(&self) -> Result<Vec<CardEntry>> {
        let mut all: Vec<CardEntry> = Vec::new();
        loop {
            match self.ask(&Request::Cards { after: all.last().map(|card| card.id) })? {
                Reply::Cards { cards, more } => {
                    let some = !cards.is_empty();
                    all.extend(cards);
                    if !more || !some {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Who uses what.
    pub(crate) fn usage(&self) -> Result<Vec<ClientUsage>> {
        let mut all: Vec<ClientUsage> = Vec::new();
        loop {
            match self.ask(&Request::Usage { after: all.last().map(|client| client.client) })? {
                Reply::Usage { clients, more } => {
                    let some = !clients.is_empty();
                    all.extend(clients);
                    if !more || !some {
                        return Ok(all);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// Memory that `card` reaches, or all do.
    pub(crate) fn dma_buffer(
        self: &Arc<Self>,
        card: Option<CardId>,
        request: DmaRequest,
    ) -> Result<DmaBuffer> {
        let page_shift = u8::try_from(request.pages.bytes().ilog2()).unwrap_or(u8::MAX);
        let DmaRequest { size, align, top, .. } = request;
        match self.line.allocate(&Request::Allocate { card, size, align, top, page_shift })? {
            (Reply::Allocated { iova, size }, descriptors) => {
                // From here on the memory goes back if something fails.
                let given = Given { link: self, iova: Some(iova) };
                let memory = Memfd::adopt(single(descriptors)?, size)?;
                given.take();
                DmaBuffer::new(memory, DmaPlace { iova, size }, Arc::new(MemoryKeeper(Arc::clone(self))))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Offers a buffer to others.
    pub(crate) fn share(&self, buffer: &DmaBuffer, offer: Offer) -> Result<Token> {
        let Offer { name, writable } = offer;
        let request = Request::Share { iova: buffer.iova(), name, writable };
        match self.exchange(&request, Some(buffer.memory().as_fd()))?.0 {
            Reply::Shared { token } => Ok(Token(token)),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends an offer.
    pub(crate) fn unshare(&self, buffer: &DmaBuffer) -> Result<()> {
        self.done(&Request::Unshare { iova: buffer.iova() }, None)
    }

    /// Memory that another client offers to writers.
    pub(crate) fn attach(self: &Arc<Self>, offered: Offered) -> Result<DmaBuffer> {
        let (given, attached) = self.attached(offered)?;
        if !attached.writable {
            let what = "this buffer is offered to be read, not to be written to";
            return Err(Error::new(ErrorKind::Denied, what).with_remedy("attach to it as a view"));
        }
        let DmaPlace { size, .. } = attached.place;
        let memory = Memfd::adopt(attached.memory, size)?;
        given.take();
        DmaBuffer::new(memory, attached.place, Arc::new(MemoryKeeper(Arc::clone(self))))
    }

    /// Memory that another client offers, to be read.
    pub(crate) fn view(self: &Arc<Self>, offered: Offered) -> Result<DmaView> {
        let (given, attached) = self.attached(offered)?;
        let memory = Memfd::adopt(attached.memory, attached.place.size)?;
        given.take();
        let keeper = Arc::new(MemoryKeeper(Arc::clone(self)));
        DmaView::new(&memory, attached.place, attached.offer, keeper)
    }

    /// What is offered, which goes back if something fails.
    fn attached(self: &Arc<Self>, offered: Offered) -> Result<(Given<'_>, Attached)> {
        match self.exchange(&Request::Attach { offered }, None)? {
            (Reply::Attached { iova, size, writable, offer }, descriptors) => {
                let given = Given { link: self, iova: Some(iova) };
                let memory = single(descriptors)?;
                Ok((given, Attached { place: DmaPlace { iova, size }, writable, offer, memory }))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Opens a card, or gives what is open already: a client opens it once.
    pub(crate) fn open(self: &Arc<Self>, entry: &CardEntry) -> Result<ClientCard> {
        let slot = Arc::clone(lock(&self.cards).entry(entry.id).or_default());
        let mut opening = lock(&slot);
        if let Some(open) = opening.open.upgrade() {
            return Ok(ClientCard(open));
        }
        if opening.at_broker {
            // Whoever had it is about to close it, and then finds that this was done.
            self.done(&Request::Close { card: entry.id }, None)?;
            opening.at_broker = false;
        }
        // Before it is open, since the first notice may come right behind the answer.
        let notices = self.signals.of(entry.id, self)?;
        let (kind, descriptors) = match self.exchange(&Request::Open { card: entry.id }, None)? {
            (Reply::Opened { kind }, descriptors) => (kind, descriptors),
            (other, _) => return Err(unexpected(&other)),
        };
        opening.at_broker = true;
        opening.opened += 1;
        let identity: &Identity = &entry.identity;
        let device = single(descriptors)
            .and_then(|grant| Grant::from_parts(kind, grant)?.open(identity.address.clone()));
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                if self.done(&Request::Close { card: entry.id }, None).is_ok() {
                    opening.at_broker = false;
                }
                return Err(error);
            }
        };
        let open = Arc::new(OpenCard {
            shared: jitney_vfio::SharedVectors::default(),
            link: Arc::clone(self),
            card: entry.id,
            device,
            notices,
            slot: Arc::clone(&slot),
            opened: opening.opened,
            still_used: StillUsed::default(),
        });
        opening.open = Arc::downgrade(&open);
        Ok(ClientCard(open))
    }

    pub(crate) fn ask(&self, request: &Request) -> Result<Reply> {
        Ok(self.exchange(request, None)?.0)
    }

    pub(crate) fn done(&self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
        match self.exchange(request, descriptor)?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn exchange(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        self.line.exchange(request, descriptor)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.line.is_ours() {
            return;
        }
        let limited = self.line.limit_waiting(Some(GOODBYE_LIMIT));
        // If the broker is gone there is nobody to say goodbye to, and nothing of ours is left there.
        if let Err(error) = limited.and_then(|()| self.done(&Request::Goodbye, None)) {
            tracing::debug!(%error, "no goodbye");
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link(broker pid {})", self.broker)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl NoticeSource for Link {
    fn pump(&self) -> Result<()> {
        self.line.take_in()
    }
}

impl Signals {
    /// The notices about a card, from now on.
    fn of(&self, card: CardId, link: &Arc<Link>) -> Result<Notices> {
        let (leaving, failed) = (EventFd::new()?, EventFd::new()?);
        let copy = |event: &EventFd| -> Result<EventFd> { Ok(event.try_clone()?) };
        let signal = Signal { leaving: copy(&leaving)?, failed: copy(&failed)? };
        lock(&self.cards).insert(card, signal);
        Notices::pumped(Some(leaving), Some(failed), Arc::downgrade(link) as Weak<dyn NoticeSource>)
    }

    fn hear(&self, notice: &Notice) {
        let signals = lock(&self.cards);
        let told = match notice {
            Notice::Leaving { card } => signals.get(card).map(|signal| signal.leaving.signal()),
            Notice::Failed { card } => signals.get(card).map(|signal| signal.failed.signal()),
            // For people, who wonder why nothing happens.
            Notice::InLine { place, behind, .. } => {
                tracing::info!(target: WAITING, place, "waiting in line: {behind}");
                None
            }
            Notice::Gone { .. } | Notice::Came { .. } => {
                lock(&self.watching)
                    .retain(|ears| ears.upgrade().inspect(|ears| ears.hear(notice)).is_some());
                None
            }
            Notice::OfferEnded { offer } => {
                lock(&self.withdrawn).insert(*offer);
                None
            }
        };
        if let Some(Err(error)) = told {
            tracing::error!(%error, "a notice about a card could not be passed on");
        }
    }
}

/// What came when this process attached to shared memory.
struct Attached {
    place: DmaPlace,
    writable: bool,
    offer: u64,
    memory: OwnedFd,
}

/// Memory of which nobody keeps account yet.
struct Given<'a> {
    link: &'a Arc<Link>,
    iova: Option<u64>,
}

impl Given<'_> {
    fn take(mut self) {
        self.iova = None;
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if let Some(iova) = self.iova
            && let Err(error) = self.link.line.post(&Request::Free { iova })
        {
            tracing::warn!(iova, %error, "memory that could not be used could not be given back");
        }
    }
}

/// Gives memory back to the broker.
#[derive(Debug)]
struct MemoryKeeper(Arc<Link>);

impl Keeper for MemoryKeeper {
    fn take_back(&self, what: Handed) -> Result<()> {
        match what {
            Handed::Buffer { iova } => self.0.done(&Request::Free { iova }, None),
            Handed::Lease { .. } | Handed::Interrupt { .. } => Err(foreign(what)),
        }
    }

    fn is_offered(&self, offer: u64) -> Result<bool> {
        self.0.line.take_in()?;
        self.0.line.check()?;
        Ok(!lock(&self.0.signals.withdrawn).contains(&offer))
    }

    /// Without waiting for the reply: that costs a program as much as making a buffer.
    fn take_back_soon(&self, what: Handed) {
        let outcome = match what {
            // What a forked process has of it is not its to give back.
            _ if !self.0.line.is_ours() => return,
            Handed::Buffer { iova } => self.0.line.post(&Request::Free { iova }),
            Handed::Lease { .. } | Handed::Interrupt { .. } => Err(foreign(what)),
        };
        if let Err(error) = outcome {
            tracing::warn!(?what, %error, "could not be given back");
        }
    }
}

pub(crate) fn foreign(what: Handed) -> Error {
    Error::new(ErrorKind::Invalid, format!("{what:?} was handed out by somebody else"))
}

/// The descriptor of a reply, of which there has to be one.
fn single(descriptors: Vec<OwnedFd>) -> Result<OwnedFd> {
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|came| {
        let what = format!("{} descriptors came with the broker's reply instead of one", came.len());
        Error::new(ErrorKind::Protocol, what)
    })?;
    Ok(descriptor)
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::new(ErrorKind::Protocol, format!("the broker answered something else than was asked: {reply:?}"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process's command line, for people who ask who holds what.
fn command_line() -> String {
    // They may be any bytes.
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut line = name.unwrap_or(program);
    for word in words {
        line.push(' ');
        line.push_str(&word);
    }
    if line.len() > MAX_PROGRAM {
        let end = line.floor_char_boundary(MAX_PROGRAM);
        line.truncate(end);
        line.push('…');
    }
    line
}
