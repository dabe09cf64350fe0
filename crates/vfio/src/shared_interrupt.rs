//! One interrupt vector for several of a card's interrupt sources, whose users are in one process.
//!
//! # Why no wake-up is lost
//! Each user has an event of its own, and sleeps until that or the vector's is signalled. So a message wakes all; the first to
//! take it asks the card which sources request, has those silenced, and signals their users' events, under a lock that the
//! others of the vector take too. What it took for another is therefore found by that one at its own event, whenever it looks. Who
//! wakes and has nothing at its own event goes back to sleep.

use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use jitney_memory::EventFd;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How many sources a vector can have: one bit each.
const SOURCES: u8 = 32;

/// What was found of the sources that share a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// Those that requested, and are silent until their users let them request again: one bit each.
    pub sources: u32,
    /// Whether one has come meanwhile, so that it has to be looked again.
    pub again: bool,
}

/// Whether a vector has fired for one of its sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// It has not.
    No,
    /// It has, and there is no other source that it could have fired for. Nothing was silenced.
    Alone,
    /// The source has requested, and was silenced: its user has to let it request again.
    Silenced,
}

/// The vectors of a card that parts of this process share. Clones are the same.
#[derive(Clone, Default)]
pub struct SharedVectors {
    vectors: Arc<Mutex<HashMap<u16, Weak<Vector>>>>,
}

/// A vector and who is woken by it.
#[derive(Debug)]
struct Vector {
    interrupt: Interrupt,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    list: Vec<User>,
    /// Whether there ever were two. From then on an event may be of one that has left.
    several: bool,
}

#[derive(Debug)]
struct User {
    /// Its source, as a bit.
    source: u32,
    event: Arc<EventFd>,
}

/// An interrupt vector for one of the card's sources, which other sources of this process may have too. No other process can
/// have it: the vector is leased, until the last that shares it is dropped.
///
/// [`AsFd`] gives what is readable when the vector has fired, for this source or another one; [`wait`](Self::wait) says, and makes
/// it unreadable again.
pub struct SharedInterrupt {
    source: u32,
    /// Signalled when this source has requested.
    event: Arc<EventFd>,
    /// Watches that and the vector's.
    poll: OwnedFd,
    /// What wakes tasks; made when one waits.
    #[cfg(feature = "async")]
    watched: crate::watched::Watched,
    /// There until this is dropped.
    vector: Option<Arc<Vector>>,
    vectors: SharedVectors,
}

impl SharedVectors {
    /// Vector `vector` for `source`, which is below 32. `open` takes the vector if nobody in this process has it.
    ///
    /// # Errors
    /// What `open` says; [`ErrorKind::Invalid`] for a source that cannot be; what the system says.
    pub fn join(
        &self,
        vector: u16,
        source: u8,
        open: impl FnOnce() -> Result<Interrupt>,
    ) -> Result<SharedInterrupt> {
        if source >= SOURCES {
            let what = format!("interrupt vector {vector} cannot have a source of number {source}");
            return Err(Error::new(ErrorKind::Invalid, what)
                .with_remedy(format!("sources are numbered from 0 to {}", SOURCES - 1)));
        }
        let mut vectors = self.lock();
        let shared = match vectors.get(&vector).and_then(Weak::upgrade) {
            Some(shared) => shared,
            None => {
                let opened = Arc::new(Vector { interrupt: open()?, users: Mutex::default() });
                vectors.insert(vector, Arc::downgrade(&opened));
                opened
            }
        };
        SharedInterrupt::new(1 << source, &shared, self)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Weak<Vector>>> {
        // Every change of the list is complete in itself.
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Vector {
    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedInterrupt {
    fn new(source: u32, vector: &Arc<Vector>, vectors: &SharedVectors) -> Result<Self> {
        let system = |errno| Error::from_errno(errno, "watching a shared interrupt vector");
        let event = Arc::new(EventFd::new()?);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        for source in [event.as_fd(), vector.interrupt.as_fd()] {
            epoll::add(&poll, source, epoll::EventData::new_u64(0), epoll::EventFlags::IN).map_err(system)?;
        }
        let mut users = vector.users();
        users.list.push(User { source, event: Arc::clone(&event) });
        users.several |= users.list.len() > 1;
        drop(users);
        Ok(Self {
            source,
            event,
            poll,
            #[cfg(feature = "async")]
            watched: crate::watched::Watched::default(),
            vector: Some(Arc::clone(vector)),
            vectors: vectors.clone(),
        })
    }

    fn vector(&self) -> &Vector {
        match &self.vector {
            Some(vector) => vector,
            None => unreachable!("it is there until this is dropped"),
        }
    }

    /// Waits until the vector has fired for this source since the last call, at most `timeout` (for ever without one).
    ///
    /// Of several sources nobody can tell from the vector which of them it was. `silence` is given them, one bit each; it keeps those
    /// from requesting that do, and says which these were. It is called under a lock of the vector's, also after `timeout`
    /// has passed: what keeps a vector up whose message was lost keeps those of others from coming.
    ///
    /// # Errors
    /// What the system and the transport say.
    pub fn wait(&self, timeout: Option<Duration>, silence: impl Fn(u32) -> Requests) -> Result<Fired> {
        if timeout == Some(Duration::ZERO) {
            return self.look(false, &silence);
        }
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // What has come before ends it at once.
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if !self.sleep(left)? {
                return self.look(true, &silence);
            }
            match self.look(false, &silence)? {
                Fired::No => {}
                fired => return Ok(fired),
            }
        }
    }

    /// Passes on what has come to the vector, and takes what has come to this source. With `anyhow` the card is asked even if
    /// nothing has come.
    fn look(&self, anyhow: bool, silence: &impl Fn(u32) -> Requests) -> Result<Fired> {
        let vector = self.vector();
        let users = vector.users();
        let alone = matches!(&*users.list, [user] if Arc::ptr_eq(&user.event, &self.event));
        let fired = vector.interrupt.take()?;
        if alone && !users.several {
            return Ok(if fired { Fired::Alone } else { Fired::No });
        }
        if fired || anyhow {
            let requests = silence(users.list.iter().fold(0, |all, user| all | user.source));
            for user in users.list.iter().filter(|user| user.source & requests.sources != 0) {
                user.event.signal()?;
            }
            if requests.again {
                vector.interrupt.put_back()?;
            }
            // Those that held the line up are silent.
            vector.interrupt.rearm()?;
        }
        drop(users);
        Ok(if self.event.take()? > 0 { Fired::Silenced } else { Fired::No })
    }

    /// Sleeps until one of the events is signalled; whether one was before `timeout` had passed.
    fn sleep(&self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut either = [self.vector().interrupt.as_fd(), self.event.as_fd()]
            .map(|of| PollFd::from_borrowed_fd(of, PollFlags::IN));
        match rustix::event::poll(&mut either, timeout.as_ref()) {
            Ok(ready) => Ok(ready != 0),
            Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(Error::from_errno(errno, "waiting for a shared interrupt vector")),
        }
    }

    /// Waits until the vector has fired for this source since the last call, as a task of any executor.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub async fn fired(&self, silence: impl Fn(u32) -> Requests) -> Result<Fired> {
        loop {
            match self.wait(Some(Duration::ZERO), &silence)? {
                Fired::No => self.watched.readable(&self.poll).await?,
                fired => return Ok(fired),
            }
        }
    }

    /// As [`Interrupt::rearm`].
    ///
    /// # Errors
    /// What the transport says.
    pub fn rearm(&self) -> Result<()> {
        self.vector().interrupt.rearm()
    }

    /// Leaves the vector to the others: this one is told nothing any more, and its source may be another vector's to silence.
    pub fn leave(&self) {
        self.vector().users().list.retain(|user| !Arc::ptr_eq(&user.event, &self.event));
    }
}

impl AsFd for SharedInterrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

impl Drop for SharedInterrupt {
    fn drop(&mut self) {
        self.leave();
        // Whoever joins next meets the vector with a user, or free, and not while it is being given back.
        let _vectors = self.vectors.lock();
        drop(self.vector.take());
    }
}

impl fmt::Debug for SharedInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SharedInterrupt({}, source {})",
            self.vector().interrupt.vector(),
            self.source.trailing_zeros()
        )
    }
}

impl fmt::Debug for SharedVectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedVectors").field(&self.lock().keys()).finish()
    }
}
