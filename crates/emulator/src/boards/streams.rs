//! What is behind the streams of a design.

use super::card::Card;
use super::info;
use super::own::Own;
use crate::axi::Peripheral;
use crate::stream::{Crc64, Discard, Fifo, FixedData, StreamSink, StreamSource, Switch};
use crate::xdma::Interface;
use jitney_designs::{Design, Kind, Stream};
use std::sync::Arc;

/// What the designs with fixed data deliver here. Theirs is constant, too; which data it is nobody wrote down.
const FIXED: [u8; 16] =
    [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01];

/// The ports behind a core with streams, and the switch that the host sees, with its number among the peripherals.
pub(super) struct Streams {
    h2c: Vec<Arc<dyn StreamSink>>,
    c2h: Vec<Arc<dyn StreamSource>>,
    switch: Option<(usize, Arc<dyn Peripheral>)>,
}

impl Streams {
    /// Those of `card`, some of which may be the user's own.
    pub(super) fn new(design: &Design, card: &Card, own: &Own) -> Self {
        let mut streams = Self::built_in(design, card);
        for (channel, sink) in &own.sinks {
            if let Some(port) = streams.h2c.get_mut(usize::from(*channel)) {
                *port = Arc::clone(sink);
            }
        }
        for (channel, source) in &own.sources {
            if let Some(port) = streams.c2h.get_mut(usize::from(*channel)) {
                *port = Arc::clone(source);
            }
        }
        streams
    }

    fn built_in(design: &Design, card: &Card) -> Self {
        let [sinks, sources] = card.channels.map(usize::from);
        let switch = info::present(design, card).find(|(_, own)| own.kind == Kind::StreamSwitch);
        if let Some((number, peripheral)) = switch {
            let ports = usize::from(peripheral.ports);
            let switch = Switch::new(ports.max(sinks), ports.max(sources));
            let (mut h2c, mut c2h) = (switch.slaves(), switch.masters());
            h2c.truncate(sinks);
            c2h.truncate(sources);
            return Self { h2c, c2h, switch: Some((number, Arc::new(switch))) };
        }
        match design.dma.and_then(|dma| dma.stream).unwrap_or(Stream::Loopback) {
            Stream::Loopback => Self::joined(sinks, sources, |sink| sink),
            Stream::Crossed => Self::joined(sinks, sources, |sink| sink ^ 1),
            Stream::Crc64 => {
                let crcs = || Arc::new(Crc64::new(card.data_width));
                let crcs: Vec<_> = (0..sinks.max(sources)).map(|_| crcs()).collect();
                let h2c = crcs.iter().take(sinks).map(|crc| Arc::clone(crc) as _).collect();
                let c2h = crcs.iter().take(sources).map(|crc| Arc::clone(crc) as _).collect();
                Self { h2c, c2h, switch: None }
            }
            Stream::FixedData => Self::apart(sinks, sources, || Arc::new(FixedData::new(&FIXED, None))),
            // Nobody fills the FIFO.
            Stream::None => Self::apart(sinks, sources, || Arc::new(Fifo::default())),
        }
    }

    /// H2C swallows everything, C2H has sources of its own.
    fn apart(sinks: usize, sources: usize, source: impl Fn() -> Arc<dyn StreamSource>) -> Self {
        let h2c = (0..sinks).map(|_| Arc::new(Discard) as _).collect();
        Self { h2c, c2h: (0..sources).map(|_| source()).collect(), switch: None }
    }

    /// H2C channel n goes to C2H channel `to(n)`. One whose other end the card does not have stalls, and the other
    /// end is silent.
    fn joined(sinks: usize, sources: usize, to: impl Fn(usize) -> usize) -> Self {
        let fifos: Vec<_> = (0..sources).map(|_| Arc::new(Fifo::default())).collect();
        let sink = |channel| match fifos.get(to(channel)) {
            Some(fifo) => Arc::clone(fifo) as _,
            None => Arc::new(Fifo::default()) as _,
        };
        let h2c = (0..sinks).map(sink).collect();
        let c2h = fifos.iter().map(|fifo| Arc::clone(fifo) as _).collect();
        Self { h2c, c2h, switch: None }
    }

    /// The switch, if peripheral `number` is it.
    pub(super) fn switch(&self, number: usize) -> Option<&Arc<dyn Peripheral>> {
        self.switch.as_ref().filter(|(own, _)| *own == number).map(|(_, switch)| switch)
    }

    /// The card's side of the core.
    pub(super) fn interface(&self) -> Interface {
        Interface::Stream { h2c: self.h2c.clone(), c2h: self.c2h.clone() }
    }
}
