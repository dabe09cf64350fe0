//! `jitney save`: a card's memory to a file, by DMA.

use super::args::Save;
use super::boards::catalogue;
use super::cards::Session;
use super::channels::from_card;
use super::in_flight::read_all;
use super::memory_range::{must_fit, room};
use super::output::Output;
use super::progress::Progress;
use super::rates::Moved;
use super::report::Report;
use super::status::Status;
use anyhow::Context;
use jitney_boards::identify_in;
use serde::Serialize;

/// What was saved.
#[derive(Debug, Serialize)]
struct Outcome {
    card: String,
    board: String,
    address: u64,
    file: String,
    #[serde(flatten)]
    moved: Moved,
}

pub(crate) fn save(args: &Save, json: bool) -> anyhow::Result<Status> {
    let (address, length) = (args.address, args.length);
    let (_session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    must_fit(&board, address, length, room(&board, address)?)?;
    let channel = from_card(&board.xdma()?, args.dma)?;
    let is_standard = args.file.as_os_str() == "-";
    let mut output = if is_standard { Output::standard()? } else { Output::create(&args.file, args.force)? };
    let mut report = if is_standard { Report::beside_data(json) } else { Report::new(json) };

    let mut progress = Progress::new(&mut report, "saving", Some(length));
    let read = read_all(&*card, &channel, address, length, |bytes| {
        output.write(bytes)?;
        progress.advance(bytes.len() as u64);
        Ok(())
    });
    let done = progress.done();
    read.with_context(|| format!("after {done} of {length} bytes"))?;
    let file = output.name().to_owned();
    output.finish()?;
    let moved = Moved::in_time(progress.end());
    let card = card.identity().to_string();
    report.line(format!(
        "saved {moved} from card address {address:#x} of {} at {card} to {file}",
        board.name()
    ));
    report.finish(&Outcome { card, board: board.name().to_owned(), address, file, moved })?;
    Ok(Status::Passed)
}
