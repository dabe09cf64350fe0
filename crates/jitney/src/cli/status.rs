//! Exit statuses.

use std::process::ExitCode;

/// How a command ended. The numbers are what scripts rely on; the help text lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It did what it was asked for, and every test passed.
    Passed = 0,
    /// A test failed, or something could not be done.
    Failed = 1,
    // 2 is clap's: the arguments make no sense.
    /// There was no card to test, so nothing was tested; that is not a pass.
    NothingTested = 3,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}
