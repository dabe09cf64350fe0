//! What boards achieve.

pub(crate) mod blkram;

use crate::cli::status::Status;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Time {
    /// Many transfers of a block RAM's whole size each way, each verified.
    Blkram(blkram::Blkram),
}

pub(crate) fn time(time: &Time, json: bool) -> anyhow::Result<Status> {
    match time {
        Time::Blkram(blkram) => blkram::blkram(blkram, json),
    }
}
