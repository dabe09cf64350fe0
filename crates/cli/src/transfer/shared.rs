//! `jitney capture --share`: a stream into memory that other programs read.

use super::capture::{Event, Outcome, Source};
use super::ending::LOOK;
use crate::cards::Session;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::report::{Report, print_event};
use crate::status::Status;
use anyhow::Context;
use jitney_broker::Offer;
use jitney_ring::{Receiving, Shape};
use std::time::Instant;

/// Receives, and shares by this name, until it is enough.
pub(super) fn share(session: &Session, name: &str, source: Source<'_>) -> anyhow::Result<Status> {
    let (args, channel) = (source.args, source.open()?);
    let shape = Shape::new(args.blocks, u32::try_from(args.block).unwrap_or(u32::MAX))?;
    let buffer = source.card.dma_buffer(shape.request().below(channel.limits().top()))?;
    let mut stream = Receiving::start(channel, &buffer, shape)?;
    session.bus.share(&buffer, Offer::to_readers().named(name))?;
    let mut report = Report::new(source.json);
    if source.json {
        print_event(&Event::Sharing { name })?;
    }
    report.line(format!("sharing {name}: jitney tap {name}"));
    let mut progress = Progress::new(&mut report, "sharing", args.end.bytes);
    let captured = run(&source, &mut stream, &mut progress);
    let done = progress.end();
    captured.with_context(|| format!("after {} bytes", done.0))?;
    let (moved, packets) = (Moved::in_time(done), stream.published().packets);
    let (card, channel) = (source.card.identity(), source.channel);
    report.line(format!("captured {moved} in {packets} packets from {channel} of {card} for {name}"));
    let (card, shared) = (CardName::from(card), Some(name.to_owned()));
    report.finish(&Outcome { card, channel, file: None, shared, moved, packets, lost_blocks: 0 })?;
    Ok(Status::Passed)
}

fn run(source: &Source<'_>, stream: &mut Receiving, progress: &mut Progress<'_>) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut last = started;
    while !source.has_enough(progress.done(), stream.published().packets)
        && !source.stop.is_set()
        && !source.args.end.is_due(started, last)
    {
        let published = stream.publish(LOOK);
        progress.advance(stream.published().bytes - progress.done());
        if published? > 0 {
            last = Instant::now();
        }
    }
    Ok(())
}
