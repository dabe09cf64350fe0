//! What is wrong with a boards file, where, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// The result of reading boards files.
pub type Result<T> = std::result::Result<T, Error>;

/// A boards file that cannot be used.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A boards file or folder cannot be read.
    #[error("{}: {source}{remedy}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
        /// What to do about it; may be empty.
        remedy: &'static str,
    },

    /// A boards file is wrong.
    #[error("{}:{line}: {key}{message}", path.display(), key = prefix(key))]
    Catalogue {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which key, as `design[0].peripherals[2].offset`; empty if the file is no TOML at that place.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}
