//! Tests of boards.

pub(crate) mod addressing;
pub(crate) mod dma;
mod dma_memory;
mod dma_streams;
pub(crate) mod general;
pub(crate) mod joined;
pub(crate) mod memory;
pub(crate) mod persistence;
pub(crate) mod streams;
pub(crate) mod validate;
mod verdict;

use crate::status::Status;
use clap::Subcommand;
use memory::Which;

#[derive(Debug, Subcommand)]
pub(crate) enum Test {
    /// Identify each NiteFury and LiteFury and read its sensors.
    #[command(after_help = "Examples:\n  jitney test general --emulate nitefury")]
    General(general::General),
    /// Every pair of channels, memory and streams, with lengths and places around every boundary.
    Dma(dma::DmaArgs),
    /// Write all of a card's memory by DMA, read it back, compare every word.
    Memory(memory::MemoryArgs),
    /// The same with DDR and HBM alone.
    Ddr(memory::MemoryArgs),
    /// Whether each place of a memory is a place of its own: address lines, in milliseconds.
    Addressing(addressing::Addressing),
    /// What of a card's memory survives a reset.
    Persistence(persistence::Persistence),
    /// All streams of a board at once, for as long as wanted, with every byte compared.
    Streams(streams::Streams),
}

pub(crate) fn test(test: &Test, json: bool) -> anyhow::Result<Status> {
    match test {
        Test::General(general) => general::general(general, json),
        Test::Dma(args) => dma::dma(args, json),
        Test::Memory(args) => memory::memory(args, Which::All, json),
        Test::Ddr(args) => memory::memory(args, Which::Dram, json),
        Test::Addressing(args) => addressing::addressing(args, json),
        Test::Persistence(args) => persistence::persistence(args, json),
        Test::Streams(args) => streams::streams(args, json),
    }
}
