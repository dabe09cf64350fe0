//! The boards that can be emulated: what is on each, put together from the crate's models.

mod board;
mod design;
mod memmapped;
mod nitefury_ddr3;
mod options;
mod project0;
mod tef1001;
#[cfg(test)]
mod tests;

use crate::nearest::nearest;
pub use board::Board;
pub use options::{BoardError, BoardOptions};

use design::Design;

/// A board that can be emulated.
#[derive(Debug)]
pub struct Model {
    /// What [`Board::new`] and the command know it by.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What is on it and which options it takes, in a few lines.
    pub info: &'static str,
    build: fn(design::Request<'_>) -> Result<Design, BoardError>,
}

const MODELS: [Model; 5] =
    [project0::NITEFURY, project0::LITEFURY, tef1001::DMA_BLKRAM, nitefury_ddr3::DMA_DDR3, memmapped::BLKRAM];

/// All boards that can be emulated.
#[must_use]
pub fn models() -> &'static [Model] {
    &MODELS
}

/// The names of all boards that can be emulated.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|model| model.name)
}

/// The board of this name.
///
/// # Errors
/// [`BoardError::Unknown`], which says what name is most like it.
pub fn find(name: &str) -> Result<&'static Model, BoardError> {
    MODELS
        .iter()
        .find(|model| model.name == name)
        .ok_or_else(|| BoardError::Unknown { given: name.to_owned(), nearest: nearest(name, names()) })
}
