//! Which card, or which shared buffer, a program means.

use crate::failure::{Failure, Kind};
use crate::shared::SharedBus;
use jitney::boards::{self, Catalogue};
use jitney::broker::{Offered, Token};
use jitney::vfio::Card;
use std::sync::Arc;

/// Opens the card that `selector` means: an address, `vendor:device`, or the name of a board or design; without one the only card.
///
/// # Errors
/// [`Kind::NotFound`] if there is none or more than one; what opening it says.
pub fn choose(bus: &SharedBus, selector: Option<&str>) -> Result<Arc<dyn Card>, Failure> {
    let bus = bus.slot.get()?;
    let cards = bus.cards();
    let list = || cards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let Some(selector) = selector else {
        return match &cards[..] {
            // That there is none says what can be done about it.
            [] | [_] => Ok(bus.card("*")?),
            _ => {
                let what = format!("there are {} cards: {}", cards.len(), list());
                Err(Failure::new(Kind::NotFound, what).with_remedy("name one by its address or board"))
            }
        };
    };
    let by_id = cards.iter().any(|card| card.matches(selector));
    let catalogue = Catalogue::load().map_err(boards::Error::from)?;
    let meant = |name: &str| name.eq_ignore_ascii_case(selector);
    let mut fitting = Vec::new();
    for card in cards.iter().filter(|_| !by_id) {
        let candidates = catalogue.candidates(boards::ids(card));
        let named = candidates.filter(|design| meant(&design.board) || design.names().any(meant)).count();
        if named == 0 {
            continue;
        }
        // Which of those with the same ids it is, the card has to say.
        let opened = bus.card(&card.address)?;
        let Ok(board) = boards::identify_in(&catalogue, &opened) else { continue };
        let design = board.design();
        if meant(board.name()) || meant(&design.name) || design.aliases.iter().any(|name| meant(name)) {
            fitting.push(opened);
        }
    }
    match fitting.len() {
        0 => Ok(bus.card(selector)?),
        1 => Ok(fitting.remove(0)),
        count => {
            let names: Vec<String> = fitting.iter().map(|card| card.identity().to_string()).collect();
            let what = format!("{selector:?} means {count} cards: {}", names.join(", "));
            Err(Failure::new(Kind::NotFound, what).with_remedy("name one by its address"))
        }
    }
}

/// What a program offers or wants, by a token or a name.
///
/// # Errors
/// [`Kind::Invalid`] if it is not one of both, or no token.
pub fn offered(name: Option<&str>, token: Option<&str>) -> Result<Offered, Failure> {
    match (name, token) {
        (Some(name), None) => Ok(name.into()),
        (None, Some(token)) => Ok((&token.parse::<Token>()?).into()),
        _ => Err(Failure::invalid("a shared buffer has a name or a token; give one of them")),
    }
}
