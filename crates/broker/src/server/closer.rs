//! Closes descriptors elsewhere: `close(2)` can wait, and the thread that serves clients must not.
//!
//! Of our own descriptors the last copy of much memory takes long. Those of strangers may be anything: a TCP socket that lingers,
//! a file whose server never answers. So what a stranger sent and nobody wants gets a thread of its own, and a user with many of
//! those that do not end is let in no more.

use jitney_vfio::{Error, Result};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// The most messages of one source whose descriptors may still be being closed when somebody of it is let in.
const MOST_OPEN: usize = 16;

/// How long a close may take that nobody keeps from ending.
const LATE: Duration = Duration::from_millis(200);

/// The most threads that close what came from one source.
const MOST_THREADS: usize = 64;

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
    /// What takes turns when there are too many threads of one source already.
    rest: mpsc::Sender<Vec<OwnedFd>>,
    open: Arc<Mutex<HashMap<Source, Vec<Instant>>>>,
}

impl Closer {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { own: queue("close")?, rest: queue("close the rest")?, open: Arc::default() })
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
        let began = Instant::now();
        {
            let mut open = self.open();
            let parcels = open.entry(source).or_default();
            if parcels.len() >= MOST_THREADS {
                drop(open);
                // They wait for each other, and for nobody else.
                if self.rest.send(descriptors).is_err() {
                    tracing::error!("the thread that closes descriptors has ended");
                }
                return;
            }
            parcels.push(began);
        }
        let open = Arc::clone(&self.open);
        let parcel = Arc::new(Mutex::new(descriptors));
        let contents = Arc::clone(&parcel);
        let close = move || {
            drop(std::mem::take(&mut *lock(&contents)));
            let mut open = lock(&open);
            if let Some(parcels) = open.get_mut(&source) {
                if let Some(index) = parcels.iter().position(|other| *other == began) {
                    parcels.swap_remove(index);
                }
                if parcels.is_empty() {
                    open.remove(&source);
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("close strange".into()).spawn(close) {
            // Then our own wait for them, which is bad, but nobody else does.
            tracing::error!(%error, "there is no thread to close strange descriptors in");
            self.own(std::mem::take(&mut *lock(&parcel)));
        }
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
        let late = |parcels: &Vec<Instant>| parcels.iter().filter(|began| began.elapsed() > LATE).count();
        let open = self.open().get(&source).map_or(0, late);
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

    fn open(&self) -> MutexGuard<'_, HashMap<Source, Vec<Instant>>> {
        lock(&self.open)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that closes one thing after the other.
fn queue(name: &str) -> Result<mpsc::Sender<Vec<OwnedFd>>> {
    let (sender, parcels) = mpsc::channel::<Vec<OwnedFd>>();
    let close = move || parcels.into_iter().for_each(drop);
    std::thread::Builder::new().name(name.into()).spawn(close).map_err(|error| super::io(&error))?;
    Ok(sender)
}
