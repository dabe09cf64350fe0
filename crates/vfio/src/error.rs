//! What went wrong with a card, where, and what to do about it.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The result of an operation on a card or an address space.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure: its kind for programs, and for people what was tried on which object, the real errno by name and, where
/// there is one, the remedy.
///
/// It can be cloned and sent to another process, so that a client of a broker sees what the owner saw.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    errno: Option<i32>,
    remedy: Option<String>,
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What sort of failure it is, for programs that want to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such card, BAR, vector or file.
    NotFound,
    /// Somebody else has it; the message names the holder.
    Held,
    /// The request itself is wrong: a size, an alignment, a name.
    Invalid,
    /// The access lies outside of the BAR or buffer.
    OutOfBounds,
    /// The card, kernel or peer cannot do this.
    Unsupported,
    /// No memory, no IOVA space, no huge pages, or a limit was reached.
    Exhausted,
    /// The caller has no right to it.
    Denied,
    /// The card answers all-ones or nothing: link down, reset, unplugged, or the process that emulates it is gone.
    LinkDown,
    /// The broker is gone, or has ended the connection.
    Disconnected,
    /// It took longer than it may.
    TimedOut,
    /// The peer does not keep to the protocol.
    Protocol,
    /// A system call failed for another reason; the errno says which.
    System,
}

impl Error {
    /// A failure of `kind`; `what` says what was tried on which object, in one clause.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), errno: None, remedy: None }
    }

    /// A system call that failed while doing `what`; the kind follows from the errno.
    pub fn from_errno(errno: Errno, what: impl Into<String>) -> Self {
        Self::new(ErrorKind::of(errno), what).with_errno(errno)
    }

    /// The same failure with the errno that caused it.
    #[must_use]
    pub fn with_errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno.raw_os_error());
        self
    }

    /// The same failure, of another sort: a peer's errno says less than this side knows.
    #[must_use]
    pub const fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same failure with what the user can do about it: a command or a clause.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same failure, said of a larger operation: `context` is put in front.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.what = format!("{context}: {}", self.what);
        self
    }

    /// What sort of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno behind it, if a system call or a peer gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        // The number may come from another process; no errno is outside of this range.
        self.errno.filter(|errno| (1..=4095).contains(errno)).map(Errno::from_raw_os_error)
    }

    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno() {
            write!(f, ": {}", jitney_memory::Explained(errno))?;
        }
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl ErrorKind {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NODEV | Errno::NXIO => Self::NotFound,
            Errno::BUSY | Errno::EXIST | Errno::ADDRINUSE => Self::Held,
            Errno::INVAL | Errno::TOOBIG => Self::Invalid,
            Errno::NOTTY | Errno::NOTSUP | Errno::NOSYS => Self::Unsupported,
            Errno::NOMEM | Errno::NOSPC | Errno::MFILE | Errno::NFILE => Self::Exhausted,
            Errno::PERM | Errno::ACCESS => Self::Denied,
            Errno::PIPE | Errno::CONNRESET | Errno::CONNREFUSED | Errno::NOTCONN => Self::Disconnected,
            Errno::TIMEDOUT | Errno::AGAIN => Self::TimedOut,
            Errno::PROTO | Errno::BADMSG => Self::Protocol,
            _ => Self::System,
        }
    }
}

impl From<jitney_memory::Error> for Error {
    fn from(error: jitney_memory::Error) -> Self {
        use jitney_memory::Error as Memory;
        let kind = match &error {
            Memory::System { errno, .. } => ErrorKind::of(*errno),
            Memory::HugePages { .. } => ErrorKind::Exhausted,
            Memory::Size { .. } | Memory::Unsendable { .. } => ErrorKind::Invalid,
            Memory::Descriptor { .. }
            | Memory::MessageTruncated { .. }
            | Memory::DescriptorsTruncated { .. } => ErrorKind::Protocol,
            Memory::Closed { .. } => ErrorKind::Disconnected,
            Memory::Access(_) => ErrorKind::OutOfBounds,
            _ => ErrorKind::System,
        };
        Self {
            kind,
            what: error.what().unwrap_or_else(|| error.to_string()),
            errno: error.errno().map(Errno::raw_os_error),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}

impl From<jitney_iova::Error> for Error {
    fn from(error: jitney_iova::Error) -> Self {
        let kind = match error {
            jitney_iova::Error::Exhausted { .. } => ErrorKind::Exhausted,
            _ => ErrorKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<jitney_memory::AccessError> for Error {
    fn from(error: jitney_memory::AccessError) -> Self {
        Self::new(ErrorKind::OutOfBounds, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let error = Error::from_errno(Errno::EXIST, "mapping 0x1000 bytes at IOVA 0x2000")
            .with_remedy("use one owner")
            .context("card 0000:2e:00.0");
        let text = error.to_string();
        assert!(text.starts_with("card 0000:2e:00.0: mapping 0x1000 bytes at IOVA 0x2000: EEXIST"), "{text}");
        assert!(text.ends_with("; use one owner"), "{text}");
        assert_eq!(format!("{error:?}"), text, "what main prints");
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Held, Some(Errno::EXIST)));
    }

    #[test]
    fn an_error_of_memory_says_the_same_and_keeps_its_errno() {
        let memory =
            |errno| jitney_memory::Error::System { operation: "mmap", object: "of a BAR".into(), errno };
        for errno in [Errno::MFILE, Errno::ACCESS, Errno::IO] {
            let error = Error::from(memory(errno));
            assert_eq!((error.errno(), error.to_string()), (Some(errno), memory(errno).to_string()));
        }
        let error = Error::from(memory(Errno::MFILE));
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.remedy().is_some_and(|remedy| remedy.contains("ulimit -n")));
        let truncated = Error::from(jitney_memory::Error::MessageTruncated { capacity: 7 });
        assert_eq!((truncated.kind(), truncated.errno()), (ErrorKind::Protocol, None));
        assert!(truncated.to_string().contains("7 bytes"));
    }

    #[test]
    fn a_number_that_is_no_errno_is_ignored() {
        for number in [i32::MIN, -1, 0, 4096, i32::MAX] {
            let error =
                Error { kind: ErrorKind::System, what: "x".into(), errno: Some(number), remedy: None };
            assert_eq!((error.errno(), error.to_string()), (None, "x".into()));
        }
    }
}
