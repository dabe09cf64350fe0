//! `jitney capture --share`: a stream into memory that other programs read.

use super::capture::{EndsAfter, Event, LOOK};
use crate::cli::cards::Session;
use crate::cli::rates::Moved;
use crate::cli::report::{print_event, print_line};
use crate::cli::signals::StopFlag;
use anyhow::Context;
use jitney_broker::Offer;
use jitney_ring::{Published, Receiving, Shape};
use jitney_vfio::Card;
use jitney_xdma::C2h;
use std::sync::Arc;
use std::time::Instant;

/// Receives and shares until it is enough; says how much that was, and in how many packets.
pub(super) fn share(
    session: &Session,
    card: &Arc<dyn Card>,
    channel: C2h,
    (name, blocks, block): (&str, u32, u64),
    end: &EndsAfter,
    (stop, json): (&StopFlag, bool),
) -> anyhow::Result<(Moved, u64)> {
    let shape = Shape::new(blocks, u32::try_from(block).unwrap_or(u32::MAX))?;
    let buffer = card.dma_buffer(shape.request().below(channel.limits().top()))?;
    let mut stream = Receiving::start(channel, &buffer, shape)?;
    session.bus.share(&buffer, Offer::to_readers().named(name))?;
    if json {
        print_event(&Event::Sharing { name })?;
    } else {
        print_line(&format!("sharing {name}: jitney tap {name}"));
    }
    let started = Instant::now();
    let mut last = started;
    loop {
        let Published { bytes, packets, .. } = stream.published();
        let enough =
            end.bytes.is_some_and(|most| bytes >= most) || end.packets.is_some_and(|most| packets >= most);
        if enough || stop.is_set() || end.is_due(started, last) {
            return Ok((Moved::in_time((bytes, started.elapsed())), packets));
        }
        let count = stream.publish(LOOK).with_context(|| format!("after {bytes} bytes"))?;
        if count > 0 {
            last = Instant::now();
        }
    }
}
