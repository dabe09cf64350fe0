//! The writes by which the kernel is told to bind and unbind.

use std::io;
use std::path::Path;

/// What tells the kernel; tests imitate what it then does.
pub(super) trait Writes {
    /// Writes `text` to a file of sysfs, in one call.
    fn write(&self, file: &Path, text: &str) -> io::Result<()>;
}

/// The kernel of this machine.
#[derive(Debug)]
pub(super) struct Kernel;

impl Writes for Kernel {
    fn write(&self, file: &Path, text: &str) -> io::Result<()> {
        // Opened without O_CREAT: a file that is not there is an error, not a new file.
        let mut file = std::fs::OpenOptions::new().write(true).open(file)?;
        io::Write::write_all(&mut file, text.as_bytes())
    }
}
