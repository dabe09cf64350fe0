//! What boards achieve.

pub(crate) mod blkram;
pub(crate) mod dma;
pub(crate) mod latency;
pub(crate) mod link;
pub(crate) mod pio;
mod plot;
mod table;

use crate::status::Status;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Time {
    /// How fast each channel is, by the size of transfers and how many are under way.
    Dma(dma::DmaArgs),
    /// How long transfers take one at a time, up to the slowest in 100000.
    Latency(latency::Latency),
    /// How long single accesses to registers take.
    Pio(pio::Pio),
    /// Many transfers of a block RAM's whole size each way, each verified.
    #[command(after_help = "Examples:\n  jitney time blkram --emulate tef1001-dma-blkram --transfers 1000")]
    Blkram(blkram::Blkram),
}

pub(crate) fn time(time: &Time, json: bool) -> anyhow::Result<Status> {
    match time {
        Time::Dma(args) => dma::dma(args, json),
        Time::Latency(args) => latency::latency(args, json),
        Time::Pio(args) => pio::pio(args, json),
        Time::Blkram(args) => blkram::blkram(args, json),
    }
}
