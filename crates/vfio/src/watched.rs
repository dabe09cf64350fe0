//! A descriptor that tasks wait for, of any executor.

use crate::error::{Error, Result};
use async_io::Async;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

/// A second descriptor of something that can be polled, registered with the reactor when the first task waits for it.
#[derive(Debug, Default)]
pub struct Watched(OnceLock<Async<OwnedFd>>);

impl Watched {
    /// Waits until `source`, which is always the same, is readable.
    ///
    /// # Errors
    /// What the reactor says.
    pub async fn readable(&self, source: impl AsFd) -> Result<()> {
        self.registered(source).map_err(failed)?.readable().await.map_err(failed)
    }

    fn registered(&self, source: impl AsFd) -> io::Result<&Async<OwnedFd>> {
        if let Some(registered) = self.0.get() {
            return Ok(registered);
        }
        // Its status flags are everybody's, and stay as they are.
        let registered = Async::new_nonblocking(source.as_fd().try_clone_to_owned()?)?;
        Ok(self.0.get_or_init(|| registered))
    }
}

fn failed(error: io::Error) -> Error {
    let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
    Error::from_errno(errno, "waiting for a descriptor of a card")
}
