//! Files and pipes to and from cards.

pub(crate) mod capture;
mod ending;
mod in_flight;
mod input;
pub(crate) mod load;
mod memory_range;
pub(crate) mod output;
pub(crate) mod play;
pub(crate) mod save;
mod shared;
mod stream_channel;
pub(crate) mod tap;
