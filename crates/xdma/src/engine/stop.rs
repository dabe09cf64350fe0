//! Stopping an engine, and what becomes of the memory that it may be using.
//!
//! Memory goes back when the engine was seen idle, when its card is gone, or when the card's bus mastering is off: never
//! because a register could not be read. The link of a card that is being trained anew, a completion that comes too late and
//! an error that the machine contains all read as all-ones, and the engine goes on behind them.

use super::last_resort::{self, NoDma};
use super::{Engine, State};
use crate::error::Error;
use crate::wait::Backoff;
use jitney_vfio::{DmaBuffer, Lease, Notice};
use jitney_xdma_spec::{ChannelControl, ChannelStatus, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long an engine may take to become idle that has nothing to finish: not long, but its card may be a process that others
/// keep from running.
const STOP: Duration = Duration::from_secs(1);

/// What any link moves: the slowest that a card can be behind, of the first generation and one lane, twice as much.
const SLOWEST_BYTES_PER_MS: u64 = 100_000;

/// How long registers that do not answer are asked again: as long as a host may wait for one answer, and more than a link
/// takes to be trained anew.
const GRACE: Duration = Duration::from_millis(60);

/// What clearing RUN also clears: the last descriptor shall not be reported to memory that may go away.
pub(super) const HALT: ChannelControl = ChannelControl::new().with_run(true).with_poll_mode_writeback(true);

/// How long an engine may take to become idle whose longest descriptor has `longest` bytes: it finishes the one that it is at.
pub(super) fn stop_time(longest: u32) -> Duration {
    STOP + Duration::from_millis(u64::from(longest).div_ceil(SLOWEST_BYTES_PER_MS))
}

impl Engine {
    /// Stops the engine, waits until it is idle and clears its status.
    ///
    /// # Errors
    /// [`Error::StillBusy`]; [`Error::CutOff`] or [`Error::Unknown`] if it cannot be told to stop, or what the access says if
    /// the card is gone.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        let error = match self.halt() {
            Ok(status) => {
                self.state = State::Idle;
                self.held.clear();
                self.logged = status.with_busy(false);
                return Ok(self.channel.write(channel::STATUS, status)?);
            }
            Err(error) => error,
        };
        // Of no memory of this process does an earlier user's engine know.
        if self.state == State::Foreign {
            return Err(error);
        }
        if matches!(error, Error::StillBusy { .. }) && !self.is_wanted_back() {
            self.state = State::Stuck;
            return Err(error);
        }
        match last_resort::end_dma(&*self.card) {
            Ok(NoDma::Gone) => {
                self.state = State::Idle;
                self.held.clear();
                Err(error)
            }
            Ok(NoDma::BusMasterOff) if self.is_wanted_back() => {
                self.state = State::Idle;
                self.held.clear();
                Err(Notice::Leaving.explain(self.card.identity()).into())
            }
            Ok(NoDma::BusMasterOff) => {
                self.state = State::CutOff;
                Err(Error::cut_off(&self.name, &error))
            }
            Err(why) => {
                self.state = State::Stuck;
                Err(Error::unknown(&self.name, &error, &why))
            }
        }
    }

    /// Whether the card is about to go, so that nobody needs its bus mastering any more, and whoever keeps it keeps it from going.
    fn is_wanted_back(&self) -> bool {
        matches!(self.notices.look(), Ok(Some(Notice::Leaving)))
    }

    /// Clears RUN and waits until the engine is idle; returns its status.
    fn halt(&mut self) -> Result<ChannelStatus, Error> {
        let backoff = Backoff::new();
        let limit = stop_time(self.longest);
        // What was written while nothing could be read is lost, without a word: so it is told until two looks on end were answered.
        let (mut told, mut answered, mut unreadable_since) = (false, false, None);
        loop {
            let asked = backoff.elapsed();
            let written = if told { Ok(()) } else { self.tell_to_stop() };
            let answer = written.and_then(|()| self.status());
            let elapsed = backoff.elapsed();
            match answer {
                Err(error) => {
                    answered = false;
                    let since = *unreadable_since.get_or_insert(asked);
                    if elapsed - since > GRACE || elapsed > limit + GRACE {
                        return Err(error);
                    }
                }
                Ok(_) if !answered => {
                    (answered, unreadable_since) = (true, None);
                    continue;
                }
                Ok(status) if !status.busy() => return Ok(status),
                Ok(_) if elapsed <= limit => told = true,
                Ok(status) => {
                    return Err(Error::StillBusy {
                        channel: self.name.clone(),
                        direction: self.info.direction,
                        status,
                        after: elapsed,
                    });
                }
            }
            backoff.pause();
        }
    }

    fn tell_to_stop(&self) -> Result<(), Error> {
        Ok(self.channel.write(channel::CONTROL_CLEAR, HALT)?)
    }

    /// Stops the engine after a failure.
    ///
    /// # Errors
    /// As [`stop`](Self::stop): the channel cannot be used again so far.
    pub(crate) fn recover(&mut self) -> Result<(), Error> {
        // The card may have been reset meanwhile.
        self.unsettled = true;
        let outcome = self.stop();
        if let Err(error) = &outcome {
            tracing::warn!(channel = self.name, %error, "the channel could not be stopped");
        }
        outcome
    }

    /// Keeps `buffers` that the engine was given if it was not seen to stop.
    pub(crate) fn keep(&mut self, buffers: impl Iterator<Item = DmaBuffer>) {
        if matches!(self.state, State::Stuck | State::CutOff) {
            self.held.extend(buffers);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !matches!(self.state, State::Idle | State::Foreign) {
            // What went wrong is logged.
            let _ = self.recover();
        }
        if self.state == State::Idle {
            self.leave_credit_mode();
        }
        // A card that was cut off may be given its bus mastering back for another program's sake.
        if matches!(self.state, State::Stuck | State::CutOff) {
            // Kept for the life of the process: if the memory went back, its IOVA would soon be another buffer's. With it the
            // lease, whose will stops the engine and waits for it when this process has ended.
            let mut memory = std::mem::take(&mut self.held);
            memory.push(self.ring.memory().clone());
            let kept = Kept { _memory: memory, _lease: self.lease.take() };
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
    }
}

/// What engines that were not seen to stop may still use.
struct Kept {
    _memory: Vec<DmaBuffer>,
    _lease: Option<Lease>,
}

/// Nothing is ever taken out of it.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// For a fuzz target, whose process outlives many cards: lets go of what is kept.
#[cfg(fuzzing)]
pub fn let_go_of_what_is_kept() {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::Will;
    use jitney_xdma_spec::descriptor::MAX_LENGTH;

    #[test]
    fn an_engine_has_time_for_its_longest_descriptor() {
        let ms = Duration::from_millis;
        assert_eq!(stop_time(0), ms(1000));
        assert_eq!(stop_time(8 << 20), ms(1084));
        assert_eq!(stop_time(MAX_LENGTH), ms(3685));
        assert!(stop_time(MAX_LENGTH) < Will::MAX_WAIT, "or no owner would wait so long");
    }
}
