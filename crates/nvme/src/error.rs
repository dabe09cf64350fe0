//! What goes wrong with a controller.

use crate::spec::status::Status;
use jitney_vfio::ErrorKind;

/// The result of an operation on a controller.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The card cannot be reached, somebody else has it, the request is wrong, or the controller does not do what it should: the kind says which.
    #[error(transparent)]
    Card(#[from] jitney_vfio::Error),
    /// The controller has ended a command with an error.
    #[error("{command}: {status}")]
    Command {
        /// Which command, on which card.
        command: String,
        /// How it ended.
        status: Status,
    },
}

impl Error {
    /// A failure of `kind`, with what to do.
    pub(crate) fn of(kind: ErrorKind, what: impl Into<String>, remedy: &str) -> Self {
        Self::Card(jitney_vfio::Error::new(kind, what).with_remedy(remedy))
    }

    /// The request itself is wrong.
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Card(jitney_vfio::Error::new(ErrorKind::Invalid, what))
    }

    /// What sort of failure it is, if it is one of the card.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Card(error) => Some(error.kind()),
            Self::Command { .. } => None,
        }
    }

    /// How the command ended, if it is one that the controller has ended.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        match self {
            Self::Command { status, .. } => Some(*status),
            Self::Card(_) => None,
        }
    }
}
