//! The broker's server: one thread with the sockets and the state machine, and nothing that can wait.
//!
//! What touches a card is done by that card's worker, what maps memory by that of the address space, and what a stranger's
//! descriptor may do when it is closed happens in a thread of its own. So no client makes another wait: sockets never block, and a
//! client that does not read its replies is dropped.

mod card_worker;
mod closer;
mod connection;
pub(crate) mod door;
mod entrances;
mod headroom;
mod keeping;
mod listener;
mod lookout;
mod reminders;
mod resume;
mod space_worker;
mod supervision;
mod token;
mod worker;
mod workers;

use crate::ledger::Known;
use crate::machine::{ClientId, Effect, Event, Limits, Machine, TaskId, Way, Work};
use crate::manager::{ListeningSocket, ServiceManager, Store};
use crate::owner_options::OwnerOptions;
use crate::policy::Policy;
use crate::protocol::{self, CardId, Reply};
use closer::{Closer, Source};
use connection::{Connection, Health, Incoming};
pub use door::Door;
use entrances::Entrances;
use headroom::Headroom;
use jitney_iova::Allocator;
use jitney_memory::{EventFd, Memfd, PageSize};
use jitney_vfio::{
    AddressSpace, Error, ErrorKind, Identity, IommuInterface, Notice, OpenedSpace, Result, SpaceRecord,
    TallyPage, TallyReader,
};
use keeping::Keeping;
pub(crate) use keeping::LEDGER;
pub(crate) use lookout::Lookout;
use reminders::Reminders;
use rustix::event::{Timespec, epoll};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use supervision::{Idleness, Supervision};
use token::Token;
use worker::Finished;
use workers::Workers;

/// How long a broker that was told to stop waits until everything is taken back.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long a broker waits for its workers before it leaves what they do to another.
const HANDOVER_LIMIT: Duration = Duration::from_secs(2);
/// How soon a message is tried again for which too many descriptors were on their way.
const CROWDED: Duration = Duration::from_millis(10);

/// How soon it is looked whether there are descriptors again for those who come.
const STARVED: Duration = Duration::from_millis(100);

/// The owner of cards on behalf of other processes.
pub struct Broker {
    machine: Machine,
    workers: Workers,
    closer: Closer,
    epoll: Arc<OwnedFd>,
    entrances: Entrances,
    clients: HashMap<ClientId, Connection>,
    next_client: u64,
    /// What others get of memory that clients offer, by the work that made it.
    kept: HashMap<TaskId, Arc<OwnedFd>>,
    /// Clients to whom something is to be sent again.
    crowded: BTreeSet<ClientId>,
    /// When who stands in line did not want to wait longer, and when who has a lease has had it for long enough.
    reminders: Reminders,
    headroom: Headroom,
    supervision: Supervision,
    idleness: Option<Idleness>,
    /// What clients count.
    tallies: HashMap<ClientId, TallyReader>,
    stop: Arc<Stop>,
    buffer: Vec<u8>,
    /// What a broker that comes after this one needs; `None` if nobody keeps it.
    keeping: Option<Keeping>,
}

/// How a broker is to end.
#[derive(Debug)]
struct Stop {
    event: EventFd,
    /// Another one goes on with its clients and cards.
    for_another: AtomicBool,
}

/// How a broker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// What its clients had is taken back, and its cards are closed.
    Stopped,
    /// Clients and cards go on: their descriptors are kept by the service manager, for the broker that it starts next. This
    /// process has only to end.
    ForAnother,
}

/// Tells a running [`Broker`] to stop, from any thread.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<Stop>);

impl StopHandle {
    /// Tells it. It takes back what its clients have and returns from [`Broker::run`].
    ///
    /// # Errors
    /// What the eventfd says.
    pub fn stop(&self) -> Result<()> {
        Ok(self.0.event.signal()?)
    }

    /// Tells it to leave its clients and cards to the broker that its service manager starts next. [`Broker::run`] returns
    /// [`End::ForAnother`] if there is a manager that keeps descriptors; else nothing happens but a line in the log.
    ///
    /// # Errors
    /// What the eventfd says.
    pub fn leave_to_another(&self) -> Result<()> {
        self.0.for_another.store(true, Ordering::Relaxed);
        Ok(self.0.event.signal()?)
    }
}

impl Broker {
    /// A broker of the cards of `spaces`, with the usual limits: what is in the machine's memory is the most that one user
    /// may have in buffers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is no address that all of the cards can use; what the system says.
    pub fn new(spaces: Vec<OpenedSpace>) -> Result<Self> {
        Self::under(ServiceManager::default(), spaces)
    }

    /// The same under a service manager, who hears when it is ready, that it is alive, and that it stops. If the manager keeps
    /// descriptors, another broker can go on where this one ends, however it ends: [`resume`](Self::resume).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn under(manager: ServiceManager, spaces: Vec<OpenedSpace>) -> Result<Self> {
        Self::begin(manager, spaces, usual_limits())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_limits(spaces: Vec<OpenedSpace>, limits: Limits) -> Result<Self> {
        Self::begin(ServiceManager::default(), spaces, limits)
    }

    fn begin(manager: ServiceManager, spaces: Vec<OpenedSpace>, limits: Limits) -> Result<Self> {
        let mut store = manager.store()?;
        if spaces.iter().any(|opened| opened.space.physical().is_some()) && store.take().is_some() {
            tracing::warn!(
                "without an IOMMU no other broker can go on with the memory that cards reach: nothing is kept for one"
            );
        }
        let kept = store.map(|store| keep_cards(store, &spaces)).transpose()?;
        let all = AddressSpace::joined(spaces.iter().map(|opened| &opened.space));
        let iovas = Allocator::new(all.ranges(), all.granule())?;
        let (epoll, stop) = waiting_place()?;
        let (workers, cards) = Workers::start(spaces, all, &epoll)?;
        let machine = Machine::new(std::process::id(), cards, iovas, limits);
        Self::of(manager, (machine, workers), kept, (epoll, stop))
    }

    /// The same without any card: it takes those that `options` mean when somebody asks for them, each unit that the IOMMU cannot tell
    /// apart in an address space of its own, and gives them back when the last program has gone. Cards that come later are found.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without an IOMMU; what the system says. That there is no card is no error.
    pub fn on_demand(manager: ServiceManager, options: OwnerOptions) -> Result<Self> {
        if options.interface()? == IommuInterface::NoIommu {
            let what = "without an IOMMU cards cannot be taken on demand: what they reach is decided when all are opened";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_remedy("have them all the time, without on-demand"));
        }
        let store = manager.store()?;
        // As wide as it can be: each card that is taken takes away what it cannot use.
        let iovas = Allocator::new([0..=u64::MAX], lookout::page_size())?;
        let machine = Machine::new(std::process::id(), Vec::new(), iovas, usual_limits());
        let mut machine = machine.on_demand();
        let mut lookout = Lookout::new(options);
        // Nobody is there to hear of it.
        machine.sees_cards(&lookout.look(&[])?, &mut Vec::new());
        let (epoll, stop) = waiting_place()?;
        let workers = Workers::on_demand(lookout, &epoll)?;
        Self::of(manager, (machine, workers), store.map(|store| (store, BTreeMap::new())), (epoll, stop))
    }

    fn of(
        manager: ServiceManager,
        (machine, workers): (Machine, Workers),
        kept: Option<(Store, BTreeMap<usize, SpaceRecord>)>,
        (epoll, stop): (Arc<OwnedFd>, Arc<Stop>),
    ) -> Result<Self> {
        let keeping = kept.map(|(store, spaces)| {
            let known = Known { spaces, ..Known::default() };
            Keeping::begin(store, &machine, known)
        });
        let supervision = Supervision::new(manager);
        Ok(Self {
            machine,
            workers,
            closer: Closer::new()?,
            epoll,
            entrances: Entrances::default(),
            clients: HashMap::new(),
            kept: HashMap::new(),
            next_client: 0,
            crowded: BTreeSet::new(),
            reminders: Reminders::default(),
            headroom: Headroom::new(),
            supervision,
            idleness: None,
            tallies: HashMap::new(),
            stop,
            buffer: vec![0; protocol::MAX_MESSAGE],
            keeping: keeping.transpose()?,
        })
    }

    /// The same with a policy: who of those who can connect may do what.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        let owner = rustix::process::geteuid().as_raw();
        self.machine = self.machine.with_policy(owner, policy);
        self
    }

    /// The same, and it stops when it has had no client for `limit`.
    ///
    /// Who connects just then to a [`ListeningSocket`] waits for the broker that is started next: nobody is let in any more, and
    /// the socket stays open with the service manager.
    #[must_use]
    pub fn with_idle_limit(mut self, limit: Duration) -> Self {
        self.idleness = Some(Idleness::new(limit));
        self
    }

    /// Lets clients in by a socket at `path`, which belongs to this process's user and whose permission bits are
    /// `mode`: 0o600 for this user's processes alone, 0o660 for the socket's group as well.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if a live broker has that socket, [`ErrorKind::Invalid`] if the path is too long for one; what
    /// the system says.
    pub fn listen(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.entrances.listen(path, mode, None, &self.epoll)?;
        self.keep_entrances();
        Ok(())
    }

    /// The same for this process's user and the members of `group`, to which the socket is given.
    ///
    /// # Errors
    /// As [`listen`](Self::listen); [`ErrorKind::Denied`] if this process may not give it away.
    pub fn listen_for_group(&mut self, path: &Path, group: u32) -> Result<()> {
        self.entrances.listen(path, 0o660, Some(group), &self.epoll)?;
        self.keep_entrances();
        Ok(())
    }

    /// Whether another broker can go on where this one ends: somebody keeps its descriptors.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.keeping.is_some()
    }

    /// Where this broker listens already: at what one before it had bound.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        self.entrances.bound().map(|(_, listener, _)| listener.path().to_owned()).collect()
    }

    /// The cards that it has.
    #[must_use]
    pub fn cards(&self) -> Vec<Identity> {
        self.machine.cards().map(|card| card.identity.clone()).collect()
    }

    fn keep_entrances(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        for (number, listener, lock) in self.entrances.bound() {
            let [socket_name, lock_name] = keeping::names_of_entrance(number);
            // A socket without its lock would keep others from the path for ever.
            keeping.keep(&lock_name, lock);
            keeping.keep(&socket_name, listener);
        }
    }

    /// Lets clients in by a socket that somebody else has bound, and who may connect to it.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen_at(&mut self, socket: ListeningSocket) -> Result<()> {
        self.entrances.listen_at(socket, &self.epoll)
    }

    /// A socket for child processes: whoever inherits it can connect, and so can its children.
    ///
    /// # Errors
    /// What the system says.
    pub fn door(&mut self) -> Result<Door> {
        self.entrances.door(&self.epoll)
    }

    /// Tells this broker to stop, from any thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.stop))
    }

    /// Serves until told to stop, then takes back what the clients have, stops its cards' DMA and closes them; or leaves all of it
    /// to another, as it was told.
    ///
    /// # Errors
    /// What `epoll` says; [`ErrorKind::TimedOut`] if not everything could be taken back in time.
    pub fn run(mut self) -> Result<End> {
        // A broker before this one was told to, and was ended before it had done it.
        let mut stopping = self.machine.is_stopping().then(|| self.stop_listening());
        if let Some(keeping) = &mut self.keeping {
            // With the policy and the limits of now.
            keeping.renew(&self.machine);
        }
        self.supervision.began(self.machine.cards().count(), self.clients.len())?;
        let mut events = Vec::with_capacity(64);
        loop {
            if let Some(since) = stopping {
                let is_late = since.elapsed() > STOP_LIMIT;
                if let (Some(keeping), true) = (&mut self.keeping, is_late || self.machine.is_stopped()) {
                    // Whoever is started next begins anew, and does not go on with stopping.
                    keeping.end();
                }
                if self.machine.is_stopped() {
                    return Ok(End::Stopped);
                }
                if is_late {
                    let what = "the broker stopped, but a card or memory of its clients could not be taken back in time";
                    return Err(Error::new(ErrorKind::TimedOut, what));
                }
            }
            let all_told = self.keeping.as_mut().is_none_or(Keeping::flush);
            // Whoever is let in while its keeper takes nothing would be lost with this process.
            let hangs = !all_told && self.keeping.as_ref().is_some_and(Keeping::is_patient);
            // Of whoever waits there it would be heard again and again.
            let starved = self.entrances.are_starved();
            self.entrances.pause(hangs || starved, &self.epoll);
            let timeout = match (self.crowded.is_empty() && all_told, stopping) {
                (false, _) => Some(CROWDED),
                (true, Some(_)) => Some(Duration::from_millis(50)),
                (true, None) => starved.then_some(STARVED),
            };
            let told = self.supervision.heed(self.machine.cards().count(), self.clients.len());
            let idle = match (&mut self.idleness, stopping) {
                (Some(idleness), None) => idleness.ends(self.clients.len()),
                _ => None,
            };
            let next = self.reminders.next().into_iter().chain(told).chain(idle).min();
            let next = next.map(|when| when.saturating_duration_since(Instant::now()));
            let timeout = timeout.into_iter().chain(next).min();
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::from_errno(errno, "epoll of the broker")),
            }
            // Only where nobody knocked meanwhile.
            if events.is_empty() && idle.is_some_and(|ends| ends <= Instant::now()) {
                tracing::info!("no program has used the cards for as long as was said: the broker ends");
                stopping = Some(self.stop());
            }
            for event in &events {
                match Token::from_u64(event.data.u64()) {
                    Some(Token::Stop) => {
                        self.stop.event.take()?;
                        let for_another = self.stop.for_another.swap(false, Ordering::Relaxed);
                        if stopping.is_none() && for_another {
                            if self.leaves_to_another()? {
                                // Not even its socket's file may go with it.
                                std::mem::forget(self);
                                return Ok(End::ForAnother);
                            }
                        } else if stopping.is_none() {
                            stopping = Some(self.stop());
                        }
                    }
                    Some(token) => self.ready(token)?,
                    None => {}
                }
            }
            for client in std::mem::take(&mut self.crowded) {
                self.flush(client);
            }
            self.remind();
        }
    }

    /// Lets nobody in any more, and takes back what the clients have. Returns when that began.
    fn stop(&mut self) -> Instant {
        let since = self.stop_listening();
        self.feed(Event::Stop);
        since
    }

    fn stop_listening(&mut self) -> Instant {
        self.supervision.stopping();
        self.entrances.close_all(&self.closer);
        Instant::now()
    }

    fn ready(&mut self, token: Token) -> Result<()> {
        match token {
            Token::Stop => {}
            Token::Finished => {
                self.take_finished()?;
                self.take_gone();
            }
            Token::Card(card) => {
                for notice in self.workers.notices(card) {
                    self.feed(Event::Noticed { card, notice });
                }
            }
            Token::Process(client) => self.lose(client),
            Token::Entrance(number) => {
                if let Some((socket, way)) = self.entrances.next(number, &self.closer) {
                    self.admit(socket, way);
                }
            }
            Token::Socket(client) => {
                self.flush(client);
                self.read(client);
            }
        }
        Ok(())
    }

    fn take_finished(&mut self) -> Result<()> {
        for Finished { task, mut outcome, descriptors, vectors, opened } in self.workers.finished()? {
            if let Some(opened) = opened
                && let Err(error) = self.has_opened(task, opened)
            {
                outcome = Err(error.into());
            }
            let closes = match self.machine.work(task) {
                Some(Work::Close { card }) => self.machine.cards().find(|it| it.id == *card).cloned(),
                _ => None,
            };
            if let (Some(keeping), Some((card, count))) = (&mut self.keeping, vectors) {
                keeping.has_vectors(card, count);
            }
            self.feed_with(Event::Finished { task, outcome }, descriptors);
            if let (Some(keeping), Some(card)) = (&mut self.keeping, closes) {
                keeping.closed(&card.identity);
            }
        }
        Ok(())
    }

    /// Has those who use a board that is gone let go of it, so that the next one at its place can be had: if cards are taken on
    /// demand, since else there is no next one.
    fn take_gone(&mut self) {
        for card in self.workers.gone() {
            if self.machine.is_on_demand() {
                self.feed(Event::Noticed { card, notice: Notice::Leaving });
            }
        }
    }

    /// Takes in cards that were opened because somebody has asked for them: whoever goes on after this broker has to have them, too.
    fn has_opened(&mut self, task: TaskId, opened: OpenedSpace) -> Result<()> {
        let Some(Work::Take { space, .. }) = self.machine.work(task) else { return Ok(()) };
        let space = *space;
        if let Some(keeping) = &mut self.keeping {
            keeping.opened(space, &opened)?;
        }
        let known: Vec<_> = self.machine.cards().cloned().collect();
        let outcome = self.workers.has_opened(space, opened, &known);
        if let (Some(keeping), Err(_)) = (&mut self.keeping, &outcome) {
            keeping.returns(space);
        }
        outcome
    }

    /// Finishes what is under way, if it does not take long, and writes the rest down for another broker; false if nobody keeps it.
    fn leaves_to_another(&mut self) -> Result<bool> {
        let keeps = |keeping: &mut Option<Keeping>| keeping.as_mut().is_some_and(Keeping::is_all_kept);
        let cannot =
            "nobody keeps this broker's descriptors, or not any more: it cannot leave its clients to another";
        if !keeps(&mut self.keeping) {
            tracing::error!(cannot);
            return Ok(false);
        }
        let until = Instant::now() + HANDOVER_LIMIT;
        let is_busy = |machine: &Machine| machine.tasks().next().is_some();
        while is_busy(&self.machine) && Instant::now() < until {
            self.workers.wait(CROWDED);
            self.take_finished()?;
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.renew(&self.machine);
        }
        let kept = keeps(&mut self.keeping);
        if !kept {
            tracing::error!(cannot);
        }
        Ok(kept)
    }

    /// Reminds those whose time is over.
    fn remind(&mut self) {
        while let Some((client, of)) = self.reminders.due(Instant::now()) {
            self.feed(Event::Reminded { client, of });
        }
    }

    fn admit(&mut self, socket: OwnedFd, way: Way) {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        match Connection::new(socket, &self.epoll, client, way, &self.closer) {
            Ok((connection, peer)) => {
                tracing::debug!(client = client.0, pid = peer.pid, "a client connected");
                let source = match way {
                    Way::Listener => Source::User(peer.uid),
                    Way::Door => Source::Door,
                };
                self.clients.insert(client, connection);
                match self.headroom.check().and_then(|()| self.closer.check(source)) {
                    Ok(()) => {
                        if let (Some(keeping), Some(connection)) =
                            (&mut self.keeping, self.clients.get(&client))
                        {
                            let can_be_kept = keeping.came(client, connection.socket(), connection.process());
                            // Hung up on before it is welcomed, it comes again, and waits outside.
                            if way == Way::Listener && !can_be_kept {
                                self.carry_out(vec![Effect::Disconnect { client }], Vec::new());
                                return;
                            }
                        }
                        self.feed(Event::Joined { client, peer });
                    }
                    Err(error) => {
                        let refusal = Effect::Reply { client, number: 0, reply: Err(error), attach: None };
                        self.carry_out(vec![refusal, Effect::Disconnect { client }], Vec::new());
                    }
                }
            }
            // Somebody who is gone again already, mostly.
            Err(error) => tracing::debug!(%error, "a client could not be let in"),
        }
    }

    fn read(&mut self, client: ClientId) {
        let Some(connection) = self.clients.get(&client) else { return };
        let keeping = &mut self.keeping;
        let takes = |number| {
            if let Some(keeping) = keeping {
                keeping.takes(client, number);
            }
        };
        match connection.receive(&mut self.buffer, &self.closer, takes) {
            Incoming::Nothing => {}
            Incoming::Gone => self.lose(client),
            Incoming::Nonsense(error) => self.feed(Event::Nonsense { client, error }),
            Incoming::Unreadable(number, error) => self.feed(Event::Unreadable { client, number, error }),
            Incoming::Request { number, request, descriptor } => {
                if !Headroom::frees(&request)
                    && let Err(error) = self.headroom.check()
                {
                    let event = Event::Unreadable { client, number, error };
                    self.feed_with(event, descriptor.into_iter().collect());
                    return;
                }
                let event = Event::Request { client, number, request, descriptor: descriptor.is_some() };
                self.feed_with(event, descriptor.into_iter().collect());
            }
        }
    }

    fn flush(&mut self, client: ClientId) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        let health = connection.flush(&self.epoll, &self.closer);
        if let Some(keeping) = &mut self.keeping {
            keeping.is_behind(client, connection.is_behind());
        }
        match health {
            Health::Good => {}
            Health::Crowded => {
                self.crowded.insert(client);
            }
            Health::Bad => self.lose(client),
        }
    }

    /// A client is gone, or has to be dropped.
    fn lose(&mut self, client: ClientId) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.ignore(&self.epoll);
        }
        self.feed(Event::Left { client });
    }

    fn feed(&mut self, event: Event) {
        self.feed_with(event, Vec::new());
    }

    /// A page in which a client counts, of memory that it cannot take away.
    fn make_page(&mut self, client: ClientId) -> Result<OwnedFd> {
        let memory = Memfd::create("jitney-figures", TallyPage::SIZE, PageSize::Normal)?;
        self.tallies.insert(client, TallyReader::new(&memory)?);
        if let Some(keeping) = &mut self.keeping {
            let [_, _, name] = keeping::names_of(client);
            keeping.keep(&name, memory.as_fd());
        }
        Ok(memory.into_fd())
    }

    /// Feeds the machine and carries out what it says. `carried` came with the event: what a reply takes along or is kept, what a
    /// vector is to be wired to, or the memory that is to be shared.
    fn feed_with(&mut self, event: Event, carried: Vec<OwnedFd>) {
        let effects = self.handle(event, &carried);
        self.carry_out(effects, carried);
        if let Some(keeping) = &mut self.keeping {
            keeping.did(&self.machine);
        }
    }

    /// What is to be done about what happened; `carried` came with it.
    fn handle(&mut self, event: Event, carried: &[OwnedFd]) -> Vec<Effect> {
        let Some(keeping) = &mut self.keeping else { return self.machine.handle(event) };
        keeping.happens(&event, carried, &self.machine);
        let effects = self.machine.handle(event);
        effects.iter().for_each(|effect| keeping.does(effect));
        effects
    }

    fn carry_out(&mut self, effects: Vec<Effect>, mut carried: Vec<OwnedFd>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let (client, message, attached) = match effect {
                Effect::Reply { client, number, reply, attach } => {
                    let attached = match attach {
                        None => Vec::new(),
                        Some(task) => match self.kept.get(&task) {
                            Some(kept) => vec![Arc::clone(kept)],
                            None => carried.drain(..).map(Arc::new).collect(),
                        },
                    };
                    let message = protocol::encode_reply(number, &reply)
                        .or_else(|error| protocol::encode_reply(number, &Err(error)));
                    (client, message, attached)
                }
                Effect::Tell { client, notice } => (client, protocol::encode_notice(&notice), Vec::new()),
                Effect::Work { id, task } => {
                    let takes = matches!(task.work, Work::Wire { .. } | Work::Share { .. });
                    let descriptor = match (&task.work, &mut self.keeping) {
                        (Work::Return { space }, Some(keeping)) => keeping.returns(*space),
                        _ if takes => carried.pop(),
                        _ => None,
                    };
                    self.workers.begin(id, task, descriptor);
                    continue;
                }
                Effect::Keep { id } => {
                    self.kept.extend(carried.pop().map(|descriptor| (id, Arc::new(descriptor))));
                    continue;
                }
                Effect::Forget { id } => {
                    // What is on its way to somebody is closed when it is there.
                    self.closer.own(self.kept.remove(&id).and_then(Arc::into_inner).into_iter().collect());
                    continue;
                }
                Effect::Cancel { id } => {
                    self.workers.cancel(id);
                    continue;
                }
                Effect::Remind { client, of, after_ms } => {
                    self.reminders.add(client, of, Duration::from_millis(after_ms.into()));
                    continue;
                }
                Effect::Unremind { client, of } => {
                    self.reminders.remove(client, of);
                    continue;
                }
                Effect::Tallies { client, number } => {
                    // A broker before this one may have made it.
                    let page = carried.pop().map_or_else(|| self.make_page(client), Ok);
                    let (reply, page) = match page {
                        Ok(page) => (Ok(Reply::Tallies), vec![Arc::new(page)]),
                        Err(error) => (Err(error), Vec::new()),
                    };
                    (client, protocol::encode_reply(number, &reply), page)
                }
                Effect::Traffic { client, number, of, cards } => {
                    let all = self.tallies.get(&of).map(TallyReader::read).unwrap_or_default();
                    let seen = all.into_iter().filter(|moved| cards.contains(&CardId(moved.card))).collect();
                    (client, protocol::encode_reply(number, &Ok(Reply::Traffic(seen))), Vec::new())
                }
                Effect::Disconnect { client } => {
                    self.reminders.remove_all(client);
                    self.tallies.remove(&client);
                    if let Some(connection) = self.clients.remove(&client) {
                        connection.close(&self.epoll, &self.closer);
                        tracing::debug!(client = client.0, "a client is gone, and nothing of it is left");
                    }
                    continue;
                }
            };
            let Some(connection) = self.clients.get_mut(&client) else {
                self.closer.own(attached.into_iter().filter_map(Arc::into_inner).collect());
                continue;
            };
            let health = match message {
                Ok(message) => connection.send(&self.epoll, message, attached, &self.closer),
                Err(error) => {
                    tracing::error!(%error, "a message could not be encoded");
                    Health::Bad
                }
            };
            if let Some(keeping) = &mut self.keeping {
                keeping.is_behind(client, connection.is_behind());
            }
            match health {
                Health::Good => {}
                Health::Crowded => {
                    self.crowded.insert(client);
                }
                // Behind what is still to be done: the machine has said that before.
                Health::Bad => {
                    connection.ignore(&self.epoll);
                    effects.extend(self.handle(Event::Left { client }, &[]));
                }
            }
        }
        // Of a client that is gone, or of a request that was refused.
        self.closer.own(carried);
    }
}

/// What one user may have if nobody says otherwise: what is in the machine's memory is the most in buffers.
fn usual_limits() -> Limits {
    let info = rustix::system::sysinfo();
    let bytes_of_user = (info.totalram).saturating_mul(u64::from(info.mem_unit));
    Limits { bytes_of_user, ..Limits::default() }
}

/// Where the server waits, and what tells it to stop.
fn waiting_place() -> Result<(Arc<OwnedFd>, Arc<Stop>)> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
        .map_err(|errno| Error::from_errno(errno, "epoll of the broker"))?;
    let stop = Stop { event: EventFd::new()?, for_another: AtomicBool::new(false) };
    watch(&epoll, &stop.event, Token::Stop)?;
    Ok((Arc::new(epoll), Arc::new(stop)))
}

/// Has the descriptors of all cards kept. Returns with `store` the record of each space.
fn keep_cards(mut store: Store, spaces: &[OpenedSpace]) -> Result<(Store, BTreeMap<usize, SpaceRecord>)> {
    let mut records = BTreeMap::new();
    for (number, space) in spaces.iter().enumerate() {
        records.insert(number, keeping::keep_space(&mut store, number, space)?);
    }
    store.settle();
    Ok((store, records))
}

/// Has `epoll` report `descriptor` as `token`.
fn watch(epoll: impl AsFd, descriptor: impl AsFd, token: Token) -> Result<()> {
    let data = epoll::EventData::new_u64(token.into_u64());
    epoll::add(epoll, descriptor, data, epoll::EventFlags::IN)
        .map_err(|errno| Error::from_errno(errno, "epoll of the broker"))
}

fn io(error: &std::io::Error) -> Error {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => Error::from_errno(errno, "the broker"),
        None => Error::new(ErrorKind::System, error.to_string()),
    }
}
