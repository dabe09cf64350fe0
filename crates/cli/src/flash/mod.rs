//! `jitney flash`: a board's configuration flash. `jitney bitstream`: the files for it.

pub(crate) mod bitstream;
mod found;
pub(crate) mod image;
pub(crate) mod info;
mod opened;
pub(crate) mod read;
pub(crate) mod verify;
pub(crate) mod write;

use crate::status::Status;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Flash {
    /// What the flash is, and which bitstream is in it.
    Info(info::Info),
    /// Read the flash, or a part of it, into a file.
    Read(read::Read),
    /// Compare the flash with a file.
    Verify(verify::Verify),
    /// Write a bitstream to the flash: what is there already is left alone, what is written is read back.
    Write(write::Write),
}

pub(crate) fn flash(flash: &Flash, json: bool) -> anyhow::Result<Status> {
    match flash {
        Flash::Info(info) => info::info(info, json),
        Flash::Read(read) => read::read(read, json),
        Flash::Verify(verify) => verify::verify(verify, json),
        Flash::Write(write) => write::write(write, json),
    }
}
