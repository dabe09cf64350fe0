//! What of a board is the user's own: models that take the place of those of the crate, or stand where it has none.

use crate::axi::{AxiTarget, Peripheral};
use crate::stream::{StreamSink, StreamSource};
use std::sync::Arc;

/// Parts of the user's own.
#[derive(Clone, Default)]
pub(super) struct Own {
    /// By the name of the peripheral, as it was given.
    pub(super) peripherals: Vec<(Arc<str>, Arc<dyn Peripheral>)>,
    pub(super) targets: Vec<Target>,
    /// By the number of the channel.
    pub(super) sinks: Vec<(u8, Arc<dyn StreamSink>)>,
    pub(super) sources: Vec<(u8, Arc<dyn StreamSource>)>,
}

/// Something at addresses that the DMA reaches.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) name: Arc<str>,
    pub(super) base: u64,
    pub(super) size: u64,
    pub(super) target: Arc<dyn AxiTarget>,
}
