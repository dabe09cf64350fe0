//! Why a call fails: an errno for the program, and a line for people.

use jitney_memory::errno_name;
use jitney_vfio::ErrorKind;
use jitney_xdma::Error;
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Why a call fails.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// What the program sees.
    pub(crate) errno: Errno,
    /// What people see; nothing where the errno is the usual answer to a usual question.
    pub(crate) why: Option<String>,
}

/// What a call comes to.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with a reason.
    pub(crate) fn new(errno: Errno, why: impl Into<String>) -> Self {
        Self { errno, why: Some(why.into()) }
    }

    /// One that needs no words.
    pub(crate) const fn silent(errno: Errno) -> Self {
        Self { errno, why: None }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::silent(errno)
    }
}

impl From<jitney_vfio::Error> for Failure {
    fn from(error: jitney_vfio::Error) -> Self {
        Self::new(errno_of(&error), error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let errno = match &error {
            Error::Card(error) => errno_of(error),
            Error::NoXdma { .. } => Errno::NODEV,
            Error::NoChannel { .. } => Errno::NOENT,
            Error::Stream { .. } | Error::Range { .. } | Error::Plan { .. } => Errno::INVAL,
            Error::TimedOut { .. } => Errno::TIMEDOUT,
            Error::Cancelled { .. } => Errno::INTR,
            Error::StillBusy { .. } => Errno::BUSY,
            // What the driver answers to a transfer that the engine gave up, and to a card that is gone.
            _ => Errno::IO,
        };
        Self::new(errno, error.to_string())
    }
}

fn errno_of(error: &jitney_vfio::Error) -> Errno {
    match error.kind() {
        ErrorKind::Held => Errno::BUSY,
        ErrorKind::LinkDown => Errno::IO,
        ErrorKind::Invalid | ErrorKind::OutOfBounds => Errno::INVAL,
        ErrorKind::Denied => Errno::ACCESS,
        ErrorKind::Disconnected | ErrorKind::NotFound => Errno::NODEV,
        ErrorKind::TimedOut => Errno::TIMEDOUT,
        ErrorKind::Exhausted => Errno::NOMEM,
        ErrorKind::Unsupported => Errno::OPNOTSUPP,
        ErrorKind::Protocol => Errno::PROTO,
        _ => error.errno().unwrap_or(Errno::IO),
    }
}

/// Lines that are said in a second; a program that asks a dead card again and again would fill its user's disk.
const MOST: u32 = 50;

static SECOND: AtomicU64 = AtomicU64::new(0);
static SAID: AtomicU32 = AtomicU32::new(0);

/// Whether there may be another line, and how many were left out before it.
fn may_be_said() -> Option<u32> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec.cast_unsigned();
    let said = if SECOND.swap(now, Ordering::Relaxed) == now {
        SAID.fetch_add(1, Ordering::Relaxed)
    } else {
        let before = SAID.swap(1, Ordering::Relaxed);
        return Some(before.saturating_sub(MOST));
    };
    (said < MOST).then_some(0)
}

/// Says on standard error why `call` failed, in one line, if there is something to say.
pub(crate) fn complain(call: fmt::Arguments<'_>, failure: &Failure) {
    if let Some(why) = &failure.why
        && let Some(left_out) = may_be_said()
    {
        if left_out > 0 {
            say(&format!("{left_out} lines were left out, of failures in one second"));
        }
        say(&format!("{call}: {}: {why}", errno_name(failure.errno)));
    }
}

/// A line on standard error, past whatever the program has made of its own output.
pub(crate) fn say(what: &str) {
    let line = format!("jitney xdma-compat: {}\n", what.replace('\n', " "));
    // Nobody is left to be told that it could not be said.
    let _ = crate::placeholder::borrow(2).map(|stderr| rustix::io::write(stderr, line.as_bytes()));
}
