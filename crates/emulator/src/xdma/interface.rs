//! What is on the card's side of a core's channels.

use crate::axi::AxiTarget;
use crate::stream::{StreamSink, StreamSource};
use jitney_xdma_spec::Direction;
use std::sync::Arc;

/// The card's side of all channels of a core (PG195, "DMA Interface Option").
#[derive(Clone)]
pub enum Interface {
    /// One AXI4 master for all of them.
    MemoryMapped {
        /// Channels from host to card, at most 4.
        h2c: u8,
        /// Channels from card to host, at most 4.
        c2h: u8,
        /// What the master reaches.
        target: Arc<dyn AxiTarget>,
    },
    /// An AXI4-Stream for each, at most 4 each way.
    Stream {
        /// Where the packets of each H2C channel go.
        h2c: Vec<Arc<dyn StreamSink>>,
        /// Where those of each C2H channel come from.
        c2h: Vec<Arc<dyn StreamSource>>,
    },
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [h2c, c2h] = Direction::ALL.map(|direction| self.channels(direction));
        let kind = if self.is_stream() { "stream" } else { "memory mapped" };
        write!(f, "{kind}, {h2c} H2C, {c2h} C2H")
    }
}

impl Interface {
    /// How many channels there are in a direction.
    #[must_use]
    pub fn channels(&self, direction: Direction) -> usize {
        match (self, direction) {
            (Self::MemoryMapped { h2c, .. }, Direction::HostToCard) => (*h2c).into(),
            (Self::MemoryMapped { c2h, .. }, Direction::CardToHost) => (*c2h).into(),
            (Self::Stream { h2c, .. }, Direction::HostToCard) => h2c.len(),
            (Self::Stream { c2h, .. }, Direction::CardToHost) => c2h.len(),
        }
    }

    /// Whether the channels have streams.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// What each channel of a direction moves data to or from.
    pub(super) fn ports(&self, direction: Direction) -> Vec<Port> {
        match (self, direction) {
            (Self::MemoryMapped { target, .. }, _) => {
                vec![Port::Memory(Arc::clone(target)); self.channels(direction)]
            }
            (Self::Stream { h2c, .. }, Direction::HostToCard) => {
                h2c.iter().cloned().map(Port::Sink).collect()
            }
            (Self::Stream { c2h, .. }, Direction::CardToHost) => {
                c2h.iter().cloned().map(Port::Source).collect()
            }
        }
    }

    /// The card's reset, which the core passes on.
    pub(super) fn reset(&self) {
        match self {
            Self::MemoryMapped { target, .. } => target.reset(),
            Self::Stream { h2c, c2h } => {
                h2c.iter().for_each(|sink| sink.reset());
                c2h.iter().for_each(|source| source.reset());
            }
        }
    }
}

/// What one channel moves data to or from.
#[derive(Clone)]
pub(super) enum Port {
    /// Memory and other targets, either way.
    Memory(Arc<dyn AxiTarget>),
    /// The other end of an H2C stream.
    Sink(Arc<dyn StreamSink>),
    /// The other end of a C2H stream.
    Source(Arc<dyn StreamSource>),
}

impl Port {
    pub(super) fn is_stream(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }
}
