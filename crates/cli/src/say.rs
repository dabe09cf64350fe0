//! What is said on standard error and standard output. That nobody reads it stops nothing: the macros of the standard library
//! panic then, so that this command has these instead, and clippy (`print_stderr`, `print_stdout`) keeps the others out.

use std::fmt::Arguments;
use std::io::{self, Write};

/// A line on standard error, written as with `format!`.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::say::line(format_args!($($words)*))
    };
}

pub(crate) use say;

/// A line on standard error. Use [`say!`].
pub(crate) fn line(words: Arguments<'_>) {
    // In one piece, so that it stays whole beside what others write there. Nobody is left to be told that it failed.
    let _ = io::stderr().write_all(format!("{words}\n").as_bytes());
}

/// Bytes on standard output, all of which have been written when it returns.
pub(crate) fn to_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Standard error for a log, which takes what nobody reads for written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // As above.
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
