//! Which card, or which shared buffer, a program means.

use crate::failure::Failure;
use crate::shared::SharedBus;
use jitney::broker::{Offered, Token};
use jitney::vfio::Card;
use jitney::{Find, find};
use std::sync::Arc;

/// Opens the card for which all is true that `conditions` add; if they add none, the only card.
///
/// # Errors
/// As [`Find::one`].
pub fn choose(
    bus: &SharedBus,
    conditions: impl for<'a> FnOnce(Find<'a>) -> Find<'a>,
) -> Result<Arc<dyn Card>, Failure> {
    let bus = bus.slot.get()?;
    Ok(conditions(find(&bus)).one()?)
}

/// What a program offers or wants, by a token or a name.
///
/// # Errors
/// [`Kind::Invalid`](crate::Kind::Invalid) if it is not one of both, or no token.
pub fn offered(name: Option<&str>, token: Option<&str>) -> Result<Offered, Failure> {
    match (name, token) {
        (Some(name), None) => Ok(name.into()),
        (None, Some(token)) => Ok((&token.parse::<Token>()?).into()),
        _ => Err(Failure::invalid("a shared buffer has a name or a token; give one of them")),
    }
}
