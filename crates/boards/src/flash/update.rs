//! Writing an image to a flash: what is there already is left alone, and a half-written one starts no FPGA.

use super::{Flash, FlashError};
use crate::error::{Error, Result};
use std::fmt;
use std::ops::Range;

/// What an erased byte reads.
const ERASED: u8 = 0xff;
/// What is read before the next look whether to go on.
const PIECE: usize = 4096;

/// An image that is to be in a flash, from an offset on.
///
/// The image's first sector, which has the word that an FPGA looks for, is erased before any other is changed and written when
/// all others are right, its first page last. So an FPGA that looks meanwhile finds either the old image, untouched, or none, or
/// the whole new one. A sector that is right already is not touched, so that writing again goes on where it was stopped.
#[derive(Debug)]
pub struct Update<'a> {
    flash: &'a Flash,
    image: &'a [u8],
    offset: u64,
    state: State,
}

/// What is being done, for who shows progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Reading what is there.
    Comparing,
    /// Erasing a sector.
    Erasing,
    /// Programming.
    Programming,
    /// Reading what was programmed.
    Verifying,
}

/// A piece of work that is done, before which a stop is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What comes next.
    pub doing: Doing,
    /// Bytes of the image that are right now since the last time, whether they were already or were written.
    pub bytes: u64,
}

/// What an update came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Sectors that the image touches.
    pub sectors: u64,
    /// Those that were right already.
    pub equal: u64,
    /// Those that were erased.
    pub erased: u64,
    /// Those that were programmed, and read back.
    pub written: u64,
}

/// In which state a flash is when an update has not come to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The image's place, in the flash.
    pub image: Range<u64>,
    /// How far the image's sectors are right, but for the first.
    pub right: Range<u64>,
    /// The first sector, if it was erased and not yet written.
    pub first: Option<Range<u64>>,
    /// The sector that was being changed: what it holds was not read back.
    pub open: Option<Range<u64>>,
}

/// An update that has not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("{}; {state}", cause.as_ref().map_or_else(|| "it was told to stop".to_owned(), ToString::to_string))]
pub struct Stopped {
    /// What went wrong; nothing if it was told to stop.
    pub cause: Option<Box<Error>>,
    /// What the flash holds.
    pub state: State,
}

/// Where a flash holds something else than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// How many bytes differ.
    pub bytes: u64,
    /// The first of them, in the flash.
    pub first: u64,
    /// What it should be.
    pub expected: u8,
    /// What it is.
    pub read: u8,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.image;
        if self.first.is_none() && self.open.is_none() {
            return write!(f, "nothing in {start:#x} to {end:#x} of the flash was changed");
        }
        write!(f, "of {start:#x} to {end:#x} of the flash, ")?;
        if !self.right.is_empty() {
            write!(f, "{:#x} to {:#x} holds the new image, ", self.right.start, self.right.end)?;
        }
        if let Some(Range { start, end }) = &self.open {
            write!(f, "{start:#x} to {end:#x} is erased or written in part, ")?;
        }
        if let Some(Range { start, end }) =
            self.first.as_ref().filter(|first| self.open.as_ref() != Some(first))
        {
            write!(f, "{start:#x} to {end:#x} is erased, ")?;
        }
        let rest = self.right.end.max(self.open.as_ref().map_or(0, |open| open.end));
        if rest < end {
            write!(f, "{rest:#x} to {end:#x} is as it was, ")?;
        }
        f.write_str(
            "so that no FPGA starts from it: do not switch the card off, and write it again, which goes on from there",
        )
    }
}

impl<'a> Update<'a> {
    /// `image` at `offset` of `flash`. Nothing is changed yet.
    ///
    /// # Errors
    /// [`FlashError::Range`] if it does not fit, [`FlashError::Unaligned`] if the offset is none of a sector,
    /// [`FlashError::Protected`] if blocks of the flash are protected.
    pub fn new(flash: &'a Flash, image: &'a [u8], offset: u64) -> Result<Self> {
        flash.check(offset, image.len() as u64)?;
        let sector = flash.part().sector;
        if !offset.is_multiple_of(sector) {
            return Err(FlashError::Unaligned { at: flash.at(), offset, sector }.into());
        }
        match flash.protection()? {
            0 => {}
            bits => return Err(FlashError::Protected { at: flash.at(), bits }.into()),
        }
        let end = offset + image.len() as u64;
        let right = (offset + sector).min(end);
        let state = State { image: offset..end, right: right..right, first: None, open: None };
        Ok(Self { flash, image, offset, state })
    }

    /// Writes what is not there yet. `go_on` hears of progress, and is asked before each piece of work whether to go on.
    ///
    /// # Errors
    /// [`Stopped`], which says what the flash holds then.
    pub fn run(mut self, mut go_on: impl FnMut(Progress) -> bool) -> std::result::Result<Outcome, Stopped> {
        match self.write(&mut go_on) {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(Stopped { cause: None, state: self.state }),
            Err(error) => Err(Stopped { cause: Some(Box::new(error)), state: self.state }),
        }
    }

    /// The outcome, or nothing if it was told to stop.
    fn write(&mut self, go_on: &mut dyn FnMut(Progress) -> bool) -> Result<Option<Outcome>> {
        self.flash.clear_failures()?;
        let size = usize::try_from(self.flash.part().sector).unwrap_or(usize::MAX);
        let mut outcome = Outcome { sectors: self.image.len().div_ceil(size) as u64, ..Outcome::default() };
        let mut sectors = self.image.chunks(size).enumerate();
        let Some((_, first)) = sectors.next() else { return Ok(Some(outcome)) };
        let Some(mut is_first) = self.sector(0, first, go_on)? else { return Ok(None) };
        for (index, wanted) in sectors {
            let Some(sector) = self.sector(index, wanted, go_on)? else { return Ok(None) };
            if sector.is_right() {
                outcome.equal += 1;
            } else {
                if self.state.first.is_none() {
                    if !go_on(Progress { doing: Doing::Erasing, bytes: 0 }) {
                        return Ok(None);
                    }
                    outcome.erased += u64::from(self.open_first(&mut is_first)?);
                }
                if !self.change(&sector, &mut outcome, go_on)? {
                    return Ok(None);
                }
            }
            self.state.right.end = sector.start + wanted.len() as u64;
            if !go_on(Progress { doing: Doing::Comparing, bytes: wanted.len() as u64 }) {
                return Ok(None);
            }
        }
        if is_first.is_right() {
            outcome.equal += 1;
        } else if !self.change(&is_first, &mut outcome, go_on)? {
            return Ok(None);
        }
        // All is done, whatever is answered.
        let _ = go_on(Progress { doing: Doing::Verifying, bytes: first.len() as u64 });
        self.state.first = None;
        Ok(Some(outcome))
    }

    /// What the image has in its sector `index`, and what is there; nothing if it was told to stop.
    fn sector(
        &self,
        index: usize,
        wanted: &'a [u8],
        go_on: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Option<Sector<'a>>> {
        let start = self.offset + index as u64 * self.flash.part().sector;
        let mut now = vec![0; wanted.len()];
        for (piece, at) in now.chunks_mut(PIECE).zip((start..).step_by(PIECE)) {
            if !go_on(Progress { doing: Doing::Comparing, bytes: 0 }) {
                return Ok(None);
            }
            self.flash.read(at, piece)?;
        }
        Ok(Some(Sector { start, now, wanted }))
    }

    /// Where the sector that begins at `start` is.
    fn range(&self, start: u64) -> Range<u64> {
        start..start + self.flash.part().sector
    }

    /// Erases the first sector, so that nothing starts from what is about to change; says whether that was needed.
    fn open_first(&mut self, first: &mut Sector<'_>) -> Result<bool> {
        let blank = first.now.iter().all(|byte| *byte == ERASED);
        let range = self.range(first.start);
        if !blank {
            self.state.open = Some(range.clone());
            self.flash.erase(first.start)?;
            first.now.fill(ERASED);
            self.state.open = None;
        }
        self.state.first = Some(range);
        Ok(!blank)
    }

    /// Makes a sector what it is to be; not if it was told to stop.
    fn change(
        &mut self,
        sector: &Sector<'_>,
        outcome: &mut Outcome,
        go_on: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<bool> {
        let range = self.range(sector.start);
        let mut now = sector.now.clone();
        let mut after = sector.wanted.to_vec();
        // Of the first, what an FPGA looks for goes first.
        let starts = sector.start == self.offset && sector.now.iter().any(|byte| *byte != ERASED);
        if starts || sector.needs_erase() {
            // What lies behind the image's end stays.
            let mut behind =
                vec![0; usize::try_from(self.flash.part().sector).unwrap_or(usize::MAX) - after.len()];
            self.flash.read(sector.start + after.len() as u64, &mut behind)?;
            if behind.iter().any(|byte| *byte != ERASED) {
                after.extend(behind);
            }
            if !go_on(Progress { doing: Doing::Erasing, bytes: 0 }) {
                return Ok(false);
            }
            self.state.open = Some(range.clone());
            self.flash.erase(sector.start)?;
            outcome.erased += 1;
            now = vec![ERASED; after.len()];
        }
        let page = usize::try_from(self.flash.part().page).unwrap_or(256);
        let pages: Vec<(usize, &[u8])> = (0..).step_by(page).zip(after.chunks(page)).collect();
        let changed = pages.into_iter().filter(|(at, page)| now[*at..*at + page.len()] != **page);
        // Backwards: what an FPGA looks for comes last.
        let changed = changed.rev().map(|(at, page)| (sector.start + at as u64, page));
        let open = &mut self.state.open;
        let programmed = self.flash.program(changed, |_| {
            let go_on = go_on(Progress { doing: Doing::Programming, bytes: 0 });
            if go_on {
                *open = Some(range.clone());
            }
            go_on
        })?;
        if !programmed {
            return Ok(false);
        }
        // What is wrong in it leaves it open, what is not read back does so, too.
        for (piece, at) in after.chunks(PIECE).zip((sector.start..).step_by(PIECE)) {
            if !go_on(Progress { doing: Doing::Verifying, bytes: 0 }) {
                return Ok(false);
            }
            let mut read = vec![0; piece.len()];
            self.flash.read(at, &mut read)?;
            let differs = piece.iter().zip(&read).zip(at..).find(|((written, read), _)| written != read);
            if let Some(((written, read), address)) = differs {
                let (at, written, read) = (self.flash.at(), *written, *read);
                return Err(FlashError::Differs { at, address, written, read }.into());
            }
        }
        outcome.written += 1;
        self.state.open = None;
        Ok(true)
    }
}

/// What the image has in a sector, and what is there.
#[derive(Debug)]
struct Sector<'a> {
    start: u64,
    now: Vec<u8>,
    wanted: &'a [u8],
}

impl Sector<'_> {
    fn is_right(&self) -> bool {
        self.now == self.wanted
    }

    /// Programming only clears bits.
    fn needs_erase(&self) -> bool {
        self.now.iter().zip(self.wanted).any(|(now, wanted)| wanted & !now != 0)
    }
}

/// Compares what is in `flash` from `offset` on with `image`; `go_on` hears how many bytes were, and is asked whether to.
///
/// # Errors
/// What [`Flash::read`] answers.
pub fn compare(
    flash: &Flash,
    image: &[u8],
    offset: u64,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Option<Difference>> {
    flash.check(offset, image.len() as u64)?;
    let mut found: Option<Difference> = None;
    for (piece, start) in image.chunks(PIECE).zip((offset..).step_by(PIECE)) {
        let mut read = vec![0; piece.len()];
        flash.read(start, &mut read)?;
        for ((read, expected), address) in read.iter().zip(piece).zip(start..) {
            if read != expected {
                let first = found.get_or_insert(Difference {
                    bytes: 0,
                    first: address,
                    expected: *expected,
                    read: *read,
                });
                first.bytes += 1;
            }
        }
        if !go_on(piece.len() as u64) {
            break;
        }
    }
    Ok(found)
}
