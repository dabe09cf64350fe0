//! The card that a program means: by its board, its serial number, its FPGA's number, or what the program itself says.

use jitney_boards::designs;
use jitney_boards::dna::DnaNumber;
use jitney_boards::{Board, Catalogue, identify_in, ids};
use jitney_broker::Bus;
use jitney_vfio::{Card, Error, ErrorKind, Identity, Result, SerialNumber};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Looks for a card of `bus`. Every condition that is added has to hold.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bus = jitney::Bus::alone(&[])?;
/// let card = jitney::find(&bus).board("nitefury").one();
/// let same = jitney::find(&bus).serial("00-00-00-01-01-00-0a-35".parse()?).one();
/// let wide = jitney::find(&bus).matching(|card| card.bars()[2].size > 1 << 20).all();
/// # assert!(card.is_err() && same.is_err() && wide?.is_empty());
/// # Ok(())
/// # }
/// ```
///
/// What a card is called, and its numbers, it has to say itself, so cards that could be meant are opened, and closed again if
/// they were not.
#[must_use]
pub fn find(bus: &Bus) -> Find<'_> {
    Find {
        bus,
        selector: None,
        board: None,
        serial: None,
        dna: None,
        conditions: Vec::new(),
        catalogue: None,
    }
}

/// A card that is looked for, made by [`find`].
#[derive(Clone)]
pub struct Find<'a> {
    bus: &'a Bus,
    selector: Option<String>,
    board: Option<String>,
    serial: Option<SerialNumber>,
    dna: Option<DnaNumber>,
    conditions: Vec<Condition<'a>>,
    catalogue: Option<&'a Catalogue>,
}

type Condition<'a> = Arc<dyn Fn(&Arc<dyn Card>) -> bool + 'a>;

impl fmt::Debug for Find<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Find({self})")
    }
}

/// What is looked for, as errors have it; nothing if any card will do.
impl fmt::Display for Find<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            self.selector.as_ref().map(|selector| format!("{selector:?}")),
            self.board.as_ref().map(|name| format!("board {name:?}")),
            self.serial.map(|serial| format!("serial number {serial}")),
            self.dna.map(|number| format!("DNA {number}")),
            (!self.conditions.is_empty()).then(|| "what the program asks for".to_owned()),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        f.write_str(&words.join(", "))
    }
}

impl<'a> Find<'a> {
    /// The one that a person means, as on the command line of `jitney`: by its address (`0000:2e:00.0`, `vfio-user:/run/…`),
    /// `vendor:device` in hexadecimal, the name of its board or design, `serial:00-00-00-01-01-00-0a-35`,
    /// `dna:4002000000000001000000ab`, or `*` for any. `board:NAME` is a board, whatever it is called.
    pub fn named(mut self, selector: impl Into<String>) -> Self {
        self.selector = Some(selector.into());
        self
    }

    /// A board of this name, in upper or lower case; the name of a design, an alias, or a variant will do.
    pub fn board(mut self, name: impl Into<String>) -> Self {
        self.board = Some(name.into());
        self
    }

    /// With this [serial number](Card::serial_number). Cards with the same FPGA design mostly share it.
    pub fn serial(mut self, serial: SerialNumber) -> Self {
        self.serial = Some(serial);
        self
    }

    /// With an FPGA of this number, which is its own. The design has to show it: [`Board::dna_numbers`].
    pub fn dna(mut self, number: DnaNumber) -> Self {
        self.dna = Some(number);
        self
    }

    /// One of which this is true. It is asked last.
    pub fn matching(mut self, condition: impl Fn(&Arc<dyn Card>) -> bool + 'a) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Boards are those of this catalogue, instead of the built-in ones and the user's files.
    pub fn catalogue(mut self, catalogue: &'a Catalogue) -> Self {
        self.catalogue = Some(catalogue);
        self
    }

    /// The one card that fits. Of another that could be meant, too, and cannot be opened or does not answer, nobody knows whether it is: then
    /// none is taken, unless it was asked for an FPGA's own number. Which card a name means does not depend on which cards are well.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none, or more than one: the message names them. What opening one says that could be meant;
    /// [`ErrorKind::Invalid`] for a number that is none, and a boards file that is wrong.
    pub fn one(&self) -> Result<Arc<dyn Card>> {
        let wanted = self.wanted()?;
        if wanted.is_by_identity() {
            // Who it is decides, and no other is opened.
            let fitting: Vec<Identity> = wanted.identities.iter().map(|card| (*card).clone()).collect();
            return match &fitting[..] {
                [card] => self.bus.card(&card.address),
                [] => Err(self.none(Vec::new())),
                several => Err(self.several(several.iter())),
            };
        }
        let Fitting { mut cards, unanswered } = wanted.fitting(self.bus);
        match cards.len() {
            0 => Err(self.none(unanswered)),
            1 if unanswered.is_empty() || !wanted.numbers.is_empty() => Ok(cards.remove(0)),
            1 => Err(self.uncertain(cards[0].identity(), &unanswered)),
            _ => Err(self.several(cards.iter().map(|card| card.identity()))),
        }
    }

    /// All cards that fit, in the order of [`Bus::cards`]. That there is none is no error.
    ///
    /// # Errors
    /// What a card says that may fit and cannot be opened or asked, if no other fits; [`ErrorKind::Invalid`] as for [`one`](Self::one).
    pub fn all(&self) -> Result<Vec<Arc<dyn Card>>> {
        let Fitting { cards, unanswered } = self.wanted()?.fitting(self.bus);
        if cards.is_empty() && !unanswered.is_empty() {
            return Err(self.none(unanswered));
        }
        Ok(cards)
    }

    fn none(&self, mut unanswered: Vec<Error>) -> Error {
        let there = self.bus.cards();
        if there.is_empty() {
            // It says what can be done about that.
            return match self.bus.card("*") {
                Err(error) => error,
                Ok(_) => Error::new(ErrorKind::NotFound, format!("no card fits {self}")),
            };
        }
        match unanswered.len() {
            0 => {
                let what = format!("no card fits {self}; there is {}", list(&there));
                let remedy = "jitney list shows which boards they are, jitney info their numbers";
                Error::new(ErrorKind::NotFound, what).with_remedy(remedy)
            }
            1 => unanswered.remove(0),
            _ => {
                let what = format!("no card that answers fits {self}: {}", all(&unanswered));
                Error::new(unanswered[0].kind(), what)
            }
        }
    }

    fn uncertain(&self, fitting: &Identity, unanswered: &[Error]) -> Error {
        let why = all(unanswered);
        let what = format!("{fitting} fits {self}, and so may others that cannot be asked: {why}");
        Error::new(unanswered[0].kind(), what).with_remedy("name one by its address")
    }

    fn several<'b>(&self, fitting: impl Iterator<Item = &'b Identity>) -> Error {
        let fitting: Vec<&Identity> = fitting.collect();
        let (count, words, cards) = (fitting.len(), self.to_string(), list(fitting.iter().copied()));
        let (what, remedy) = match &words[..] {
            "" => (format!("there are {count} cards: {cards}"), "name one by its address or board"),
            _ => (format!("{count} cards fit {words}: {cards}"), "name one by its address"),
        };
        Error::new(ErrorKind::NotFound, what).with_remedy(remedy)
    }

    /// What is to be looked at, of which cards.
    fn wanted(&self) -> Result<Wanted<'_>> {
        let cards = self.bus.cards();
        let invalid = |error: &dyn fmt::Display| Error::new(ErrorKind::Invalid, error.to_string());
        let mut boards: Vec<&str> = self.board.as_deref().into_iter().collect();
        let mut serials: Vec<SerialNumber> = self.serial.into_iter().collect();
        let mut numbers: Vec<DnaNumber> = self.dna.into_iter().collect();
        let mut identities = cards;
        if let Some(selector) = &self.selector {
            match selector.split_once(':') {
                Some(("serial", number)) => serials.push(number.parse().map_err(|error| invalid(&error))?),
                Some(("dna", number)) => numbers.push(number.parse().map_err(|error| invalid(&error))?),
                Some(("board", name)) => boards.push(name),
                _ if identities.iter().any(|card| card.matches(selector)) => {
                    identities.retain(|card| card.matches(selector));
                }
                _ => boards.push(selector),
            }
        }
        let catalogue = match self.catalogue {
            _ if boards.is_empty() && numbers.is_empty() => None,
            Some(catalogue) => Some(Cow::Borrowed(catalogue)),
            None => Some(Cow::Owned(Catalogue::load().map_err(|error: designs::Error| invalid(&error))?)),
        };
        if let Some(catalogue) = &catalogue {
            identities.retain(|card| {
                let is_possible =
                    |name: &&str| catalogue.candidates(ids(card)).any(|design| design.may_be_called(name));
                boards.iter().all(is_possible)
            });
        }
        Ok(Wanted { identities, boards, serials, numbers, conditions: &self.conditions, catalogue })
    }
}

/// Conditions, and the cards of which they may be true.
struct Wanted<'a> {
    identities: Vec<Identity>,
    boards: Vec<&'a str>,
    serials: Vec<SerialNumber>,
    numbers: Vec<DnaNumber>,
    conditions: &'a [Condition<'a>],
    /// If a board has to be known.
    catalogue: Option<Cow<'a, Catalogue>>,
}

/// The cards that fit, and what those said that cannot be opened or asked.
struct Fitting {
    cards: Vec<Arc<dyn Card>>,
    unanswered: Vec<Error>,
}

impl Wanted<'_> {
    /// Whether no card has to be asked.
    fn is_by_identity(&self) -> bool {
        self.catalogue.is_none() && self.serials.is_empty() && self.conditions.is_empty()
    }

    fn fitting(&self, bus: &Bus) -> Fitting {
        let mut found = Fitting { cards: Vec::new(), unanswered: Vec::new() };
        for identity in &self.identities {
            let card = bus.card(&identity.address);
            match card.and_then(|card| Ok(self.fits(&card)?.then_some(card))) {
                Ok(card) => found.cards.extend(card),
                Err(error) => found.unanswered.push(error),
            }
        }
        found
    }

    fn fits(&self, card: &Arc<dyn Card>) -> Result<bool> {
        if !self.serials.is_empty() {
            let own = card.serial_number()?;
            if self.serials.iter().any(|serial| Some(*serial) != own) {
                return Ok(false);
            }
        }
        if let Some(catalogue) = &self.catalogue {
            let Some(board) = board(catalogue, card)? else { return Ok(false) };
            if !self.boards.iter().all(|name| board.is_called(name)) {
                return Ok(false);
            }
            if !self.numbers.is_empty() {
                let own = board.dna_numbers().map_err(of_card)?;
                if !self.numbers.iter().all(|number| own.contains(number)) {
                    return Ok(false);
                }
            }
        }
        Ok(self.conditions.iter().all(|condition| condition(card)))
    }
}

/// Which board a card is, if it is a known one.
fn board(catalogue: &Catalogue, card: &Arc<dyn Card>) -> Result<Option<Board>> {
    match identify_in(catalogue, card) {
        Ok(board) => Ok(Some(board)),
        Err(jitney_boards::Error::UnknownBoard { .. }) => Ok(None),
        Err(error) => Err(of_card(error)),
    }
}

/// A failure of a board as one of its card.
fn of_card(error: jitney_boards::Error) -> Error {
    use jitney_boards::Error as Board;
    match error {
        Board::Card(error) => error,
        Board::Xdma(jitney_xdma::Error::Card(error) | jitney_xdma::Error::LinkDown(error)) => error,
        Board::Catalogue(error) => Error::new(ErrorKind::Invalid, error.to_string()),
        other => Error::new(ErrorKind::Unsupported, other.to_string()),
    }
}

fn all(errors: &[Error]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn list<'a>(cards: impl IntoIterator<Item = &'a Identity>) -> String {
    cards.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
