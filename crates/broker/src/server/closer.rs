//! Closes descriptors elsewhere: `close(2)` can wait, and the thread that serves clients must not.
//!
//! Of our own descriptors the last copy of much memory takes long. Those of strangers may be anything: a TCP socket that lingers,
//! a file whose server never answers. So what a stranger sent and nobody wants is closed by threads of which there is always
//! one more when all of them are held up, and a user with many of those that do not end is let in no more.

use jitney_vfio::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The most messages of one source whose descriptors may still be being closed when somebody of it is let in.
const MOST_OPEN: usize = 16;

/// How long a close may take that nobody keeps from ending.
const LATE: Duration = Duration::from_millis(200);

/// The most threads that close what came from one source.
const MOST_THREADS: usize = 64;

/// How long descriptors wait before one more thread is made for them: mostly one that is there has come back before. A thread for
/// each would have the server make hundreds when hundreds of clients end at once, which its other clients wait for.
const PATIENCE: Duration = Duration::from_millis(5);

/// Whose descriptors they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A user's.
    User(u32),
    /// Those of whoever inherited a door.
    Door,
    /// Of somebody who was gone, or for whom there was no room, before it was asked who that is.
    Unknown,
}

pub(super) struct Closer {
    own: mpsc::Sender<Vec<OwnedFd>>,
    strange: Arc<Strange>,
}

/// What strangers sent, on its way to be closed.
#[derive(Default)]
struct Strange {
    state: Mutex<State>,
    /// There is something to do for a thread that rests.
    work: Condvar,
    /// There is something that no thread rests for, or nobody closes here any more.
    more: Condvar,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Source, VecDeque<Parcel>>,
    /// When each that a thread has at hand was sent.
    closing: HashMap<Source, Vec<Instant>>,
    /// Whether a thread waits for work; a second one would not.
    resting: bool,
    /// Threads that were made and have not looked for any yet.
    starting: usize,
    ended: bool,
}

/// The descriptors of a message.
struct Parcel {
    since: Instant,
    descriptors: Vec<OwnedFd>,
}

impl State {
    /// A source that has something waiting and may have a thread more, and since when it waits.
    fn next(&self) -> Option<(Source, Instant)> {
        let has_room = |source: &Source| self.closing.get(source).map_or(0, Vec::len) < MOST_THREADS;
        let waiting = self.waiting.iter().filter(|(source, _)| has_room(source));
        waiting
            .filter_map(|(&source, parcels)| Some((source, parcels.front()?.since)))
            .min_by_key(|(_, since)| *since)
    }

    fn take(&mut self) -> Option<(Source, Parcel)> {
        let (source, _) = self.next()?;
        let parcels = self.waiting.get_mut(&source)?;
        let parcel = parcels.pop_front()?;
        if parcels.is_empty() {
            self.waiting.remove(&source);
        }
        self.closing.entry(source).or_default().push(parcel.since);
        Some((source, parcel))
    }

    fn closed(&mut self, source: Source, since: Instant) {
        let Some(closing) = self.closing.get_mut(&source) else { return };
        if let Some(index) = closing.iter().position(|other| *other == since) {
            closing.swap_remove(index);
        }
        if closing.is_empty() {
            self.closing.remove(&source);
        }
    }
}

impl Strange {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes one parcel after the other, and ends when there is none and another waits for the next.
    fn close(&self) {
        let mut state = self.state();
        state.starting -= 1;
        loop {
            if let Some((source, Parcel { since, descriptors })) = state.take() {
                // Should this one be held up, somebody has to care for the rest.
                if !state.resting {
                    self.more.notify_one();
                }
                drop(state);
                drop(descriptors);
                state = self.state();
                state.closed(source, since);
                continue;
            }
            if state.ended || state.resting {
                return;
            }
            state.resting = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.resting = false;
        }
    }

    /// One more thread that closes.
    fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let closing = Arc::clone(self);
        self.state().starting += 1;
        let started = std::thread::Builder::new().name("close strange".into()).spawn(move || closing.close());
        started.map(drop).inspect_err(|_| self.state().starting -= 1)
    }

    /// Has a thread more when something has waited for too long.
    fn watch(self: &Arc<Self>) {
        let mut state = self.state();
        while !state.ended {
            let someone_comes = state.resting || state.starting > 0;
            let since = state.next().filter(|_| !someone_comes).map(|(_, since)| since);
            state = match since.map(|since| PATIENCE.saturating_sub(since.elapsed())) {
                None => self.more.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    drop(state);
                    if let Err(error) = self.start() {
                        tracing::error!(%error, "there is no thread to close strange descriptors in");
                        std::thread::sleep(LATE);
                    }
                    self.state()
                }
                Some(left) => self.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

impl Closer {
    pub(super) fn new() -> Result<Self> {
        let strange = Arc::new(Strange::default());
        strange.start().map_err(|error| super::io(&error))?;
        let watched = Arc::clone(&strange);
        let thread = std::thread::Builder::new().name("watch closing".into());
        thread.spawn(move || watched.watch()).map_err(|error| super::io(&error))?;
        Ok(Self { own: queue("close")?, strange })
    }

    /// Closes descriptors that this process made.
    pub(super) fn own(&self, descriptors: Vec<OwnedFd>) {
        if !descriptors.is_empty() && self.own.send(descriptors).is_err() {
            tracing::error!("the thread that closes descriptors has ended");
        }
    }

    /// Closes descriptors that somebody sent.
    pub(super) fn strange(&self, source: Source, descriptors: Vec<OwnedFd>) {
        if descriptors.is_empty() {
            return;
        }
        let mut state = self.strange.state();
        let parcel = Parcel { since: Instant::now(), descriptors };
        state.waiting.entry(source).or_default().push_back(parcel);
        let waker = if state.resting { &self.strange.work } else { &self.strange.more };
        waker.notify_one();
    }

    /// Whether somebody of `source` may come in.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`](jitney_vfio::ErrorKind::Exhausted) if too much of what came from there is not closed yet.
    pub(super) fn check(&self, source: Source) -> Result<()> {
        // Who comes by a door cannot be told from who else has it, and does not suffer for that.
        if source == Source::Door {
            return Ok(());
        }
        let open = self.late(source);
        if open < MOST_OPEN {
            return Ok(());
        }
        let who = match source {
            Source::User(uid) => format!("user {uid}"),
            Source::Door | Source::Unknown => "somebody".into(),
        };
        let what =
            format!("{who} has sent {open} times descriptors that nobody asked for and that do not close");
        Err(Error::new(jitney_vfio::ErrorKind::Exhausted, what)
            .with_remedy("end what keeps them from closing"))
    }

    /// How many messages of a source should have been closed by now.
    fn late(&self, source: Source) -> usize {
        let state = self.strange.state();
        let waiting = state.waiting.get(&source).into_iter().flatten().map(|parcel| parcel.since);
        let closing = state.closing.get(&source).into_iter().flatten().copied();
        waiting.chain(closing).filter(|since| since.elapsed() > LATE).count()
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.strange.state().ended = true;
        self.strange.work.notify_all();
        self.strange.more.notify_all();
    }
}

/// A thread that closes one thing after the other.
fn queue(name: &str) -> Result<mpsc::Sender<Vec<OwnedFd>>> {
    let (sender, parcels) = mpsc::channel::<Vec<OwnedFd>>();
    let close = move || parcels.into_iter().for_each(drop);
    std::thread::Builder::new().name(name.into()).spawn(close).map_err(|error| super::io(&error))?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    /// A descriptor, and one that tells when it was closed.
    fn told() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn is_closed(reader: &OwnedFd) -> bool {
        matches!(rustix::io::read(reader, &mut [0; 1]), Ok(0))
    }

    fn soon(what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Something whose close is held up until it is told: a parcel that a test holds the place of.
    fn hold_up(closer: &Closer, source: Source) -> Instant {
        let since = Instant::now();
        closer.strange.state().closing.entry(source).or_default().push(since);
        since
    }

    #[test]
    fn all_is_closed_however_much_comes_at_once() {
        let closer = Closer::new().unwrap();
        let readers: Vec<_> = (0..300)
            .map(|number| {
                let (reader, writer) = told();
                closer.strange(Source::User(number % 3), vec![writer]);
                reader
            })
            .collect();
        soon("a descriptor stays open", || readers.iter().all(is_closed));
        soon("something still counts", || closer.strange.state().closing.is_empty());
    }

    /// Each of them takes what the last left, although nothing more is sent.
    #[test]
    fn threads_that_are_held_up_keep_nothing_waiting() {
        let closer = Closer::new().unwrap();
        let source = Source::User(1);
        // A socket with one end: its close lingers for a second, each.
        let lingering: Vec<_> = (0..8).map(|_| lingering_socket()).collect();
        let (reader, writer) = told();
        let start = Instant::now();
        let kept: Vec<_> = lingering
            .into_iter()
            .map(|(socket, peer)| {
                closer.strange(source, vec![socket]);
                peer
            })
            .collect();
        closer.strange(source, vec![writer]);
        soon("it waits for others", || is_closed(&reader));
        assert!(start.elapsed() < Duration::from_millis(900), "it waited for {:?}", start.elapsed());
        drop(kept);
    }

    /// A TCP socket with unsent bytes whose close waits for a second, and its other end.
    fn lingering_socket() -> (OwnedFd, std::net::TcpStream) {
        use rustix::net::sockopt::set_socket_linger;
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        near.set_nonblocking(true).unwrap();
        while near.write(&[0; 65536]).is_ok() {}
        near.set_nonblocking(false).unwrap();
        set_socket_linger(&near, Some(Duration::from_secs(1))).unwrap();
        (near.into(), far)
    }

    #[test]
    fn who_keeps_descriptors_from_closing_is_let_in_no_more() {
        let closer = Closer::new().unwrap();
        let source = Source::User(1);
        for _ in 0..MOST_OPEN {
            assert!(closer.check(source).is_ok());
            hold_up(&closer, source);
        }
        assert!(closer.check(source).is_ok(), "they have had no time yet");
        std::thread::sleep(LATE + Duration::from_millis(10));
        assert!(closer.check(source).is_err());
        assert!(closer.check(Source::User(2)).is_ok());
        assert!(closer.check(Source::Door).is_ok());
    }

    #[test]
    fn one_source_does_not_take_all_threads() {
        let closer = Closer::new().unwrap();
        let held: Vec<_> = (0..MOST_THREADS).map(|_| hold_up(&closer, Source::User(1))).collect();
        let (first, writer) = told();
        closer.strange(Source::User(1), vec![writer]);
        let (second, writer) = told();
        closer.strange(Source::User(2), vec![writer]);
        soon("another user waits", || is_closed(&second));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!is_closed(&first), "it has more threads than it may have");
        closer.strange.state().closed(Source::User(1), held[0]);
        // Who has closed something looks for more; here nobody did.
        closer.strange.work.notify_all();
        closer.strange.more.notify_all();
        soon("nobody closes it", || is_closed(&first));
    }
}
