//! The C library: its header, how it is linked, and how it is installed.

pub(crate) mod header;
pub(crate) mod install;
pub(crate) mod library;
