//! Exit statuses.

use std::fmt;
use std::process::ExitCode;

/// How a command ended. The numbers are what scripts rely on; the help text lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It did what it was asked for, and every test passed.
    Passed,
    /// A test failed, or something could not be done.
    Failed,
    /// The arguments make no sense. Where that is seen without a card, clap says so.
    Misused,
    /// There was no card to test, so nothing was tested; that is not a pass.
    NothingTested,
    /// A broker leaves its programs to the one that is started next.
    LeftToAnother,
    /// What the program ended with that it ran for its user.
    OfProgram(u8),
}

impl Status {
    /// What scripts see.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Misused => 2,
            Self::NothingTested => 3,
            Self::LeftToAnother => jitney_broker::LEFT_TO_ANOTHER,
            Self::OfProgram(status) => status,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.number())
    }
}

/// Arguments that make no sense for the card that they are about.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}
