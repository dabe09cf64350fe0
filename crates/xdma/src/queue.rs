//! The transfers of a channel that have not ended, in order, and the engine that runs on them.
//!
//! RUN stays set and the engine has credits for what is in its ring, so a transfer costs one register write as long as nothing
//! goes wrong, and a batch of them no more than one. Descriptors are counted from the moment when RUN rose.

use crate::engine::Engine;
use crate::error::{Error, Failure};
use crate::pending::Completed;
use crate::ring::Flags;
use crate::wait::now;
use crate::work::Work;
use jitney_vfio::DmaBuffer;
use jitney_xdma_spec::Direction;
use jitney_xdma_spec::writeback::Writeback;
use std::collections::VecDeque;
use std::ops::Range;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How often the registers are read while a transfer lasts: often enough that an error or a dead card is noticed at
/// once for a person, seldom enough to cost nothing.
const LOOK: Duration = Duration::from_millis(50);
/// An interrupt that is later than this behind the end of its transfer is lost.
const ON_ITS_WAY: Duration = if cfg!(fuzzing) { Duration::ZERO } else { Duration::from_millis(2) };

/// The write-back word counts so far and begins again.
const WORD_MASK: u64 = 0x00ff_ffff;

/// The engine reports its progress so often in a ring that is full: as soon as so many parts of it are free again, they are
/// filled.
const REPORTS: u64 = 4;

/// A channel's transfers and its engine.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) engine: Engine,
    pub(crate) timeout: Option<Duration>,
    flights: VecDeque<Flight>,
    /// Ticket of the first of them.
    first: u64,
    /// How many at the front are over.
    over: usize,
    /// Index of the first that has descriptors which the engine was not given.
    loading: usize,
    /// Descriptors that the engine was given since RUN rose.
    given: u64,
    /// Those of them that it has done.
    done: u64,
    /// What it wrote back last.
    word: Writeback,
    /// When the registers were looked at last.
    looked: Instant,
    /// When a descriptor was done last, or the first transfer came.
    progress: Instant,
    /// The most that the engine's completed count has come to, which rises before it is written back.
    reached: u64,
    /// Whether a thread sleeps until the interrupt comes.
    pub(crate) watched: bool,
    /// How many threads and tasks do.
    sleepers: usize,
    /// Whom to wake when nobody has the queue any more: a task that is woken, or dropped for good, may want it at once.
    pub(crate) woken: Vec<Waker>,
}

/// A transfer.
#[derive(Debug)]
struct Flight {
    state: State,
    bytes: u64,
    started: Instant,
    /// Whether its handle is there.
    wanted: bool,
    /// The task that waits for it.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Flying {
        work: Work,
        /// Descriptors that were done before RUN rose.
        carried: u64,
        /// Numbers of its descriptors that the engine was given.
        given: Option<(u64, u64)>,
        /// Whether these are all.
        whole: bool,
    },
    Over(Result<Completed, Error>),
}

impl Flight {
    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    fn end(&mut self, outcome: Result<Completed, Error>, woken: &mut Vec<Waker>) -> Option<Work> {
        woken.extend(self.waker.take());
        match std::mem::replace(&mut self.state, State::Over(outcome)) {
            State::Flying { work, .. } => Some(work),
            State::Over(_) => None,
        }
    }

    /// Descriptors done, of which `done` were since RUN rose.
    fn descriptors_done(&self, done: u64) -> u64 {
        match self.state {
            State::Flying { carried, given: Some((start, end)), .. } => {
                carried + (done.clamp(start, end) - start)
            }
            State::Flying { carried, .. } => carried,
            State::Over(_) => 0,
        }
    }
}

impl Queue {
    pub(crate) fn new(engine: Engine, timeout: Option<Duration>) -> Self {
        let now = now();
        Self {
            engine,
            timeout,
            flights: VecDeque::new(),
            first: 0,
            over: 0,
            loading: 0,
            given: 0,
            done: 0,
            word: Writeback::new(),
            looked: now,
            progress: now,
            reached: 0,
            watched: false,
            sleepers: 0,
            woken: Vec::new(),
        }
    }

    /// Queues a transfer and gives the engine of it what fits; returns its ticket.
    ///
    /// # Errors
    /// The engine cannot be started, or the card is wanted back: nothing was queued. What goes wrong later is the transfer's.
    pub(crate) fn submit(&mut self, work: Work) -> Result<u64, Error> {
        self.submit_all([work]).map(|tickets| tickets.start)
    }

    /// Queues several transfers and gives the engine of them what fits, all at once; returns their tickets.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(crate) fn submit_all(&mut self, work: impl IntoIterator<Item = Work>) -> Result<Range<u64>, Error> {
        let now = now();
        self.engine.heed_notices(now)?;
        if !self.engine.is_running() {
            self.engine.make_ready()?;
            self.begin().map_err(|error| self.fail(error))?;
        }
        if self.is_empty() {
            (self.looked, self.progress) = (now, now);
        }
        let first = self.first + self.flights.len() as u64;
        for work in work {
            let bytes = work.bytes();
            let state = State::Flying { work, carried: 0, given: None, whole: false };
            self.flights.push_back(Flight { state, bytes, started: now, wanted: true, waker: None });
        }
        let end = self.first + self.flights.len() as u64;
        if let Err(error) = self.feed() {
            self.fail(error);
        }
        Ok(first..end)
    }

    /// Whether no transfer is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.over == self.flights.len()
    }

    /// When the registers are to be looked at again.
    pub(crate) fn next_look(&self) -> Instant {
        self.looked + self.timeout.map_or(LOOK, |timeout| LOOK.min(timeout))
    }

    /// The outcome of the transfer with `ticket`, if it has one by now.
    pub(crate) fn poll(&mut self, ticket: u64) -> Option<Result<Completed, Error>> {
        if self.flight(ticket)?.is_over() {
            return self.outcome(ticket);
        }
        self.turn();
        if !self.flight(ticket)?.is_over() && now() >= self.next_look() {
            self.look();
        }
        self.outcome(ticket)
    }

    /// [`poll`](Self::poll), and if there is an outcome nobody asks for it again.
    pub(crate) fn take(&mut self, ticket: u64) -> Option<Result<Completed, Error>> {
        let outcome = self.poll(ticket)?;
        self.forget(ticket);
        Some(outcome)
    }

    /// Takes note of what the engine has done since, and gives it more.
    pub(crate) fn turn(&mut self) {
        if let Err(error) = self.take_note().and_then(|()| self.feed()) {
            self.fail(error);
        }
    }

    /// [`turn`](Self::turn), after the interrupt has come.
    pub(crate) fn turn_on_interrupt(&mut self) {
        if let Err(error) = self.answer_interrupt().and_then(|()| self.feed()) {
            self.fail(error);
        }
    }

    /// [`turn`](Self::turn), after it was waited for the interrupt in vain.
    pub(crate) fn turn_without_interrupt(&mut self) {
        let before = self.done;
        // What requested the one that was lost is taken back, so that the next can come.
        self.turn_on_interrupt();
        if self.done > before && !self.interrupt_comes() {
            let channel = &self.engine.name;
            tracing::warn!(channel, "a transfer had ended without an interrupt: it was lost");
        }
    }

    /// Whether the interrupt was on its way, and only behind what the engine has written to memory.
    fn interrupt_comes(&self) -> bool {
        self.engine.interrupt().is_some_and(|interrupt| interrupt.fired(ON_ITS_WAY).unwrap_or(true))
    }

    /// Has the interrupt wake who goes to sleep now, and takes note of what was done before.
    pub(crate) fn arm(&mut self) {
        self.sleepers += 1;
        if self.sleepers > 1 || !self.engine.is_adaptive() {
            return;
        }
        if let Err(error) = self.engine.arm() {
            self.fail(error);
        }
        self.turn();
    }

    /// Somebody who slept does not any more.
    pub(crate) fn disarm(&mut self) {
        self.sleepers -= 1;
        if self.sleepers > 0 {
            return;
        }
        if let Err(error) = self.engine.disarm() {
            self.fail(error);
        }
    }

    /// Whether the transfer with `ticket` is over.
    pub(crate) fn is_over(&self, ticket: u64) -> bool {
        self.flight(ticket).is_none_or(Flight::is_over)
    }

    fn flight(&self, ticket: u64) -> Option<&Flight> {
        self.flights.get(self.index(ticket)?)
    }

    fn index(&self, ticket: u64) -> Option<usize> {
        usize::try_from(ticket.checked_sub(self.first)?).ok()
    }

    fn outcome(&self, ticket: u64) -> Option<Result<Completed, Error>> {
        match &self.flight(ticket)?.state {
            State::Over(outcome) => Some(outcome.clone()),
            State::Flying { .. } => None,
        }
    }

    /// Whom to wake when the transfer with `ticket` is over.
    #[cfg(feature = "async")]
    pub(crate) fn wake(&mut self, ticket: u64, waker: &Waker) {
        if let Some(flight) = self.index(ticket).and_then(|index| self.flights.get_mut(index)) {
            self.woken.extend(flight.waker.replace(waker.clone()).filter(|old| !old.will_wake(waker)));
        }
    }

    /// Wakes every task that waits, so that one of them sees to the engine in place of one that does not wait any more.
    #[cfg(feature = "async")]
    pub(crate) fn wake_all(&mut self) {
        self.woken.extend(self.flights.iter_mut().filter_map(|flight| flight.waker.take()));
    }

    /// The handle of the transfer with `ticket` is gone.
    pub(crate) fn forget(&mut self, ticket: u64) {
        if let Some(flight) = self.index(ticket).and_then(|index| self.flights.get_mut(index)) {
            flight.wanted = false;
            self.woken.extend(flight.waker.take());
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        while self.flights.get(self.over).is_some_and(Flight::is_over) {
            self.over += 1;
        }
        while self.flights.front().is_some_and(|flight| flight.is_over() && !flight.wanted) {
            self.flights.pop_front();
            self.first += 1;
            self.over -= 1;
            self.loading = self.loading.saturating_sub(1);
        }
    }

    /// The engine is ready and has nothing: RUN rises.
    fn begin(&mut self) -> Result<(), Error> {
        (self.given, self.done, self.reached, self.word) = (0, 0, 0, Writeback::new());
        self.progress = now();
        if self.sleepers > 0 {
            self.engine.arm()?;
        }
        self.engine.start()
    }

    /// Gives the engine descriptors as long as there are any and its ring has room.
    fn feed(&mut self) -> Result<(), Error> {
        let Engine { ring, info, .. } = &self.engine;
        let (start, limit) = (self.given, self.done + ring.depth());
        let report = (ring.depth() / REPORTS).max(1);
        let ends_packet = info.stream && info.direction == Direction::HostToCard;
        let mut longest = 0;
        while self.given < limit {
            let Some(flight) = self.flights.get_mut(self.loading) else { break };
            let State::Flying { work, given, whole, .. } = &mut flight.state else {
                self.loading += 1;
                continue;
            };
            let Some((chunk, last)) = work.next() else {
                self.loading += 1;
                continue;
            };
            let number = self.given;
            let flags = Flags {
                completed: last || (number + 1).is_multiple_of(report),
                end_of_packet: last && ends_packet,
            };
            ring.put(number, chunk, flags)?;
            longest = longest.max(chunk.length);
            self.given += 1;
            *given = Some((given.map_or(number, |(start, _)| start), self.given));
            *whole = last;
        }
        let Ok(count @ 1..) = u32::try_from(self.given - start) else { return Ok(()) };
        ring.close(start, self.given)?;
        self.engine.credit(count, longest)
    }

    /// Looks at the word that the engine writes back.
    fn take_note(&mut self) -> Result<(), Error> {
        let word = self.engine.ring.writeback()?;
        if word == self.word {
            return Ok(());
        }
        self.word = word;
        let plain = Writeback::new().with_count(word.count()).with_error(word.error()) == word;
        let counted = plain && self.count_up_to(word.count().into(), WORD_MASK);
        if counted {
            // There is one that the error is of.
            let error = word.error() && self.done == self.given;
            self.end_those_done(self.done - u64::from(error))?;
        }
        if counted && !word.error() { Ok(()) } else { Err(self.failure(!counted, Error::Engine)?) }
    }

    /// Takes `count` for how many descriptors are done, of which `mask` tells the bits that there are; whether that can be.
    fn count_up_to(&mut self, count: u64, mask: u64) -> bool {
        let more = count.wrapping_sub(self.done) & mask;
        if more > self.given - self.done {
            return false;
        }
        if more > 0 {
            self.done += more;
            self.progress = now();
        }
        true
    }

    /// Ends the transfers that are among the first `done` descriptors.
    fn end_those_done(&mut self, done: u64) -> Result<(), Error> {
        let progress = self.progress;
        let engine = &self.engine;
        let receives = engine.info.stream && engine.info.direction == Direction::CardToHost;
        let mut wrong = None;
        for flight in self.flights.range_mut(self.over..) {
            let (work, end) = match &flight.state {
                State::Over(_) => continue,
                State::Flying { work, given: Some((_, end)), whole: true, .. } if *end <= done => (work, end),
                State::Flying { .. } => break,
            };
            let mut completed = Completed {
                bytes: flight.bytes,
                descriptors: work.descriptors(),
                duration: progress.saturating_duration_since(flight.started),
                ends_packet: true,
            };
            if receives {
                let slot = engine.ring.received(end - 1)?;
                if !slot.is_valid() || u64::from(slot.length) > flight.bytes {
                    wrong = Some(slot);
                    break;
                }
                completed.bytes = slot.length.into();
                completed.ends_packet = slot.status.end_of_packet();
            }
            engine.tally.moved(completed.bytes);
            flight.end(Ok(completed), &mut self.woken);
        }
        self.tidy();
        match wrong {
            None => Ok(()),
            Some(slot) => Err(Error::wrong_length(&self.engine.name, slot)),
        }
    }

    /// Takes back what requested the interrupt, and what has been done.
    fn answer_interrupt(&mut self) -> Result<(), Error> {
        let status = self.engine.take_status()?;
        if let Some(interrupt) = self.engine.interrupt() {
            interrupt.rearm()?;
        }
        self.take_note()?;
        if status.has_errors(self.engine.info.direction) {
            return Err(self.failure(false, Error::Engine)?);
        }
        Ok(())
    }

    /// Reads what the engine says of itself, and what was said about its card.
    pub(crate) fn look(&mut self) {
        if let Err(error) = self.check().and_then(|()| self.feed()) {
            self.fail(error);
        }
    }

    fn check(&mut self) -> Result<(), Error> {
        self.looked = now();
        self.engine.heed_notices(self.looked)?;
        // A request whose interrupt was lost would stay up, and none come after it.
        let status = if self.engine.interrupt().is_some() {
            self.engine.take_status()?
        } else {
            self.engine.status()?
        };
        if status.has_errors(self.engine.info.direction) {
            return Err(self.failure(false, Error::Engine)?);
        }
        let reached = self.reached_by(self.engine.completed()?);
        // It may have written back since the word was looked at.
        self.take_note()?;
        // Nothing else is progress: a count that falls or that nobody gave the engine would put the end off for ever.
        if reached.is_some_and(|reached| reached > self.reached.max(self.done)) {
            self.progress = self.looked;
        }
        self.reached = self.reached.max(reached.unwrap_or(0));
        let after = self.looked.saturating_duration_since(self.progress);
        match self.timeout {
            Some(timeout) if after >= timeout && !self.is_empty() => {
                Err(self.failure(false, |failure| Error::TimedOut { after, failure })?)
            }
            _ => Ok(()),
        }
    }

    /// How many descriptors are done if the completed count reads `completed`, if that can be.
    fn reached_by(&self, completed: u32) -> Option<u64> {
        let more = u64::from(completed).wrapping_sub(self.done) & u64::from(u32::MAX);
        (more <= self.given - self.done).then_some(self.done + more)
    }

    /// Takes down how the first transfer stands, stops the engine, and makes an error of it.
    fn failure(
        &mut self,
        miscounted: bool,
        error: impl FnOnce(Box<Failure>) -> Error,
    ) -> Result<Error, Error> {
        let status = self.engine.take_status()?;
        let done = self.reached_by(self.engine.completed()?).unwrap_or(self.done);
        let (writeback, given) = (self.engine.ring.writeback()?, self.given);
        let usable = self.engine.recover().is_ok();
        let flight = self.flights.get(self.over);
        let done_of_it = flight.map_or(0, |flight| flight.descriptors_done(done));
        let (started, bytes_done) = match flight.map(|flight| &flight.state) {
            Some(State::Flying { work, carried, given, .. }) => {
                let given = given.map_or(0, |(start, end)| end - start);
                (carried + given, work.bytes_of_first(done_of_it))
            }
            _ => (0, 0),
        };
        Ok(error(Box::new(Failure {
            channel: self.engine.name.clone(),
            direction: self.engine.info.direction,
            status,
            writeback,
            descriptors_done: done_of_it,
            descriptors_started: started,
            given,
            miscounted,
            bytes_done,
            bytes: flight.map_or(0, |flight| flight.bytes),
            usable,
        })))
    }

    /// Stops the engine and ends every transfer: the first with `error`, those behind it because of it. Says with what.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        let error = self.stop().err().filter(is_last_resort).unwrap_or(error);
        let everywhere = is_last_resort(&error) || matches!(error, Error::LinkDown(_));
        let channel = self.engine.name.clone();
        let behind = || Error::Behind { channel: channel.clone(), cause: Box::new(error.clone()) };
        let mut first = true;
        for index in self.over..self.flights.len() {
            let own = if first || everywhere { error.clone() } else { behind() };
            first &= self.flights[index].is_over();
            self.end(index, Err(own));
        }
        self.loading = self.flights.len();
        self.tidy();
        error
    }

    /// Ends the transfer at `index`; its buffers stay if the engine may be using them.
    fn end(&mut self, index: usize, outcome: Result<Completed, Error>) {
        if self.flights[index].is_over() {
            return;
        }
        if !matches!(outcome, Ok(_) | Err(Error::Cancelled { .. })) {
            self.engine.tally.failed();
        }
        let was_given = matches!(self.flights[index].state, State::Flying { given: Some(_), .. });
        if let Some(work) = self.flights[index].end(outcome, &mut self.woken)
            && was_given
        {
            self.engine.keep(work.into_buffers());
        }
    }

    /// Stops the engine if it runs.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    fn stop(&mut self) -> Result<(), Error> {
        if self.engine.is_running() { self.engine.recover() } else { Ok(()) }
    }

    /// Gives the transfer with `ticket` up; what it did if it was over by then.
    ///
    /// # Errors
    /// The transfer's own, or as [`Engine::recover`]: then all transfers have ended with that.
    pub(crate) fn cancel(&mut self, ticket: u64) -> Result<Option<Completed>, Error> {
        self.turn();
        let Some(index) = self.index(ticket) else { return Ok(None) };
        let untouched = matches!(self.flights[index].state, State::Flying { given: None, carried: 0, .. });
        if untouched {
            let outcome = Err(self.cancelled(index));
            self.end(index, outcome);
            self.tidy();
            return Ok(None);
        }
        if !self.flights[index].is_over() {
            self.halt()?;
        }
        // Those in front of it that are over by now may be gone.
        let Some(index) = self.index(ticket) else { return Ok(None) };
        if let State::Over(outcome) = &self.flights[index].state {
            let outcome = outcome.clone();
            self.resume();
            return outcome.map(Some);
        }
        let outcome = Err(self.cancelled(index));
        self.end(index, outcome);
        self.tidy();
        self.resume();
        Ok(None)
    }

    /// Gives up every transfer.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub(crate) fn cancel_all(&mut self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.halt()?;
        for index in self.over..self.flights.len() {
            let outcome = Err(self.cancelled(index));
            self.end(index, outcome);
        }
        self.tidy();
        Ok(())
    }

    fn cancelled(&self, index: usize) -> Error {
        let flight = &self.flights[index];
        let bytes_done = match &flight.state {
            State::Flying { work, .. } => work.bytes_of_first(flight.descriptors_done(self.done)),
            State::Over(_) => 0,
        };
        Error::Cancelled { channel: self.engine.name.clone(), bytes_done, bytes: flight.bytes }
    }

    /// Stops the engine at the end of a descriptor and takes note of all that it has done. Transfers stay.
    pub(crate) fn halt(&mut self) -> Result<(), Error> {
        let counted = self.stop().and_then(|()| self.engine.completed());
        if counted.is_ok() && self.engine.has_failed() && !self.is_empty() {
            let error = self.failure(false, Error::Engine).unwrap_or_else(|error| error);
            return Err(self.fail(error));
        }
        let outcome = counted.and_then(|completed| {
            let counted = self.count_up_to(completed.into(), u32::MAX.into());
            if counted { self.end_those_done(self.done) } else { Ok(()) }
        });
        if let Err(error) = outcome {
            return Err(self.fail(error));
        }
        let done = self.done;
        for flight in self.flights.range_mut(self.over..) {
            let so_far = flight.descriptors_done(done);
            if let State::Flying { work, carried, given, whole } = &mut flight.state {
                (*carried, *given, *whole) = (so_far, None, false);
                work.go_back_to(so_far);
            }
        }
        // What it counts from here on belongs to another start.
        (self.given, self.done, self.reached) = (0, 0, 0);
        self.loading = self.over;
        Ok(())
    }

    /// Goes on after [`halt`](Self::halt) with what has not ended.
    pub(crate) fn resume(&mut self) {
        if self.is_empty() || self.engine.is_running() {
            return;
        }
        let outcome = self.engine.make_ready().and_then(|()| self.begin()).and_then(|()| self.feed());
        if let Err(error) = outcome {
            self.fail(error);
        }
    }
}

/// An engine that goes around without an end has no transfers.
impl Queue {
    /// Looks whether an engine that has done `done` descriptors goes on; `failed`: it says that it does not.
    pub(crate) fn check_endless(&mut self, done: u64, failed: bool, now: Instant) -> Result<(), Error> {
        self.engine.heed_notices(now)?;
        let status = self.engine.status()?;
        if failed || status.has_errors(self.engine.info.direction) {
            (self.given, self.done) = (done + 1, done);
            return Err(self.failure(false, Error::Engine)?);
        }
        Ok(())
    }

    /// Stops an engine that received into `buffer`; says with what it ended.
    pub(crate) fn fail_endless(&mut self, error: Error, buffer: &DmaBuffer) -> Error {
        let error = self.stop().err().filter(is_last_resort).unwrap_or(error);
        self.engine.keep(std::iter::once(buffer.clone()));
        error
    }

    /// The same, at its user's wish.
    pub(crate) fn stop_endless(&mut self, buffer: &DmaBuffer) {
        // What went wrong is logged.
        let _ = self.stop();
        self.engine.keep(std::iter::once(buffer.clone()));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !self.is_empty() {
            let error = self.cancelled(self.over);
            self.fail(error);
        }
    }
}

/// Whether the error says what was done to an engine that could not be stopped.
fn is_last_resort(error: &Error) -> bool {
    matches!(error, Error::CutOff(_) | Error::Unknown(_))
}
