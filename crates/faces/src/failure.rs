//! Errors of the library, of all of its crates, as one type.

use jitney::boards::{self, FlashError};
use jitney::emulated::{EmulatedError, emulator::boards::BoardError};
use jitney::vfio::ErrorKind;
use jitney::{ring, vfio, xdma};
use std::fmt;

/// A failure on its way to a program of another language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: Kind,
    /// Without the remedy.
    what: String,
    errno: Option<i32>,
    remedy: Option<String>,
}

/// What sort of failure it is, for programs that want to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A failure of no other kind.
    Other,
    /// There is no such card, board, BAR, channel or register.
    NotFound,
    /// Somebody else has it: [`Failure::holder`] says who, if it is known.
    Held,
    /// The request itself is wrong: a size, an alignment, a name.
    Invalid,
    /// The access lies outside of the registers, the buffer or the flash.
    OutOfBounds,
    /// The card, kernel or broker cannot do this.
    Unsupported,
    /// No memory, no address space, no huge pages, or a limit was reached.
    Exhausted,
    /// The caller has no right to it.
    Denied,
    /// The card answers nothing: link down, reset, unplugged, or the process that emulates it is gone.
    LinkDown,
    /// The broker is gone, or has ended the connection.
    Disconnected,
    /// It took longer than it may.
    TimedOut,
    /// Another process does not keep to the protocol.
    Protocol,
    /// The card's DMA engine has failed, or has not stopped.
    Transfer,
    /// The transfer was given up before it had ended.
    Cancelled,
    /// The flash, or the bus that it is on, does not answer as it should; or writing it was stopped.
    Flash,
    /// It was closed, or freed.
    Closed,
    /// It is the parent's: this process was forked from it.
    Forked,
}

impl Failure {
    /// A failure of `kind`; `what` says what was tried on which object.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), errno: None, remedy: None }
    }

    /// The same with what can be done about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A request that is wrong in itself.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, what)
    }

    /// `what` was given back: `the card`, `the buffer`.
    #[must_use]
    pub fn closed(what: &str) -> Self {
        Self::new(Kind::Closed, format!("{what} is closed"))
    }

    /// `what` is of the process that this one was forked from.
    #[must_use]
    pub fn forked(what: &str) -> Self {
        Self::new(Kind::Forked, format!("{what} is the parent's: this process was forked from it"))
            .with_remedy("open the card in the child, or start a new program there")
    }

    /// `what` did not end in time.
    #[must_use]
    pub fn timed_out(what: &str) -> Self {
        Self::new(Kind::TimedOut, format!("{what}: not in the time that was given"))
    }

    /// What sort of failure it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What was tried on which object, and what happened.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The number of the system's error behind it, if there is one.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// What can be done about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// Who holds what was asked for, where the message says: `pid 4211 (jitney test ddr)`.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        if self.what.contains("this process itself has") {
            return Some("this process");
        }
        let rest = self.what.split_once(" is held by ")?.1;
        let mut depth = 0_usize;
        let end = rest.char_indices().find(|(at, letter)| {
            match letter {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(letter, ':' | ';' | ',') && rest[*at..].len() > 1
        });
        Some(rest[..end.map_or(rest.len(), |(at, _)| at)].trim())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remedy {
            Some(remedy) => write!(f, "{}; {remedy}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Failure {}

impl Kind {
    const fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Held => Self::Held,
            ErrorKind::Invalid => Self::Invalid,
            ErrorKind::OutOfBounds => Self::OutOfBounds,
            ErrorKind::Unsupported => Self::Unsupported,
            ErrorKind::Exhausted => Self::Exhausted,
            ErrorKind::Denied => Self::Denied,
            ErrorKind::LinkDown => Self::LinkDown,
            ErrorKind::Disconnected => Self::Disconnected,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::Protocol => Self::Protocol,
            _ => Self::Other,
        }
    }
}

impl From<vfio::Error> for Failure {
    fn from(error: vfio::Error) -> Self {
        let text = error.to_string();
        let remedy = error.remedy().map(str::to_owned);
        let ending = remedy.as_ref().map(|remedy| format!("; {remedy}"));
        let what = ending.and_then(|ending| text.strip_suffix(&ending).map(str::to_owned)).unwrap_or(text);
        Self {
            kind: Kind::of(error.kind()),
            what,
            errno: error.errno().map(|errno| errno.raw_os_error()),
            remedy,
        }
    }
}

impl From<xdma::Error> for Failure {
    fn from(error: xdma::Error) -> Self {
        use xdma::Error as Xdma;
        let kind = match error {
            Xdma::Card(error) | Xdma::LinkDown(error) | Xdma::CutOff(error) | Xdma::Unknown(error) => {
                return error.into();
            }
            Xdma::NoXdma { .. } | Xdma::NoChannel { .. } => Kind::NotFound,
            Xdma::Stream { .. } | Xdma::Plan { .. } => Kind::Invalid,
            Xdma::Range { .. } => Kind::OutOfBounds,
            Xdma::TimedOut { .. } => Kind::TimedOut,
            Xdma::Cancelled { .. } => Kind::Cancelled,
            _ => Kind::Transfer,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<boards::Error> for Failure {
    fn from(error: boards::Error) -> Self {
        use boards::Error as Board;
        let kind = match error {
            Board::Card(error) => return error.into(),
            Board::Xdma(error) => return error.into(),
            Board::UnknownBoard { .. }
            | Board::NoPeripheral { .. }
            | Board::NoPeripheralNamed { .. }
            | Board::NoXdma { .. } => Kind::NotFound,
            Board::OutsideBar { .. } | Board::OutsideFrame { .. } => Kind::OutOfBounds,
            Board::Catalogue(_) => Kind::Invalid,
            Board::Flash(ref flash) => match **flash {
                FlashError::Range { .. } => Kind::OutOfBounds,
                _ => Kind::Flash,
            },
            _ => Kind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ring::Error> for Failure {
    fn from(error: ring::Error) -> Self {
        use ring::Error as Ring;
        let kind = match error {
            Ring::Memory(error) => return error.into(),
            Ring::Card(error) => return error.into(),
            Ring::NoRing(_) => Kind::NotFound,
            Ring::Shape { .. } | Ring::Size { .. } => Kind::Invalid,
            _ => Kind::Protocol,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<BoardError> for Failure {
    fn from(error: BoardError) -> Self {
        let kind = match error {
            BoardError::Unknown { .. } => Kind::NotFound,
            _ => Kind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<EmulatedError> for Failure {
    fn from(error: EmulatedError) -> Self {
        match error {
            EmulatedError::Board(error) => error.into(),
            EmulatedError::Card(error) => error.into(),
            other => Self::new(Kind::Other, other.to_string()),
        }
    }
}

impl From<jitney_memory::Error> for Failure {
    fn from(error: jitney_memory::Error) -> Self {
        vfio::Error::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_is_said_once() {
        let error = vfio::Error::new(ErrorKind::Held, "h2c0 is held by pid 7 (jitney test, ddr): EBUSY")
            .with_remedy("wait until it ends");
        let failure = Failure::from(error.clone());
        assert_eq!(failure.to_string(), error.to_string());
        assert_eq!((failure.kind(), failure.remedy()), (Kind::Held, Some("wait until it ends")));
        assert_eq!(failure.holder(), Some("pid 7 (jitney test, ddr)"));
        assert!(!failure.what().contains("wait"));
    }
}
