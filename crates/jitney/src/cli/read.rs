//! `jitney read`: registers, by number or by name.

use super::args::Read;
use super::cards::Session;
use super::places::{Place, must_answer, span};
use super::report::print_line;
use super::status::{Misuse, Status};
use serde_json::json;

pub(crate) fn read(args: &Read, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    if let Place::Bar(bar) = args.place {
        return Err(Misuse(format!("{bar} is a BAR: write which register of it, as {bar}:0x0")).into());
    }
    let bytes = args.count.saturating_mul(4);
    let span = span(&card, &args.card, &args.place)?.part(0, Some(bytes))?;
    let region = card.bar(span.bar)?;
    let values = span.registers().map(|offset| region.read32(offset)).collect::<Result<Vec<_>, _>>()?;
    if json {
        let (card, bar, offset) = (card.identity(), span.bar, span.start);
        print_line(&json!({ "card": card, "bar": bar, "offset": offset, "values": values }).to_string());
    } else {
        for (offset, value) in span.registers().zip(&values) {
            let place = if values.len() > 1 { format!("{offset:#07x}  ") } else { String::new() };
            print_line(&format!("{place}{value:#010x}"));
        }
    }
    if let Some((offset, _)) = span.registers().zip(values).find(|(_, value)| *value == u32::MAX) {
        must_answer(&*card, &region, offset)?;
        eprintln!(
            "jitney: all-ones, but the card is there: the register holds that, or there is none at {offset:#x}"
        );
    }
    Ok(Status::Passed)
}
