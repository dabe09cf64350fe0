//! What there is to know about a channel.

use crate::plan::Limits;
use jitney_xdma_spec::{Alignments, Direction};
use std::fmt;

/// What there is to know about a channel. Displayed as its name: `h2c0`, `c2h1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Which way it moves data.
    pub direction: Direction,
    /// Its number, from 0 in each direction.
    pub index: u8,
    /// It has an AXI4-Stream on the card's side, not memory-mapped AXI4.
    pub stream: bool,
    /// What it asks of addresses and lengths.
    pub alignments: Alignments,
    /// Version of the IP: 6 for 4.x.
    pub version: u8,
    /// Its bit in the IRQ block, and the vector that it interrupts by if it is not told otherwise and there are as many: H2C
    /// channels from 0 on, C2H channels directly after the last of them.
    pub interrupt: u8,
}

impl fmt::Display for ChannelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.direction, self.index)
    }
}

impl ChannelInfo {
    /// What its descriptors may be.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits::of(self.alignments)
    }
}
