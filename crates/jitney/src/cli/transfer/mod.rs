//! Files and pipes to and from cards.

mod in_flight;
pub(crate) mod load;
mod memory_range;
mod output;
pub(crate) mod save;
