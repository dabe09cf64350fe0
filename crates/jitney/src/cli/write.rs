//! `jitney write`: a register, by number or by name.

use super::args::Write;
use super::cards::Session;
use super::places::{Place, Places, must_answer};
use super::report::print_line;
use super::status::{Misuse, Status};
use anyhow::bail;
use serde_json::json;

pub(crate) fn write(args: &Write, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    if let Place::Bar(bar) = args.place {
        return Err(Misuse(format!("{bar} is a BAR: write which register of it, as {bar}:0x0")).into());
    }
    let places = Places::of(&card, &args.card)?;
    let span = places.span(&args.place)?.part(0, Some(4))?;
    let (bar, offset, value) = (span.bar, span.start, args.value);
    let lease = card.lease(places.lease(bar, offset)?)?;
    let region = card.bar(bar)?;
    region.write32(offset, value)?;
    let read = args.verify.then(|| region.read32(offset)).transpose()?;
    if json {
        let (card, leased) = (card.identity(), lease.part());
        print_line(
            &json!({ "card": card, "bar": bar, "offset": offset, "leased": leased, "value": value, "read": read })
                .to_string(),
        );
    } else {
        print_line(&format!("wrote {value:#010x} to {offset:#07x} of BAR {bar}"));
    }
    if read == Some(u32::MAX) {
        must_answer(&*card, &region, offset)?;
    }
    match read {
        Some(read) if read != value => bail!(
            "{} reads {read:#010x} at {offset:#x} after {value:#010x} was written: not all bits of it can be written, or \
             something else changes them",
            region.name()
        ),
        _ => Ok(Status::Passed),
    }
}
