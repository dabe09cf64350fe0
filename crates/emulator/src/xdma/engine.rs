//! Executing one descriptor: fetch it, check it, move its data.

use super::Card;
use super::bell::Bell;
use super::fetch::{Fetched, Fetcher, NoDescriptor};
use super::interface::Port;
use super::link::wait_until;
use super::state::{Job, Outcome};
use super::sweep::Sweep;
use crate::axi::{AxiError, AxiTarget, BURST, MemorySpan};
use crate::fault::FaultKind;
use crate::function::{CardRange, DmaFault};
use crate::limited::warn_limited;
use jitney_xdma_spec::descriptor::MAX_LENGTH;
use jitney_xdma_spec::status::{axi, pcie};
use jitney_xdma_spec::{ChannelStatus, Descriptor, Direction};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The most bytes that are moved between two looks at whether the engine was stopped: a fraction of a millisecond. A copy
/// of this size was measured to be a tenth faster than one of 1 MiB.
const PIECE: u64 = 256 << 10;

/// A burst's bytes on their way.
const BUFFER: usize = 4096;
const _: () = assert!(BUFFER as u64 == BURST);

/// A channel's way to host and card.
pub(super) struct Engine<'a> {
    pub(super) card: &'a Card,
    pub(super) port: &'a Port,
    pub(super) direction: Direction,
    pub(super) channel: u8,
    /// The engine had nothing to do before, so that nothing was fetched ahead.
    pub(super) was_idle: bool,
    /// What it has done without a break.
    pub(super) busy: &'a Busy,
    /// Whether a reset has ended the run that the descriptor belongs to.
    pub(super) is_reset: &'a dyn Fn() -> bool,
    /// Whether that run has ended, by a reset or because RUN was cleared.
    pub(super) is_stopped: &'a dyn Fn() -> bool,
    /// Rung when either happens, and by a stream's port.
    pub(super) bell: &'a Arc<Bell>,
    /// Held while such a port is asked.
    pub(super) polling: &'a Mutex<()>,
}

/// Where an engine is in what it does.
#[derive(Debug)]
pub(super) struct Busy {
    /// It moves data without a break since then.
    since: Cell<Instant>,
    /// How it goes through host memory, breaks or not.
    sweep: Cell<Sweep>,
}

impl Busy {
    pub(super) fn new() -> Self {
        Self { since: Cell::new(Instant::now()), sweep: Cell::default() }
    }

    /// There was a break.
    pub(super) fn begin(&self) {
        self.since.set(Instant::now());
    }

    /// Goes on to `length` bytes of the host's at `iova`; whether those are in no cache any more.
    pub(super) fn go_to(&self, iova: u64, length: u64) -> bool {
        let mut sweep = self.sweep.get();
        let is_cold = sweep.go_to(iova, length);
        self.sweep.set(sweep);
        is_cold
    }
}

/// What an engine keeps from one descriptor to the next.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    fetcher: Fetcher,
    /// Bytes of a stream on their way.
    buffer: Vec<u8>,
}

/// Moving the data ended early.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    /// With these errors.
    Errors(ChannelStatus),
    /// It does not: a reset came, the link went down, or the card's side does not answer.
    Never,
    /// RUN was cleared while a stream had no data.
    Abandoned,
    /// A stream had no more data for as long as it may wait for it.
    Flushed,
}

impl Engine<'_> {
    /// Executes the descriptor of `job`.
    pub(super) fn execute(&self, job: &Job, workspace: &mut Workspace) -> Outcome {
        let fault = self.card.faults.at_descriptor(self.direction, self.channel, self.port.is_stream());
        if fault == Some(FaultKind::Hang) || self.card.faults.link_down() {
            return Outcome::Hung;
        }
        if fault == Some(FaultKind::DescriptorFetch) {
            return Outcome::NotFetched;
        }
        let fetched = match workspace.fetcher.next(self.card, job, &self.live()) {
            Ok(fetched) => fetched,
            Err(NoDescriptor::Refused(_)) => return Outcome::NotFetched,
            Err(NoDescriptor::NotAdjacent) => {
                return Outcome::Refused(ChannelStatus::new().with_magic_stopped(true));
            }
        };
        let Fetched { descriptor, next, next_adjacent } = fetched;
        if let Some(refused) = self.check(&descriptor) {
            return Outcome::Refused(refused);
        }
        let length = u64::from(descriptor.length & MAX_LENGTH);
        if self.was_idle {
            if let Some(link) = &self.card.link {
                wait_until(link.first_data(self.direction), self.is_reset);
            }
            self.busy.begin();
        }
        let moved = if fault == Some(FaultKind::Data) {
            Err(Ended::Errors(self.source_error()))
        } else {
            let buffer = &mut workspace.buffer;
            match self.port {
                Port::Memory(target) => self.transfer(&**target, job, &descriptor, length),
                Port::Sink(sink) => self.send(&**sink, &descriptor, length, fault, buffer),
                Port::Source(source) => self.receive(&**source, job, &descriptor, length, fault, buffer),
            }
        };
        let (moved, errors) = match moved {
            Ok(moved) => (moved, ChannelStatus::new()),
            Err(Ended::Errors(errors)) => (length, errors),
            Err(Ended::Never) => return Outcome::Hung,
            Err(Ended::Abandoned | Ended::Flushed) => return Outcome::Abandoned,
        };
        Outcome::Executed {
            beats: moved.div_ceil(self.card.data_width),
            stop: descriptor.control.stop(),
            completed: descriptor.control.completed(),
            next,
            next_adjacent,
            errors,
        }
    }

    /// Whether the run that the descriptor belongs to goes on, for the host to look at.
    pub(super) fn live(&self) -> impl Fn() -> bool {
        || !(self.is_reset)()
    }

    /// Why a descriptor cannot be executed, if so.
    fn check(&self, descriptor: &Descriptor) -> Option<ChannelStatus> {
        let alignments = self.card.alignments;
        let unaligned = |value: u64, to: u8| !value.is_multiple_of(u64::from(to.max(1)));
        let length = descriptor.length & MAX_LENGTH;
        // A stream has host addresses only; and within a packet it takes whole beats.
        let (addresses, beat) = match self.port {
            Port::Memory(_) => (descriptor.source | descriptor.destination, 1),
            Port::Sink(_) if descriptor.control.end_of_packet() => (descriptor.source, 1),
            Port::Sink(_) => (descriptor.source, self.card.data_width),
            Port::Source(_) => (descriptor.destination, 1),
        };
        if !descriptor.control.is_valid() {
            Some(ChannelStatus::new().with_magic_stopped(true))
        } else if length == 0
            || unaligned(length.into(), alignments.length_granularity())
            || !u64::from(length).is_multiple_of(beat)
        {
            Some(ChannelStatus::new().with_invalid_length(true))
        } else if unaligned(addresses, alignments.address_alignment()) {
            Some(ChannelStatus::new().with_align_mismatch(true))
        } else {
            None
        }
    }

    /// Moves the data between the host and what is memory mapped; says how many bytes, which is all of them.
    fn transfer(
        &self,
        target: &dyn AxiTarget,
        job: &Job,
        descriptor: &Descriptor,
        length: u64,
    ) -> Result<u64, Ended> {
        let (iova, address) = match self.direction {
            Direction::HostToCard => (descriptor.source, descriptor.destination),
            Direction::CardToHost => (descriptor.destination, descriptor.source),
        };
        if iova.checked_add(length - 1).is_none() {
            return Err(Ended::Errors(self.host_error()));
        }
        let beat = self.card.data_width;
        let one_address = job.control.non_incrementing();
        let mut done = 0;
        while done < length {
            // In non-incrementing mode every beat goes to, or comes from, the same card address.
            let (at, most) =
                if one_address { (Some(address), beat) } else { (address.checked_add(done), length) };
            let Some(at) = at else { return Err(Ended::Errors(self.card_error(axi::DECODE))) };
            let most = most.min(length - done);
            let moved = self.piece(target, iova + done, at, most)?;
            if one_address && moved < most {
                return Err(Ended::Errors(self.card_error(axi::DECODE)));
            }
            done += moved;
        }
        Ok(length)
    }

    /// Moves the beginning of `length` bytes, as far as one piece goes: says how many they were.
    fn piece(&self, target: &dyn AxiTarget, iova: u64, address: u64, length: u64) -> Result<u64, Ended> {
        let memory = target.memory(address, length);
        let most = memory.map_or(BURST - address % BURST, |span| span.length.min(PIECE)).min(length);
        let most = self.piece_of(most)?;
        self.over_link(most, || match memory {
            Some(span) => self.copy(iova, span, most),
            None => self.burst(target, iova, address, most),
        })?;
        Ok(most)
    }

    /// Of `length` bytes, how many go in one piece. None if the engine is reset.
    pub(super) fn piece_of(&self, length: u64) -> Result<u64, Ended> {
        if (self.is_reset)() || self.card.faults.link_down() {
            return Err(Ended::Never);
        }
        Ok(self.card.link.as_ref().map_or(length, |link| link.piece(length)))
    }

    /// Moves `length` bytes over the link, and lasts as long as they take there.
    pub(super) fn over_link(
        &self,
        length: u64,
        moving: impl FnOnce() -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let Some(link) = &self.card.link else { return moving() };
        let sizes = self.card.host.packet_sizes();
        let carried = link.reserve(self.direction, length, sizes, self.busy.since.get());
        moving()?;
        wait_until(carried, self.is_reset);
        Ok(())
    }

    /// Copies between the host and memory of the card.
    fn copy(&self, iova: u64, span: MemorySpan<'_>, length: u64) -> Result<(), Ended> {
        let host = &self.card.host;
        let card = CardRange {
            memory: span.memory.mapping(),
            offset: span.offset,
            length,
            past_caches: self.busy.go_to(iova, length),
        };
        match self.direction {
            Direction::HostToCard => host.read_to(iova, card, &self.live()),
            Direction::CardToHost => host.write_from(iova, card, &self.live()),
        }
        .map_err(|fault| self.host_fault(fault))
    }

    /// Moves a burst between the host and what is no memory.
    fn burst(&self, target: &dyn AxiTarget, iova: u64, address: u64, length: u64) -> Result<(), Ended> {
        let mut bytes = [0; BUFFER];
        let bytes = &mut bytes[..usize::try_from(length.min(BURST)).unwrap_or(0)];
        let host = &self.card.host;
        let host_fault = |fault| self.host_fault(fault);
        let answer = match self.direction {
            Direction::HostToCard => {
                host.read(iova, bytes, &self.live()).map_err(host_fault)?;
                target.write(address, bytes)
            }
            Direction::CardToHost => target.read(address, bytes),
        };
        answer.map_err(|error| match error {
            AxiError::Decode => Ended::Errors(self.card_error(axi::DECODE)),
            AxiError::Slave => Ended::Errors(self.card_error(axi::SLAVE)),
            AxiError::Hung => Ended::Never,
        })?;
        if self.direction == Direction::CardToHost {
            host.write(iova, bytes, &self.live()).map_err(host_fault)?;
        }
        Ok(())
    }

    pub(super) fn host_fault(&self, fault: DmaFault) -> Ended {
        if fault == DmaFault::Stopped {
            return Ended::Never;
        }
        warn_limited!(direction = %self.direction, channel = self.channel, %fault, "DMA fault");
        Ended::Errors(self.host_error())
    }

    /// The host refused an access to data.
    ///
    /// C2H writes are posted: a card does not hear of their loss. A host that was asked to be strict refuses them all the
    /// same, so that a driver under test hears of it; then a slave error is reported, which cards reserve for the other
    /// side.
    pub(super) fn host_error(&self) -> ChannelStatus {
        match self.direction {
            Direction::HostToCard => ChannelStatus::new().with_read_error(pcie::UNSUPPORTED_REQUEST),
            Direction::CardToHost => ChannelStatus::new().with_read_error(axi::SLAVE),
        }
    }

    /// The card's side answered with an error, a bit of [`axi`].
    fn card_error(&self, error: u8) -> ChannelStatus {
        match self.direction {
            Direction::HostToCard => ChannelStatus::new().with_write_error(error),
            Direction::CardToHost => ChannelStatus::new().with_read_error(error),
        }
    }

    /// Reading the source fails, wherever that is.
    fn source_error(&self) -> ChannelStatus {
        match self.direction {
            Direction::HostToCard => self.host_error(),
            Direction::CardToHost => self.card_error(axi::DECODE),
        }
    }
}
