//! Registers by number, and by the names of what is on a card.

use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::known_board;
use crate::nearest::nearest;
use crate::size;
use crate::status::Misuse;
use jitney_boards::designs::names_of;
use jitney_boards::{Kind, Peripheral};
use jitney_pci::header::{self, Command};
use jitney_vfio::{Card, ErrorKind, LeaseRequest, Part, Region};
use jitney_xdma::{Xdma, register_names};
use std::str::FromStr;
use std::sync::Arc;

/// A register or where several begin, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// `2`
    Bar(usize),
    /// `2:0x40`
    At(usize, u64),
    /// `xadc`, `xadc+0x200`, `xdma:h2c0.control`. What of it is the name, the card decides.
    Named(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        if let Some(bar) = number(text) {
            return Ok(Self::Bar(bar));
        }
        match text.split_once(':').and_then(|(bar, offset)| Some((number(bar)?, offset))) {
            Some((bar, offset)) => Ok(Self::At(bar, size::parse(offset)?)),
            None if text.is_empty() => Err("write BAR:OFFSET as 2:0x40, or a name as xadc+0x200".into()),
            None => Ok(Self::Named(text.to_owned())),
        }
    }
}

/// Registers one after the other in a BAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) bar: usize,
    /// Where they begin, in bytes from the start of the BAR.
    pub(crate) start: u64,
    /// Where the BAR ends, or what was named.
    pub(crate) end: u64,
    /// What ends there.
    within: String,
}

impl Span {
    fn of_bar(card: &dyn Card, bar: usize, start: u64) -> Result<Self, Misuse> {
        let size = card.bars().get(bar).map_or(0, |bar| bar.size);
        if size == 0 {
            let there = card.bars().iter().enumerate().filter(|(_, bar)| bar.size > 0);
            let there: Vec<String> = there.map(|(index, _)| index.to_string()).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(Misuse(format!("card {} has no BAR {bar}; its BARs are: {there}", card.identity())));
        }
        Ok(Self { bar, start, end: size, within: format!("BAR {bar}") })
    }

    /// The part of it of `bytes` from `from` on, if all of that is in it and whole registers.
    pub(crate) fn part(&self, from: u64, bytes: Option<u64>) -> Result<Self, Misuse> {
        let start = self.start.saturating_add(from);
        let end = bytes.map_or(self.end, |bytes| start.saturating_add(bytes));
        let (bar, within) = (self.bar, &self.within);
        for (what, number) in [("offset", start), ("length", bytes.unwrap_or(0))] {
            if !number.is_multiple_of(4) {
                return Err(Misuse(format!(
                    "{what} {number:#x} is no multiple of 4: registers of BAR {bar} have 32 bits"
                )));
            }
        }
        if start >= self.end || end > self.end {
            return Err(Misuse(format!(
                "offsets {start:#x} to {end:#x} of BAR {bar} are not all in {within}, which ends at {:#x}",
                self.end
            )));
        }
        Ok(Self { start, end, ..self.clone() })
    }

    /// The offset of each register.
    pub(crate) fn registers(&self) -> impl Iterator<Item = u64> + use<> {
        (self.start..self.end).step_by(4)
    }
}

/// What is on a card, and where.
#[derive(Debug)]
pub(crate) struct Places {
    card: Arc<dyn Card>,
    peripherals: Vec<Named>,
    xdma: Option<XdmaNames>,
    is_known: bool,
}

#[derive(Debug)]
struct XdmaNames {
    bar: usize,
    /// Name and offset in the BAR, in the order of the offsets.
    registers: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Named {
    /// What it is called here: the name in the boards file, else its kind, with a number if there are several.
    name: String,
    /// Its kind and its number among those of its kind.
    number: (Kind, usize),
    what: Peripheral,
}

impl Places {
    /// What is on `card`. A card that is no known board may still have an XDMA.
    pub(crate) fn of(card: &Arc<dyn Card>, wanted: &OneCard) -> anyhow::Result<Self> {
        let board = known_board(&catalogue(&wanted.source.emulate)?, card)?;
        let peripherals = board.as_ref().map(|board| named(board.summary().peripherals)).unwrap_or_default();
        let names = |xdma: Xdma| XdmaNames { bar: xdma.bar(), registers: xdma.registers() };
        let xdma = jitney_boards::probe(card)?.map(names);
        Ok(Self { card: Arc::clone(card), peripherals, xdma, is_known: board.is_some() })
    }

    /// Where `place` is.
    pub(crate) fn span(&self, place: &Place) -> Result<Span, Misuse> {
        match place {
            Place::Bar(bar) => Span::of_bar(&*self.card, *bar, 0),
            Place::At(bar, offset) => Span::of_bar(&*self.card, *bar, *offset),
            Place::Named(text) => self.named(text),
        }
    }

    /// A name, or a name and an offset; a name may have a `+` in it.
    fn named(&self, text: &str) -> Result<Span, Misuse> {
        if let Some(span) = self.find(text)? {
            return Ok(span);
        }
        let Some((name, offset)) = text.rsplit_once('+') else { return Err(self.unknown(text)) };
        let span = self.find(name)?.ok_or_else(|| self.unknown(name))?;
        let offset = size::parse(offset).map_err(Misuse)?;
        Ok(Span { start: span.start.saturating_add(offset), ..span })
    }

    fn find(&self, name: &str) -> Result<Option<Span>, Misuse> {
        if let Some(xdma) = &self.xdma {
            let register = name.strip_prefix("xdma:");
            let register = register.and_then(|name| xdma.registers.iter().find(|(own, _)| own == name));
            if name == "xdma" || register.is_some() {
                return Span::of_bar(&*self.card, xdma.bar, register.map_or(0, |(_, offset)| *offset))
                    .map(Some);
            }
        }
        let by_name = self.peripherals.iter().find(|own| own.name == name);
        let found = by_name.or_else(|| self.peripherals.iter().find(|own| own.is_also(name)));
        let Some(Named { name, what, .. }) = found else { return Ok(None) };
        let bar = Span::of_bar(&*self.card, what.bar.into(), what.offset)?;
        let end = what.offset.saturating_add(what.size).min(bar.end);
        Ok(Some(Span { end, within: name.clone(), ..bar }))
    }

    fn unknown(&self, name: &str) -> Misuse {
        let peripherals = self.peripherals.iter().map(|own| own.name.as_str());
        let there: Vec<&str> = peripherals.chain(self.xdma.as_ref().map(|_| "xdma")).collect();
        let registers =
            self.xdma.iter().flat_map(|xdma| &xdma.registers).map(|(name, _)| format!("xdma:{name}"));
        let registers: Vec<String> = registers.collect();
        let meant = nearest(name, there.iter().copied().chain(registers.iter().map(String::as_str)));
        let meant = meant.map(|meant| format!(" (did you mean {meant:?}?)")).unwrap_or_default();
        let card = self.card.identity();
        let there = match (there.is_empty(), self.is_known) {
            (true, _) => "nothing with a name; write BAR:OFFSET as 2:0x40".to_owned(),
            (false, true) => there.join(", "),
            (false, false) => format!("{}; the rest of it no boards file describes", there.join(", ")),
        };
        Misuse(format!("there is no {name:?} on {card}{meant}; there is {there}"))
    }

    fn at(&self, bar: usize, offset: u64) -> Option<&Named> {
        let bar = u8::try_from(bar).ok()?;
        self.peripherals.iter().find(|own| own.what.contains(bar, offset))
    }

    fn is_xdma(&self, bar: usize) -> bool {
        self.xdma.as_ref().is_some_and(|xdma| xdma.bar == bar)
    }

    /// What begins at the register at `offset` of BAR `bar`; if it is the `first` that is shown, also what it is in.
    pub(crate) fn name_at(&self, bar: usize, offset: u64, first: bool) -> Option<String> {
        if let Some(xdma) = self.xdma.as_ref().filter(|xdma| xdma.bar == bar) {
            return xdma.registers.iter().find(|(_, own)| *own == offset).map(|(name, _)| name.clone());
        }
        let own = self.at(bar, offset)?;
        match offset - own.what.offset {
            0 => Some(own.name.clone()),
            within => first.then(|| format!("{}+{within:#x}", own.name)),
        }
    }

    /// Whether it is known that reading the register at `offset` of BAR `bar` changes something.
    pub(crate) fn changes_when_read(&self, bar: usize, offset: u64) -> bool {
        if self.is_xdma(bar) {
            return register_names::changes_when_read(offset);
        }
        let Some(own) = self.at(bar, offset) else { return false };
        let within = offset - own.what.offset;
        match own.what.kind {
            // Receive FIFOs: PG153, PG090 and PG142, "Register Space". The status of the last loses its errors, too.
            Kind::QuadSpi => within == 0x6c,
            Kind::Iic => within == 0x10c,
            Kind::Uart => within == 0x0 || within == 0x8,
            _ => false,
        }
    }

    /// What nobody else may have while the register at `offset` of BAR `bar` is written: the part that the drivers lease,
    /// where one does.
    pub(crate) fn lease(&self, bar: usize, offset: u64) -> jitney_vfio::Result<LeaseRequest> {
        let part = match self.at(bar, offset) {
            // What all channels share stops or changes each of them.
            _ if self.is_xdma(bar) => match register_names::channel_at(offset) {
                Some(channel) => channel.parse()?,
                None => Part::whole(),
            },
            // The first of a kind is leased by its kind's name, as the stream switch's driver has it.
            Some(Named { number: (kind, 0), .. }) => kind.to_string().parse()?,
            Some(Named { number: (kind, number), .. }) => format!("{kind}{number}").parse()?,
            None => format!("bar{bar}").parse()?,
        };
        Ok(LeaseRequest::exclusive(part))
    }
}

impl Named {
    /// Whether `name` means it, too: by its kind and number, with or without the bus that it is on.
    fn is_also(&self, name: &str) -> bool {
        let (kind, number) = (self.number.0.to_string(), self.number.1);
        let short = kind.strip_prefix("axi-").unwrap_or(&kind);
        [&*kind, short]
            .into_iter()
            .any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest == number.to_string()))
    }
}

/// Each with what it is called.
fn named(peripherals: Vec<&Peripheral>) -> Vec<Named> {
    let names = names_of(&peripherals);
    let number = |(index, (name, what)): (usize, (String, &&Peripheral))| {
        let number = peripherals[..index].iter().filter(|other| other.kind == what.kind).count();
        Named { name, number: (what.kind, number), what: (*what).clone() }
    };
    names.into_iter().zip(&peripherals).enumerate().map(number).collect()
}

/// Where `place` is on `card`, without asking what the card is if it is not needed.
pub(crate) fn span(card: &Arc<dyn Card>, wanted: &OneCard, place: &Place) -> anyhow::Result<Span> {
    match place {
        Place::Bar(bar) => Ok(Span::of_bar(&**card, *bar, 0)?),
        Place::At(bar, offset) => Ok(Span::of_bar(&**card, *bar, *offset)?),
        Place::Named(_) => Ok(Places::of(card, wanted)?.span(place)?),
    }
}

/// Fails if the card does not answer, after `offset` of `region` read as all-ones. A register may hold that, so configuration
/// space is asked: whether anybody is there, and whether the BARs are switched on.
pub(crate) fn must_answer(card: &dyn Card, region: &Region, offset: u64) -> anyhow::Result<()> {
    let command = card.config()?.read16(header::COMMAND.into())?;
    let why = if command == u16::MAX {
        "its link is down or the card was reset"
    } else if !Command::from(command).memory_space() {
        "its memory decoding is off, as after a reset"
    } else {
        return Ok(());
    };
    let what = format!("{} reads as all-ones at {offset:#x}: {why}", region.name());
    Err(jitney_vfio::Error::new(ErrorKind::LinkDown, what).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_boards::Catalogue;

    #[test]
    fn a_place_is_a_bar_an_offset_or_a_name() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("2"), Ok(Place::Bar(2)));
        assert_eq!(place("2:0x40"), Ok(Place::At(2, 0x40)));
        assert_eq!(place("0:64"), Ok(Place::At(0, 64)));
        for name in ["xadc", "xadc+0x200", "xdma:h2c0.control", "-1", "2x:4"] {
            assert_eq!(place(name), Ok(Place::Named(name.into())));
        }
        for nonsense in ["", "2:", "2:x", "2:-4"] {
            assert!(place(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn peripherals_of_one_kind_have_numbers() {
        let catalogue = Catalogue::built_in();
        let design = catalogue.design("nitefury").unwrap();
        let named = named(design.peripherals.iter().collect());
        let names: Vec<&str> = named.iter().map(|own| own.name.as_str()).collect();
        assert_eq!(names, ["axi-gpio0", "axi-gpio1", "axi-gpio2", "xadc", "quad-spi"]);
        assert!(named[2].is_also("gpio2") && named[3].is_also("xadc0") && !named[0].is_also("gpio"));
    }

    #[test]
    fn a_part_of_a_span_is_whole_registers_within_it() {
        let span = Span { bar: 0, start: 0x1000, end: 0x2000, within: "xadc".into() };
        assert_eq!(span.part(4, Some(8)).unwrap().registers().collect::<Vec<_>>(), [0x1004, 0x1008]);
        assert_eq!(span.part(0xffc, None).unwrap().registers().count(), 1);
        for (from, bytes) in
            [(2, Some(4)), (0, Some(6)), (0x1000, None), (0, Some(0x1004)), (u64::MAX - 3, Some(4))]
        {
            assert!(span.part(from, bytes).is_err(), "{from:#x} {bytes:?}");
        }
    }
}
