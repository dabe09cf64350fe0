//! What the system says of files, with the errno's name.

use jitney_memory::Explained;
use rustix::io::Errno;
use std::io;

/// `ENOSPC (No space left on device)`, or what `error` says that has no errno.
pub(crate) fn explained(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(errno) => Explained(errno).to_string(),
        None => error.to_string(),
    }
}
