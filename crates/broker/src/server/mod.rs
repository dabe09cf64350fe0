//! The broker's server: one thread that feeds the state machine and carries out its effects.
//!
//! No client makes another wait: sockets never block, a client that does not read its replies is dropped, and memory is
//! mapped in bounded pieces between which everybody else is served.

mod cards;
mod connection;
pub(crate) mod door;
mod jobs;
mod listener;

use crate::machine::{CardDescription, ClientId, Effect, Event, Machine, Outcome, Peer, TaskId, Work};
use crate::protocol;
use cards::Cards;
use connection::{Connection, Incoming};
pub use door::Door;
use jitney_iova::Allocator;
use jitney_memory::EventFd;
use jitney_vfio::{AddressSpace, DmaRequest, Error, ErrorKind, OpenedSpace, Result};
use jobs::{Jobs, page_size};
use listener::Listener;
use rustix::event::{Timespec, epoll};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a broker that was told to stop waits for the last map to go.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The owner of cards on behalf of other processes.
pub struct Broker {
    machine: Machine,
    cards: Cards,
    jobs: Jobs,
    epoll: OwnedFd,
    doors: HashMap<u64, Entrance>,
    clients: HashMap<ClientId, Connection>,
    next_token: u64,
    /// Descriptors that finished work made, until the reply that carries them.
    made: HashMap<TaskId, Vec<OwnedFd>>,
    wake: Arc<EventFd>,
    stop: Arc<EventFd>,
    buffer: Vec<u8>,
}

/// A way in.
enum Entrance {
    Listener(Listener),
    Door(OwnedFd),
}

/// Tells a running [`Broker`] to stop, from any thread.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<EventFd>);

impl StopHandle {
    /// Tells it. It takes back what its clients have and returns from [`Broker::run`].
    ///
    /// # Errors
    /// What the eventfd says.
    pub fn stop(&self) -> Result<()> {
        Ok(self.0.signal()?)
    }
}

const WAKE: u64 = 0;
const STOP: u64 = 1;
const FIRST_TOKEN: u64 = 2;
/// Set in the token of a client's pidfd, whose socket has the same token without it.
const PROCESS: u64 = 1 << 63;
/// Set in the token of a card's notices; the rest is its index.
const CARD: u64 = 1 << 62;

impl Broker {
    /// A broker of the cards of `spaces`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if there is no address that all of the cards can use; what the system says.
    pub fn new(spaces: Vec<OpenedSpace>) -> Result<Self> {
        let all = AddressSpace::joined(spaces.iter().map(|opened| &opened.space));
        let iovas = Allocator::new(all.ranges(), all.granule())?;
        let (mut cards, mut descriptions) = (Vec::new(), Vec::new());
        for (space, opened) in spaces.iter().enumerate() {
            descriptions.extend(opened.cards.iter().map(|card| CardDescription {
                identity: card.identity().clone(),
                bars: *card.device.bars(),
                space,
                physical: opened.space.physical().is_some(),
            }));
        }
        let spaces = spaces.into_iter().map(|opened| {
            cards.extend(opened.cards);
            opened.space
        });
        let jobs = Jobs::new(all, spaces.collect());
        let system = |errno| Error::from_errno(errno, "epoll of the broker");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        let (wake, stop) = (Arc::new(EventFd::new()?), Arc::new(EventFd::new()?));
        for (event, token) in [(&wake, WAKE), (&stop, STOP)] {
            epoll::add(&epoll, event, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
                .map_err(system)?;
        }
        let cards = Cards::new(cards, Arc::clone(&wake));
        cards.watch(&epoll, |index| index as u64 | CARD)?;
        Ok(Self {
            machine: Machine::new(std::process::id(), descriptions, iovas),
            cards,
            jobs,
            epoll,
            doors: HashMap::new(),
            clients: HashMap::new(),
            next_token: FIRST_TOKEN,
            made: HashMap::new(),
            wake,
            stop,
            buffer: vec![0; protocol::MAX_MESSAGE],
        })
    }

    /// Lets clients in by a socket at `path`, which belongs to this process's user and whose permission bits are
    /// `mode`: 0o600 for this user's processes alone, 0o660 for the socket's group as well.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if a live broker has that socket, [`ErrorKind::Invalid`] if the path is too long for one; what
    /// the system says.
    pub fn listen(&mut self, path: &Path, mode: u32) -> Result<()> {
        let listener = Listener::bind(path, mode)?;
        let token = self.watch(&listener)?;
        self.doors.insert(token, Entrance::Listener(listener));
        Ok(())
    }

    /// A socket for child processes: whoever inherits it can connect, and so can its children.
    ///
    /// # Errors
    /// What the system says.
    pub fn door(&mut self) -> Result<Door> {
        let (inside, door) = Door::new()?;
        let token = self.watch(&inside)?;
        self.doors.insert(token, Entrance::Door(inside));
        Ok(door)
    }

    /// Tells this broker to stop, from any thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.stop))
    }

    /// Serves until told to stop, then takes back what the clients have.
    ///
    /// # Errors
    /// What `epoll` says; [`ErrorKind::TimedOut`] if memory could not be taken back in time.
    pub fn run(mut self) -> Result<()> {
        let mut stopping: Option<Instant> = None;
        let mut events = Vec::with_capacity(64);
        loop {
            if let Some(since) = stopping {
                if self.machine.clients().next().is_none() && self.jobs.is_empty() {
                    return Ok(());
                }
                if since.elapsed() > STOP_LIMIT {
                    let what = "the broker stopped, but memory of its clients is still mapped";
                    return Err(Error::new(ErrorKind::TimedOut, what));
                }
            }
            // With pieces left to map, only look who is there.
            let timeout = match (self.jobs.is_empty(), stopping) {
                (false, _) => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
                (true, Some(_)) => Some(Timespec { tv_sec: 0, tv_nsec: 50_000_000 }),
                (true, None) => None,
            };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::from_errno(errno, "epoll of the broker")),
            }
            for event in &events {
                match event.data.u64() {
                    STOP if stopping.is_none() => {
                        stopping = Some(Instant::now());
                        self.stop.take()?;
                        self.doors.clear();
                        for client in self.machine.clients().collect::<Vec<_>>() {
                            self.feed(Event::Left { client });
                        }
                    }
                    STOP => {}
                    WAKE => self.collect_finished()?,
                    token => self.ready(token),
                }
            }
            if let Some((task, outcome)) = self.jobs.step() {
                let outcome = outcome.map(|(memory, outcome)| {
                    self.made.extend(memory.map(|memory| (task, vec![memory])));
                    outcome
                });
                self.feed(Event::Finished { task, outcome });
                self.made.remove(&task);
            }
        }
    }

    fn watch(&mut self, descriptor: impl AsFd) -> Result<u64> {
        let token = self.next_token;
        self.next_token += 1;
        epoll::add(&self.epoll, &descriptor, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(|errno| Error::from_errno(errno, "epoll of the broker"))?;
        Ok(token)
    }

    fn ready(&mut self, token: u64) {
        if token & PROCESS != 0 {
            return self.feed(Event::Left { client: ClientId(token & !PROCESS) });
        }
        if token & CARD != 0 {
            let card = usize::try_from(token & !CARD).unwrap_or(usize::MAX);
            for notice in self.cards.notices(card) {
                self.feed(Event::Noticed { card, notice });
            }
            return;
        }
        match self.doors.get_mut(&token) {
            Some(Entrance::Listener(listener)) => {
                if let Some(socket) = listener.accept() {
                    self.admit(socket);
                }
            }
            Some(Entrance::Door(inside)) => match door::admit(inside) {
                door::Knock::Client(socket) => self.admit(socket),
                door::Knock::Nothing => {}
                door::Knock::Closed => {
                    self.doors.remove(&token);
                }
            },
            None => self.read(ClientId(token)),
        }
    }

    fn admit(&mut self, socket: OwnedFd) {
        let client = ClientId(self.next_token);
        self.next_token += 1;
        match Connection::new(socket, &self.epoll, client) {
            Ok((connection, peer)) => {
                tracing::debug!(client = client.0, pid = peer.pid, "a client connected");
                self.clients.insert(client, connection);
                self.feed(Event::Joined { client, peer });
            }
            Err(error) => tracing::warn!(%error, "a client could not be let in"),
        }
    }

    fn read(&mut self, client: ClientId) {
        let Some(connection) = self.clients.get_mut(&client) else { return };
        if !connection.flush(&self.epoll) {
            return self.feed(Event::Left { client });
        }
        match connection.receive(&mut self.buffer) {
            Incoming::Nothing => {}
            Incoming::Gone => self.feed(Event::Left { client }),
            Incoming::Nonsense(error) => self.feed(Event::Nonsense { client, error }),
            Incoming::Request { number, request, descriptor } => {
                let event = Event::Request { client, number, request, descriptor: descriptor.is_some() };
                self.feed_with(event, descriptor);
            }
        }
    }

    fn feed(&mut self, event: Event) {
        self.feed_with(event, None);
    }

    /// Feeds the machine and carries out what it says, until it has nothing more to say. `descriptor` came with the event.
    fn feed_with(&mut self, event: Event, mut descriptor: Option<OwnedFd>) {
        let mut waiting = std::collections::VecDeque::from(self.machine.handle(event));
        while let Some(effect) = waiting.pop_front() {
            match effect {
                Effect::Reply { client, number, reply, attach } => {
                    let attached = attach.and_then(|task| self.made.remove(&task)).unwrap_or_default();
                    let Some(connection) = self.clients.get_mut(&client) else { continue };
                    if !connection.reply(&self.epoll, number, &reply, attached) {
                        waiting.extend(self.machine.handle(Event::Left { client }));
                    }
                }
                Effect::Tell { client, card, notice } => self.cards.tell(client, card, notice),
                Effect::Disconnect { client } => {
                    self.cards.forget(client);
                    if let Some(connection) = self.clients.remove(&client) {
                        connection.close(&self.epoll);
                        tracing::debug!(client = client.0, "a client is gone, and nothing of it is left");
                    }
                }
                Effect::Work { task, work } => {
                    let Some(outcome) = self.work(task, work, &mut descriptor) else { continue };
                    waiting.extend(self.machine.handle(Event::Finished { task, outcome }));
                }
            }
        }
    }

    /// Does a piece of work, or begins it if it takes time.
    fn work(
        &mut self,
        task: TaskId,
        work: Work,
        descriptor: &mut Option<OwnedFd>,
    ) -> Option<Result<Outcome>> {
        let done = |result: Result<()>| Some(result.map(|()| Outcome::Done));
        match work {
            Work::Map { space, iova, size, page_shift } => {
                let pages = page_size(page_shift).map(|pages| self.jobs.map(task, space, iova, size, pages));
                pages.err().map(Err)
            }
            Work::Place { space, size, align, top, page_shift } => {
                let request = page_size(page_shift).map(|pages| DmaRequest { size, align, top, pages });
                request.map(|request| self.jobs.place(task, space, request)).err().map(Err)
            }
            Work::Unmap { space, iova, size } => {
                self.jobs.unmap(task, space, iova, size);
                None
            }
            Work::Grant { card, client } => Some(self.grant(task, card, client)),
            Work::Wire { card, vector } => {
                let event = descriptor.take();
                done(self.cards.wire(card, vector, event.as_ref().map(AsFd::as_fd)))
            }
            Work::Silence { card, vector } => done(self.cards.wire(card, vector, None)),
            Work::CarryOut { card, will } => done(self.cards.carry_out(card, &will)),
            Work::Reset { card, unused } => self.cards.begin_reset(task, card, unused).err().map(Err),
            Work::Close { card } => self.begin_close(task, card).err().map(Err),
        }
    }

    fn grant(&mut self, task: TaskId, card: usize, client: ClientId) -> Result<Outcome> {
        let (kind, descriptors) = self.cards.grant(card, client)?;
        self.made.insert(task, descriptors);
        Ok(Outcome::Grant { kind })
    }

    fn begin_close(&mut self, task: TaskId, card: usize) -> Result<()> {
        if let Some(mapper) = self.cards.begin_close(task, card)? {
            self.jobs.leave_out(&mapper);
        }
        Ok(())
    }

    fn collect_finished(&mut self) -> Result<()> {
        self.wake.take()?;
        while let Some((task, outcome)) = self.cards.next_finished() {
            self.feed(Event::Finished { task, outcome });
        }
        Ok(())
    }
}

/// Who is at the other end of a client's socket.
fn peer_of(socket: impl AsFd) -> Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)
        .map_err(|errno| Error::from_errno(errno, "credentials of a client"))?;
    let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap_or(0);
    Ok(Peer { pid, uid: credentials.uid.as_raw() })
}

fn io(error: &std::io::Error) -> Error {
    match rustix::io::Errno::from_io_error(error) {
        Some(errno) => Error::from_errno(errno, "the broker"),
        None => Error::new(ErrorKind::System, error.to_string()),
    }
}
