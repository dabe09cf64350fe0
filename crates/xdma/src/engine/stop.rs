//! Stopping an engine, and what becomes of the memory that it may be using.
//!
//! Memory goes back when the engine was seen idle, when its card was reset or is gone, or when the card's bus mastering is off:
//! never because a register could not be read. The link of a card that is being trained anew, a completion that comes too late and
//! an error that the machine contains all read as all-ones, and the engine goes on behind them.

use super::last_resort::{self, NoDma};
use super::{Engine, State};
use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::wait::Backoff;
use jitney_registers::Block;
use jitney_vfio::{Card, DmaBuffer, IsIdle, Notice, Part, Region};
use jitney_xdma_spec::{ChannelControl, ChannelStatus, channel};
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
                self.give_back();
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
                self.give_back();
                Err(error)
            }
            Ok(NoDma::BusMasterOff) if self.is_wanted_back() => {
                self.state = State::Idle;
                self.give_back();
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

    /// Keeps `buffers` that the engine was given if it was not seen to stop, until it is, or the card was reset.
    pub(crate) fn keep(&mut self, buffers: impl Iterator<Item = DmaBuffer>) {
        if matches!(self.state, State::Stuck | State::CutOff) {
            let is_idle = is_idle(&self.channel);
            self.card.still_used().keep(&self.part, buffers.collect(), None, is_idle);
        }
    }

    /// Gives back what was kept: the engine cannot use it any more.
    fn give_back(&self) {
        self.card.still_used().give_back(&self.part);
    }

    /// Looks again at an engine that another channel of this process has left behind, since it did not stop: it is told to once
    /// more, as it may not have heard, and what it kept goes back if it is idle.
    ///
    /// # Errors
    /// [`Error::StillBusy`]; [`Error::LinkDown`] if it does not answer, or what the access says.
    pub(super) fn end_what_is_left_behind(
        card: &dyn Card,
        part: &Part,
        info: &ChannelInfo,
        channel: &Block<Region>,
    ) -> Result<(), Error> {
        if !card.still_used().is_left_behind(part) {
            return Ok(());
        }
        channel.write(channel::CONTROL_CLEAR, HALT)?;
        card.still_used().look_again();
        if !card.still_used().is_left_behind(part) {
            return Ok(());
        }
        let status = channel.read(channel::STATUS)?;
        let name = format!("{info} of {}", card.identity());
        if status.into_bits() == u32::MAX {
            return Err(Error::all_ones(format_args!("the status of {name}")));
        }
        Err(Error::StillBusy { channel: name, direction: info.direction, status, after: Duration::ZERO })
    }
}

/// A look at the engine of `channel` that changes nothing: whether it was told to stop, and has.
fn is_idle(channel: &Block<Region>) -> IsIdle {
    let channel = channel.clone();
    Box::new(move || {
        let (control, status) = (channel.read(channel::CONTROL), channel.read(channel::STATUS));
        let (Ok(control), Ok(status)) = (control, status) else { return false };
        let answers = control.into_bits() != u32::MAX && status.into_bits() != u32::MAX;
        answers && !control.run() && !status.busy()
    })
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
            // Until it is seen idle or the card was reset: if the memory went back, its IOVA would soon be another buffer's. With it
            // the lease, whose will stops the engine and waits for it when this process has ended.
            let memory = vec![self.ring.memory().clone()];
            let is_idle = is_idle(&self.channel);
            self.card.still_used().keep(&self.part, memory, self.lease.take(), is_idle);
        }
    }
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
