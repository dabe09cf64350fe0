//! Tests of boards.

pub(crate) mod ddr;
pub(crate) mod general;

use crate::cli::status::Status;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Identify each NiteFury and LiteFury and read its sensors.
    General(general::General),
    /// Write all of a card's memory by DMA, read it back, compare every word.
    Ddr(ddr::Ddr),
}

pub(crate) fn test(test: &Test, json: bool) -> anyhow::Result<Status> {
    match test {
        Test::General(general) => general::general(general, json),
        Test::Ddr(ddr) => ddr::ddr(ddr, json),
    }
}
