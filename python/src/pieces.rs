//! What a transfer moves: DMA memory in one piece, or in several.

use crate::failure::Failure;
use crate::memory::{Array, Bytes};
use jitney::xdma::{self, Channel, Pending, Piece};
use jitney_faces::{Kind, SharedCard};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use std::sync::Arc;

/// What a program wants moved in one transfer.
pub(crate) enum Data {
    /// DMA memory, of one piece or several.
    Pieces(Vec<Piece>),
    /// Anything else: it is copied.
    Other(Array),
}

impl Data {
    /// A buffer, an array, or anything else with the buffer protocol; or a list or tuple of pieces of DMA memory, which lie one
    /// behind the other in the card's memory, but for those that come as a pair with an address of their own.
    pub(crate) fn of(
        object: &Bound<'_, PyAny>,
        card: &Arc<SharedCard>,
        at: u64,
        written: bool,
    ) -> PyResult<Self> {
        if !object.is_instance_of::<PyList>() && !object.is_instance_of::<PyTuple>() {
            return Ok(match Bytes::of(object, card, written)? {
                Bytes::Dma(buffer, range) => Self::Pieces(vec![Piece::new(&buffer, range, at)]),
                Bytes::Other(array) => Self::Other(array),
            });
        }
        let (mut pieces, mut next) = (Vec::new(), Some(at));
        for item in object.try_iter()? {
            let item = item?;
            let (own, address) = match item.cast::<PyTuple>() {
                Ok(pair) => {
                    let (own, address): (Bound<'_, PyAny>, u64) = pair.extract()?;
                    (own, Some(address))
                }
                Err(_) => (item, next),
            };
            let Bytes::Dma(buffer, range) = Bytes::of(&own, card, written)? else { return Err(needs_dma()) };
            let address = address.ok_or_else(|| too_far("a transfer"))?;
            next = address.checked_add(range.end - range.start);
            pieces.push(Piece::new(&buffer, range, address));
        }
        if pieces.is_empty() {
            return Err(Failure::invalid("there are no pieces to move").into());
        }
        Ok(Self::Pieces(pieces))
    }

    /// The pieces, if all of it is DMA memory.
    pub(crate) fn in_place(self) -> PyResult<Vec<Piece>> {
        match self {
            Self::Pieces(pieces) => Ok(pieces),
            Self::Other(_) => Err(needs_dma()),
        }
    }
}

/// Starts one transfer of all pieces.
pub(crate) fn start<D>(channel: &Channel<D>, pieces: Vec<Piece>) -> Result<Pending, xdma::Error> {
    match &pieces[..] {
        // Without a list in the driver.
        [own] => channel.submit(&own.buffer, own.range.clone(), own.card_address),
        _ => channel.submit_pieces(pieces),
    }
}

/// The one piece that a packet is received into.
pub(crate) fn single(pieces: Vec<Piece>, channel: &str) -> PyResult<Piece> {
    let count = pieces.len();
    <[Piece; 1]>::try_from(pieces).map(|[own]| own).map_err(|_| {
        let what = format!("{channel} receives into one piece at a time, not into {count}");
        Failure::new(Kind::Unsupported, what).into()
    })
}

/// What is not in DMA memory cannot be moved while the program goes on.
fn needs_dma() -> PyErr {
    let what = "only DMA memory is moved in several pieces, or while the program goes on, and this is none";
    Failure::invalid(what).remedy("use a buffer of the card's buffer(), or an array of one").into()
}

pub(crate) fn too_far(name: &str) -> PyErr {
    Failure::new(Kind::OutOfBounds, format!("{name}: the transfer would end behind address 2^64")).into()
}
