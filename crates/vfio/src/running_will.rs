//! Carries out wills, a step at a time: a will that waits does not hold up what else is to be done on the card.

use crate::error::{Error, ErrorKind, Result};
use crate::opened::OpenedCard;
use crate::will::{Will, WillStep};
use std::collections::VecDeque;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What all ones in a register mean: there is no card that answers, or one that is all ones.
const NO_ANSWER: u32 = u32::MAX;

/// How long to sleep between two looks at what a will waits for.
const PAUSE: Duration = Duration::from_millis(1);

/// Wills that are being carried out: those of one holder of leases on one card.
#[derive(Debug)]
pub struct RunningWill {
    steps: VecDeque<WillStep>,
    /// When what is waited for now has to have come.
    until: Option<Instant>,
    /// When all waits end.
    end: Instant,
    failure: Option<Error>,
}

/// How many steps are taken at a time: others who use the card have their turn in between.
const AT_ONCE: usize = 32;

/// What came of going on with a will.
#[derive(Debug)]
pub enum WillProgress {
    /// It waits for a register, or has taken many steps and has more.
    Waits,
    /// It has ended, with the first failure if there was one. If there was none, the card has all that was written.
    Ended(Result<()>),
}

impl RunningWill {
    /// However many leases a client has had, its wills together wait no longer than one may.
    #[must_use]
    pub fn new(wills: impl IntoIterator<Item = Will>) -> Self {
        Self {
            steps: wills.into_iter().flat_map(|will| will.0).collect(),
            until: None,
            end: Instant::now() + Will::MAX_WAIT,
            failure: None,
        }
    }

    /// Goes on until there is something to wait for, or others should have their turn. Every step is tried, also if one before it failed, as long as the card
    /// can be reached at all.
    pub fn step(&mut self, card: &OpenedCard) -> WillProgress {
        for taken in 0.. {
            let Some(step) = self.steps.front().copied() else { break };
            if taken == AT_ONCE {
                return WillProgress::Waits;
            }
            let done = match step {
                WillStep::Write { bar, offset, value } => card.write_register(bar, offset, value),
                WillStep::WaitUntil { bar, offset, mask, value, within_ms } => {
                    let within = Duration::from_millis(within_ms.into());
                    let until = *self.until.get_or_insert_with(|| (Instant::now() + within).min(self.end));
                    match self.has_come(card, (bar, offset), mask, value) {
                        Ok(false) if Instant::now() < until => return WillProgress::Waits,
                        Ok(false) => Err(Error::new(
                            ErrorKind::TimedOut,
                            format!(
                                "{offset:#x} of BAR {bar} of card {} did not come to be {value:#x} (of {mask:#x})",
                                card.identity()
                            ),
                        )),
                        outcome => outcome.map(|_| ()),
                    }
                }
            };
            self.until = None;
            self.steps.pop_front();
            if let Err(error) = done {
                if matches!(error.kind(), ErrorKind::LinkDown | ErrorKind::Disconnected) {
                    self.steps.clear();
                }
                self.failure.get_or_insert(error);
            }
        }
        WillProgress::Ended(match self.failure.take() {
            Some(error) => Err(error),
            None => flush(card),
        })
    }

    /// Goes on to the end, which comes within [`Will::MAX_WAIT`] if the card answers.
    ///
    /// # Errors
    /// The first failure.
    pub fn finish(mut self, card: &OpenedCard) -> Result<()> {
        loop {
            match self.step(card) {
                WillProgress::Waits => sleep(PAUSE),
                WillProgress::Ended(outcome) => return outcome,
            }
        }
    }

    fn has_come(&self, card: &OpenedCard, (bar, offset): (u8, u64), mask: u32, value: u32) -> Result<bool> {
        let found = card.read_register(bar, offset)?;
        // Also a card that is gone for a moment only says nothing about its engines.
        if found == NO_ANSWER && !card.link_is_up()? {
            return Ok(false);
        }
        Ok(found & mask == value)
    }
}

/// Waits until writes have reached the card: they are posted, and no read of the same card's overtakes them (PCIe Base
/// Specification, section 2.4).
fn flush(card: &OpenedCard) -> Result<()> {
    match card.link_is_up()? {
        true => Ok(()),
        false => {
            let what = format!("card {} does not answer after its will was carried out", card.identity());
            Err(Error::new(ErrorKind::LinkDown, what))
        }
    }
}
