//! Boards: any design of a catalogue, put together from the crate's models.
//!
//! A [`Board`] is what is to be emulated, a [`PluggedBoard`] a card of it in a host. From the design's file come the
//! BARs and what is in them, the ids, the memories, the streams and the interrupts; what the card cannot do, the
//! emulated one cannot do either, unless [`BoardOptions`] ask for it. A peripheral without a model holds plain
//! registers, and the board says so ([`Board::info`], and once in the log).

mod assembly;
mod bar;
mod board;
mod card;
mod info;
mod models;
#[cfg(test)]
mod mutations;
mod options;
mod own;
mod plugged;
mod streams;
#[cfg(test)]
mod tests;

pub use board::Board;
pub use options::{BoardError, BoardOptions};
pub use plugged::PluggedBoard;
