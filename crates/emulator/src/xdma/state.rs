//! What one channel remembers, and the rules by which it starts, goes on and stops. Pure: control bits and ended
//! descriptors in, status and what to write to the host out.

use super::performance::Performance;
use jitney_xdma_spec::status::pcie;
use jitney_xdma_spec::{Alignments, ChannelControl, ChannelStatus, Direction, Writeback};

/// Bits of Control that exist.
const CONTROL_BITS: u32 = 0x0eff_fe7f;
/// Bits that Status, the interrupt mask and Control (where they allow logging) have in common.
pub(super) const EVENT_BITS: u32 = 0x00ff_fe7e;

/// One channel's registers and the position of its engine.
#[derive(Debug)]
pub(super) struct State {
    pub(super) direction: Direction,
    pub(super) channel: u8,
    pub(super) stream: bool,
    pub(super) alignments: Alignments,

    pub(super) control: ChannelControl,
    /// Status without BUSY.
    pub(super) logged: ChannelStatus,
    pub(super) completed: u32,
    pub(super) writeback_address: u64,
    pub(super) interrupt_enable: u32,
    pub(super) performance: Performance,

    pub(super) first_descriptor: u64,
    pub(super) first_adjacent: u32,
    pub(super) credits: u32,
    pub(super) credit_mode: bool,
    pub(super) halted: bool,

    /// The descriptor to go on with; none if RUN is clear, or after STOP or an error.
    next: Option<Next>,
    /// A descriptor is being executed.
    in_flight: bool,
    /// A fault took the engine's life: BUSY until a reset.
    hung: bool,
    /// Counts the rising edges of RUN and the resets, so that what belongs to an earlier run is recognised.
    run: u64,
    /// Counts the falling edges of RUN and the resets.
    stops: u64,
}

/// Where the next descriptor is, and how many are said to lie behind it.
#[derive(Debug, Clone, Copy)]
struct Next {
    address: u64,
    adjacent: u32,
}

/// A descriptor for the engine to execute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// Where it is in host memory.
    pub(super) address: u64,
    /// How many descriptors are said to lie directly behind it.
    pub(super) adjacent: u32,
    /// How many may be fetched, this one included; more than there ever are if credits are not used.
    pub(super) credits: u32,
    /// Control as it was when the descriptor was started.
    pub(super) control: ChannelControl,
    /// Whether it is the first one since RUN rose.
    pub(super) first: bool,
    /// Which run it belongs to.
    pub(super) run: u64,
}

/// How a descriptor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was executed.
    Executed {
        /// Beats of data on the card's side.
        beats: u64,
        /// STOP was set.
        stop: bool,
        /// COMPLETED was set.
        completed: bool,
        /// Where the next one is.
        next: u64,
        /// How many are said to lie behind that.
        next_adjacent: u32,
        /// Errors on the way. They end the run only if Control asks for their report (PG195, "ie_read_error").
        errors: ChannelStatus,
    },
    /// It could not be fetched: nothing is written back.
    NotFetched,
    /// It was fetched and is not one that can be executed.
    Refused(ChannelStatus),
    /// The engine hangs.
    Hung,
    /// RUN was cleared while a stream had no data for it: it never was.
    Abandoned,
}

/// A word to be written to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WritebackWord {
    pub(super) address: u64,
    pub(super) word: Writeback,
}

impl State {
    pub(super) fn new(
        direction: Direction,
        channel: u8,
        stream: bool,
        alignments: Alignments,
        clock_hz: u64,
    ) -> Self {
        Self {
            direction,
            channel,
            stream,
            alignments,
            control: ChannelControl::new(),
            logged: ChannelStatus::new(),
            completed: 0,
            writeback_address: 0,
            interrupt_enable: 0,
            performance: Performance::new(clock_hz),
            first_descriptor: 0,
            first_adjacent: 0,
            credits: 0,
            credit_mode: false,
            halted: false,
            next: None,
            in_flight: false,
            hung: false,
            run: 0,
            stops: 0,
        }
    }

    /// How many runs have ended, by RUN or by a reset.
    pub(super) fn stops(&self) -> u64 {
        self.stops
    }

    /// Everything to its reset value; what the engine is still doing belongs to an earlier run.
    pub(super) fn reset(&mut self) {
        let (run, stops) = (self.run + 1, self.stops + 1);
        let clock_hz = self.performance.clock_hz();
        let reset = Self::new(self.direction, self.channel, self.stream, self.alignments, clock_hz);
        *self = Self { run, stops, ..reset };
    }

    /// Leaving credit mode drops the credits.
    pub(super) fn set_credit_mode(&mut self, on: bool) {
        self.credit_mode = on;
        if !on {
            self.credits = 0;
        }
    }

    /// Whether the channel requests its interrupt.
    pub(super) fn requests_interrupt(&self) -> bool {
        u32::from(self.logged) & self.interrupt_enable != 0
    }

    /// Whether the engine may fetch a descriptor now.
    pub(super) fn can_start(&self) -> bool {
        self.next.is_some()
            && !self.in_flight
            && !self.halted
            && !self.hung
            && (!self.credit_mode || self.credits > 0)
    }

    /// Starts the next descriptor, if the engine may fetch one, and takes a credit for it in credit mode.
    pub(super) fn start(&mut self) -> Option<Job> {
        if !self.can_start() {
            return None;
        }
        let Next { address, adjacent } = self.next?;
        let credits = if self.credit_mode { self.credits } else { u32::MAX };
        if self.credit_mode {
            self.credits -= 1;
        }
        self.in_flight = true;
        Some(Job {
            address,
            adjacent,
            credits,
            control: self.control,
            first: self.completed == 0,
            run: self.run,
        })
    }

    /// Takes account of a descriptor that ended; says what is to be written back.
    ///
    /// Count, status and BUSY are final when this returns: what is written back, and the interrupt, come after them.
    pub(super) fn finish(&mut self, job: &Job, outcome: Outcome) -> Option<WritebackWord> {
        self.in_flight = false;
        if job.run != self.run {
            return None;
        }
        let writes_back = match outcome {
            Outcome::Executed { beats, stop, completed, next, next_adjacent, errors } => {
                self.performance.add_beats(beats);
                self.executed(stop, completed, Next { address: next, adjacent: next_adjacent }, errors)
            }
            Outcome::NotFetched => {
                // Nothing came back, so there is no magic either: 0x80010, as seen on cards behind an IOMMU.
                let errors = ChannelStatus::new().with_descriptor_error(pcie::UNSUPPORTED_REQUEST);
                self.fail(errors.with_magic_stopped(true));
                false
            }
            Outcome::Refused(errors) => self.fail(errors),
            Outcome::Hung => {
                self.hung = true;
                false
            }
            Outcome::Abandoned => false,
        };
        if !self.control.run() && !self.hung {
            self.go_idle();
        }
        (writes_back && self.control.poll_mode_writeback()).then(|| WritebackWord {
            address: self.writeback_address,
            word: Writeback::new()
                .with_count(self.completed & 0x00ff_ffff)
                .with_error(self.logged.has_errors(self.direction)),
        })
    }

    /// A descriptor was executed, perhaps with errors; whether that is written back.
    fn executed(&mut self, stop: bool, completed: bool, next: Next, errors: ChannelStatus) -> bool {
        if self.reported(errors) != ChannelStatus::new() {
            return self.fail(errors);
        }
        self.completed = self.completed.wrapping_add(1);
        self.log(ChannelStatus::new().with_descriptor_stopped(stop).with_descriptor_completed(completed));
        if stop {
            self.stop();
        } else if self.control.run() {
            self.next = Some(next);
        }
        completed
    }

    /// An error ends the run; whether that is written back.
    fn fail(&mut self, errors: ChannelStatus) -> bool {
        self.log(errors);
        self.stop();
        self.logged.has_errors(self.direction)
    }

    fn stop(&mut self) {
        self.next = None;
        self.performance.channel_stops();
    }

    fn go_idle(&mut self) {
        self.next = None;
        self.performance.channel_idles();
        self.log(ChannelStatus::new().with_idle_stopped(true));
    }

    pub(super) fn status(&self) -> ChannelStatus {
        // Waiting for credits is not work; waiting while halted is, because work is there.
        let has_work = self.next.is_some() && !(self.credit_mode && self.credits == 0);
        self.logged.with_busy(has_work || self.in_flight || self.hung)
    }

    /// Those of `events` that Control lets through to Status.
    fn reported(&self, events: ChannelStatus) -> ChannelStatus {
        (u32::from(events) & u32::from(self.control) & EVENT_BITS).into()
    }

    fn log(&mut self, events: ChannelStatus) {
        self.logged = (u32::from(self.logged) | u32::from(self.reported(events))).into();
    }

    /// Control as it shall be from now on: edges of RUN start and stop the engine.
    pub(super) fn set_control(&mut self, value: u32) {
        let ran = self.control.run();
        self.control = (value & CONTROL_BITS).into();
        match (ran, self.control.run()) {
            (false, true) => {
                self.run += 1;
                self.next = Some(Next { address: self.first_descriptor, adjacent: self.first_adjacent });
                self.completed = 0;
                self.logged = ChannelStatus::new();
                self.performance.channel_starts();
            }
            (true, false) => {
                self.stops += 1;
                self.credits = 0;
                self.next = None;
                if !self.in_flight && !self.hung {
                    self.go_idle();
                }
            }
            _ => {}
        }
    }
}
