//! `jitney dump`: the registers of a BAR or of what is in one, with their names.

use super::places::{Place, Places, Span, must_answer};
use crate::args::OneCard;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::{print_line, print_result};
use crate::size;
use crate::size::human;
use crate::status::{Misuse, Status};
use clap::Args;
use jitney_vfio::Region;
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = with_places!(
    "Examples:\n  \
     jitney dump 10ee:7011 0 --from 0x3200 --bytes 0x100\n  \
     jitney dump 10ee:7011 xdma --bytes 0x100\n\n\
     A line has 16 bytes; lines equal to the one above are left out, with a *. Registers that are known to change when they \
     are read, as the FIFO of a quad-spi, are not read: they are shown as dashes."
);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// A BAR's number, or the name of what is in one.
    #[arg(value_name = "BAR|NAME")]
    pub(crate) place: Place,
    /// Where to begin, in bytes from the start of the BAR or of what was named.
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = size::parse)]
    pub(crate) from: u64,
    /// How many bytes, instead of all that there are.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_length)]
    pub(crate) bytes: Option<u64>,
}

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    bar: usize,
    /// Offset of the first register, in bytes from the start of the BAR.
    from: u64,
    /// One register after the other; null where one was left alone because reading it changes something.
    words: Vec<Word>,
    names: Vec<RegisterName>,
}

/// What something in a BAR is called.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RegisterName {
    /// Where it begins, in bytes from the start of the BAR.
    offset: u64,
    name: String,
}

/// Bytes in a line.
const LINE: usize = 16;
/// The most bytes that are shown of what nobody said how much of: reading a BAR of card memory takes minutes.
const MOST: u64 = 1 << 20;

pub(crate) fn dump(args: &Dump, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    let places = Places::of(&card, &args.card)?;
    let span = places.span(&args.place)?.part(args.from, args.bytes)?;
    let length = span.end - span.start;
    if args.bytes.is_none() && length > MOST && !matches!(args.place, Place::Named(_)) {
        let whole = human(length);
        return Err(
            Misuse(format!("BAR {} has {whole} from there on; say how much with --bytes", span.bar)).into()
        );
    }
    let region = card.bar(span.bar)?;
    if !json {
        print_line(&format!("{}, {:#x} to {:#x}:", region.name(), span.start, span.end));
    }
    let shown = Shown { places: &places, region: &region, span: &span };
    let (words, names) = shown.read(!json)?;
    if json {
        let names = names.into_iter().map(|(offset, name)| RegisterName { offset, name }).collect();
        let card = CardName::of(&*card);
        print_result(&Outcome { card, bar: span.bar, from: span.start, words: words.clone(), names })?;
    }
    if let Some(index) = words.iter().rposition(|word| *word == Some(u32::MAX)) {
        must_answer(&*card, &region, span.start + 4 * index as u64)?;
    }
    Ok(Status::Passed)
}

/// What is shown.
struct Shown<'a> {
    places: &'a Places,
    region: &'a Region,
    span: &'a Span,
}

/// A register's value, or nothing where it is left alone.
type Word = Option<u32>;
/// What something is called, and its offset.
type Name = (u64, String);

impl Shown<'_> {
    /// Reads all, and prints each line once it is read, so that whoever reads the first few need not wait for the rest.
    fn read(&self, print: bool) -> anyhow::Result<(Vec<Word>, Vec<Name>)> {
        let (bar, start) = (self.span.bar, self.span.start);
        let (mut words, mut names) = (Vec::new(), Vec::new());
        let mut last: Option<Vec<Word>> = None;
        let mut left_out = false;
        for line in (start..self.span.end).step_by(LINE) {
            let registers: Vec<u64> = (line..self.span.end).step_by(4).take(LINE / 4).collect();
            let read = registers.iter().map(|offset| self.word(*offset)).collect::<Result<Vec<Word>, _>>()?;
            let name = |offset: &u64| Some((*offset, self.places.name_at(bar, *offset, *offset == start)?));
            let own: Vec<Name> = registers.iter().filter_map(name).collect();
            let same = own.is_empty() && last.as_ref() == Some(&read);
            if print && !same {
                print_line(&format_line(line, &read, &own));
            } else if print && !left_out {
                print_line("*");
            }
            left_out = same;
            words.extend(&read);
            names.extend(own);
            last = Some(read);
        }
        if print {
            print_line(&format!("{:06x}", self.span.end));
        }
        Ok((words, names))
    }

    fn word(&self, offset: u64) -> jitney_vfio::Result<Word> {
        let alone = self.places.changes_when_read(self.span.bar, offset);
        (!alone).then(|| self.region.read32(offset)).transpose()
    }
}

/// `001000  00000000 00000000 00000000 00000000  axi-gpio1`
fn format_line(offset: u64, words: &[Word], names: &[Name]) -> String {
    let word = |word: &Word| word.map_or_else(|| "--------".to_owned(), |word| format!("{word:08x}"));
    let words: Vec<String> = words.iter().map(word).collect();
    let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
    format!("{offset:06x}  {:35}  {}", words.join(" "), names.join(" ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_words_and_names() {
        let words = [Some(1), Some(u32::MAX), None];
        assert_eq!(format_line(0x1000, &words, &[]), "001000  00000001 ffffffff --------");
        assert_eq!(
            format_line(0x40, &[Some(0); 4], &[(0x40, "a".into()), (0x44, "b".into())]),
            "000040  00000000 00000000 00000000 00000000  a b"
        );
    }
}
