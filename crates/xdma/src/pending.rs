//! A transfer under way.

use crate::engine::Engine;
use crate::error::{Error, Failure};
use crate::plan::Plan;
use crate::wait::{Backoff, now};
use jitney_vfio::DmaBuffer;
use jitney_xdma_spec::writeback::Writeback;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How often the registers are read while a transfer lasts: often enough that an error or a dead card is noticed at
/// once for a person, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(50);

/// What a transfer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Bytes moved.
    pub bytes: u64,
    /// Descriptors that they took.
    pub descriptors: u64,
    /// From the start of the engine until its end was seen.
    pub duration: Duration,
}

/// A transfer under way. It keeps the buffer.
///
/// Dropping it stops the engine first and waits until that has happened: as long as the descriptor lasts that the engine is at,
/// at most a second and what the longest descriptor takes at 100 MB/s. A task that must not block has it dropped elsewhere.
#[derive(Debug)]
#[must_use = "dropping it stops the transfer; call wait"]
pub struct Pending<'channel> {
    engine: &'channel mut Engine,
    buffer: DmaBuffer,
    rest: Plan,
    timeout: Duration,
    /// Descriptors of earlier rounds.
    before: u64,
    /// Descriptors of this round.
    round: u64,
    started: Instant,
    looked: Instant,
    /// The completed count when it was last seen to change, and when that was.
    progress: (u32, Instant),
    outcome: Option<Result<Completed, Error>>,
}

impl<'channel> Pending<'channel> {
    /// Starts a transfer.
    pub(crate) fn start(
        engine: &'channel mut Engine,
        buffer: DmaBuffer,
        plan: Plan,
        timeout: Duration,
    ) -> Result<Self, Error> {
        engine.make_ready()?;
        let started = now();
        let mut pending = Self {
            engine,
            buffer,
            rest: plan,
            timeout,
            before: 0,
            round: 0,
            started,
            looked: started,
            progress: (0, started),
            outcome: None,
        };
        pending.run()?;
        Ok(pending)
    }

    /// Looks whether the transfer has ended, and starts the next round of one that takes several. Does not wait, but for
    /// an engine that has to be stopped after a failure, as long as dropping the transfer would.
    ///
    /// A channel that completes by interrupt is looked at when the interrupt has come, and every 50 ms without one.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::TimedOut`] or [`Error::LinkDown`], after the engine was stopped, or [`Error::CutOff`] or
    /// [`Error::Unknown`] if it could not be; the same again if asked again. A card that is being unplugged counts as one whose link is down, so that the program lets go of it.
    pub fn poll(&mut self) -> Result<Option<Completed>, Error> {
        self.attend(Duration::ZERO)
    }

    /// Waits until the transfer has ended.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(mut self) -> Result<Completed, Error> {
        let backoff = Backoff::new();
        loop {
            let left = self.next_look().saturating_duration_since(now());
            if let Some(completed) = self.attend(left)? {
                return Ok(completed);
            }
            if self.event().is_none() {
                backoff.pause();
            }
        }
    }

    /// For an event loop of the caller's own: readable when the channel has interrupted, if it completes by interrupt.
    /// [`poll`](Self::poll) is to be called then, which makes it unreadable again.
    #[must_use]
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.engine.event()
    }

    /// When [`poll`](Self::poll) is to be called at the latest, whether or not there was an [`event`](Self::event): only
    /// by looking does it notice a dead card, a hung engine or a lost interrupt.
    #[must_use]
    pub fn next_look(&self) -> Instant {
        self.looked + LOOK.min(self.timeout)
    }

    /// [`poll`](Self::poll), after it has waited for the interrupt for `patience` at most; if there is none it does not wait.
    fn attend(&mut self, patience: Duration) -> Result<Option<Completed>, Error> {
        if let Some(outcome) = &self.outcome {
            return outcome.clone().map(Some);
        }
        let Some(mut outcome) = self.advance(patience).transpose() else { return Ok(None) };
        if outcome.is_err()
            && let Err(error @ (Error::CutOff(_) | Error::Unknown(_))) = self.engine.release(&self.buffer)
        {
            // It says what was tried, and why.
            outcome = Err(error);
        }
        self.outcome = Some(outcome.clone());
        outcome.map(Some)
    }

    fn run(&mut self) -> Result<(), Error> {
        self.engine.heed_notices()?;
        self.round = self.engine.run(&mut self.rest)?;
        self.looked = now();
        self.progress = (0, self.looked);
        Ok(())
    }

    fn advance(&mut self, patience: Duration) -> Result<Option<Completed>, Error> {
        let interrupted = self.engine.interrupted(patience)?;
        let due = now() >= self.next_look();
        let ended = match interrupted {
            None => self.is_written_back()?,
            Some(interrupted) => (interrupted || due) && self.is_reported(interrupted)?,
        };
        if ended {
            return self.end_round();
        }
        if due {
            self.look()?;
        }
        Ok(None)
    }

    /// Whether the engine has written back that the round has ended. Only the last descriptor is reported, so there is nothing
    /// else that it can say but an error.
    fn is_written_back(&mut self) -> Result<bool, Error> {
        let writeback = self.engine.ring.writeback()?;
        if writeback == Writeback::new() {
            return Ok(false);
        }
        if writeback.error() || u64::from(writeback.count()) != self.round {
            return Err(self.failed(Error::Engine)?);
        }
        Ok(true)
    }

    /// Whether the engine's status says that the round has ended.
    fn is_reported(&mut self, interrupted: bool) -> Result<bool, Error> {
        let status = self.engine.take_status()?;
        if interrupted {
            self.engine.rearm()?;
        }
        if status.has_errors(self.engine.info.direction) {
            return Err(self.failed(Error::Engine)?);
        }
        // Reported is not yet idle.
        let ended = status.descriptor_stopped() && !status.busy();
        if ended && !interrupted {
            let channel = &self.engine.name;
            tracing::warn!(channel, "a transfer had ended without an interrupt: it is late or was lost");
        }
        Ok(ended)
    }

    /// Takes the engine out of a round that has ended; starts the next one if there is any.
    fn end_round(&mut self) -> Result<Option<Completed>, Error> {
        self.engine.end_run()?;
        // A word that was written back has the count in it; a status only says that a descriptor with STOP has ended.
        if self.event().is_some() && u64::from(self.engine.completed()?) != self.round {
            return Err(self.failed(Error::Engine)?);
        }
        if self.rest.descriptors() == 0 {
            return Ok(Some(Completed {
                bytes: self.rest.bytes(),
                descriptors: self.before + self.round,
                duration: self.started.elapsed(),
            }));
        }
        self.before += self.round;
        self.round = 0;
        self.engine.make_ready()?;
        self.run()?;
        Ok(None)
    }

    /// Reads what the engine says of itself, and what was said about its card.
    fn look(&mut self) -> Result<(), Error> {
        self.looked = now();
        self.engine.heed_notices()?;
        if self.engine.status()?.has_errors(self.engine.info.direction) {
            return Err(self.failed(Error::Engine)?);
        }
        let count = self.engine.completed()?;
        // Nothing else is progress: a count that falls or that nobody gave the engine would put the end off for ever.
        if count > self.progress.0 && u64::from(count) <= self.round {
            self.progress = (count, self.looked);
        }
        let after = self.looked - self.progress.1;
        // It may have ended since the word was looked at.
        if after < self.timeout || self.event().is_none() && self.is_written_back()? {
            return Ok(());
        }
        Err(self.failed(|failure| Error::TimedOut { after, failure })?)
    }

    /// Takes down how the transfer stands, stops the engine, and makes an error of it.
    fn failed(&mut self, error: impl FnOnce(Box<Failure>) -> Error) -> Result<Error, Error> {
        let status = self.engine.take_status()?;
        let done = self.before + u64::from(self.engine.completed()?).min(self.round);
        let writeback = self.engine.ring.writeback()?;
        Ok(error(Box::new(Failure {
            channel: self.engine.name.clone(),
            direction: self.engine.info.direction,
            status,
            writeback,
            descriptors_done: done,
            descriptors_started: self.before + self.round,
            last_round: self.round,
            bytes_done: self.rest.bytes_of_first(done),
            bytes: self.rest.bytes(),
            usable: self.engine.recover().is_ok(),
        })))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.outcome.is_none() {
            // What went wrong is logged.
            let _ = self.engine.release(&self.buffer);
        }
    }
}
