//! What failed files say, and where the machine is that describes itself.

pub use jitney_host::Root;

use rustix::io::Errno;
use std::fmt::Display;
use std::io;

/// A failed operation on a file, with the errno by name.
pub(crate) fn system(what: impl Display, error: &io::Error) -> jitney_vfio::Error {
    match Errno::from_io_error(error) {
        Some(errno) => jitney_vfio::Error::from_errno(errno, what.to_string()),
        None => jitney_vfio::Error::new(jitney_vfio::ErrorKind::System, format!("{what}: {error}")),
    }
}

/// Why something could not be seen: the file, and the errno by name.
pub(crate) fn unseen(file: &str, error: &io::Error) -> String {
    system(format_args!("could not be seen, reading /{file}"), error).to_string()
}
