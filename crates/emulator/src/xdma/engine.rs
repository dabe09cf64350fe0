//! Executing one descriptor: fetch it, check it, move its data.

use super::Card;
use super::fetch::{Fetcher, NoDescriptor};
use super::state::{Job, Outcome};
use crate::fault::FaultKind;
use crate::function::DmaFault;
use crate::limited::warn_limited;
use jitney_xdma_spec::descriptor::MAX_LENGTH;
use jitney_xdma_spec::status::{axi, pcie};
use jitney_xdma_spec::{ChannelStatus, Descriptor, Direction};

/// The most bytes that are moved between two looks at whether the engine was stopped: a fraction of a millisecond. A copy
/// of this size was measured to be a tenth faster than one of 1 MiB.
const PIECE: u64 = 256 << 10;

/// A channel's way to host and card.
pub(super) struct Engine<'a> {
    pub(super) card: &'a Card,
    pub(super) direction: Direction,
    pub(super) channel: u8,
    /// Whether a reset has ended the run that the descriptor belongs to.
    pub(super) is_reset: &'a dyn Fn() -> bool,
}

/// Moving the data ended early.
enum Ended {
    /// With these errors.
    Errors(ChannelStatus),
    /// By a reset, or because the link went down: nobody is there to be told.
    Abandoned,
}

impl Engine<'_> {
    /// Executes the descriptor of `job`.
    pub(super) fn execute(&self, job: &Job, fetcher: &mut Fetcher) -> Outcome {
        let fault = self.card.faults.at_descriptor(self.direction, self.channel);
        if fault == Some(FaultKind::Hang) || self.card.faults.link_down() {
            return Outcome::Hung;
        }
        if fault == Some(FaultKind::DescriptorFetch) {
            return Outcome::NotFetched;
        }
        let descriptor = match fetcher.next(self.card, job, &self.live()) {
            Ok(descriptor) => descriptor,
            Err(NoDescriptor::Refused(_)) => return Outcome::NotFetched,
            Err(NoDescriptor::NotAdjacent) => {
                return Outcome::Refused(ChannelStatus::new().with_magic_stopped(true));
            }
        };
        if let Some(refused) = self.check(&descriptor) {
            return Outcome::Refused(refused);
        }
        let length = u64::from(descriptor.length & MAX_LENGTH);
        let moved = if fault == Some(FaultKind::Data) {
            Err(Ended::Errors(self.source_error()))
        } else {
            self.transfer(job, &descriptor, length)
        };
        let errors = match moved {
            Ok(()) => ChannelStatus::new(),
            Err(Ended::Errors(errors)) => errors,
            Err(Ended::Abandoned) => return Outcome::Hung,
        };
        Outcome::Executed {
            beats: length.div_ceil(self.card.data_width),
            stop: descriptor.control.stop(),
            completed: descriptor.control.completed(),
            next: descriptor.next,
            next_adjacent: descriptor.control.next_adjacent().into(),
            errors,
        }
    }

    /// Whether the run that the descriptor belongs to goes on, for the host to look at.
    fn live(&self) -> impl Fn() -> bool {
        || !(self.is_reset)()
    }

    /// Why a descriptor cannot be executed, if so.
    fn check(&self, descriptor: &Descriptor) -> Option<ChannelStatus> {
        let alignments = self.card.alignments;
        let unaligned = |value: u64, to: u8| !value.is_multiple_of(u64::from(to.max(1)));
        let length = descriptor.length & MAX_LENGTH;
        if !descriptor.control.is_valid() {
            Some(ChannelStatus::new().with_magic_stopped(true))
        } else if length == 0 || unaligned(length.into(), alignments.length_granularity()) {
            Some(ChannelStatus::new().with_invalid_length(true))
        } else if unaligned(descriptor.source ^ descriptor.destination, alignments.address_alignment()) {
            Some(ChannelStatus::new().with_align_mismatch(true))
        } else {
            None
        }
    }

    fn transfer(&self, job: &Job, descriptor: &Descriptor, length: u64) -> Result<(), Ended> {
        let (iova, address) = match self.direction {
            Direction::HostToCard => (descriptor.source, descriptor.destination),
            Direction::CardToHost => (descriptor.destination, descriptor.source),
        };
        if iova.checked_add(length - 1).is_none() {
            return Err(Ended::Errors(self.host_error()));
        }
        if job.control.non_incrementing() {
            return self.transfer_to_one_address(iova, address, length);
        }
        let (offset, there) = self.card.memory.decode(address, length);
        self.pieces(there, PIECE, |done, piece| self.copy(iova + done, offset + done, piece))?;
        if there < length { Err(Ended::Errors(self.card_error())) } else { Ok(()) }
    }

    /// Non-incrementing address mode: every beat goes to, or comes from, the same card address.
    fn transfer_to_one_address(&self, iova: u64, address: u64, length: u64) -> Result<(), Ended> {
        let beat = self.card.data_width;
        let (offset, there) = self.card.memory.decode(address, beat.min(length));
        if there < beat.min(length) {
            return Err(Ended::Errors(self.card_error()));
        }
        self.pieces(length, beat, |done, piece| self.copy(iova + done, offset, piece))
    }

    /// Calls `copy` for every piece of `length` bytes: how many are done, and how many to do.
    fn pieces(
        &self,
        length: u64,
        piece: u64,
        copy: impl Fn(u64, u64) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let piece = self.card.pace.as_ref().map_or(piece, |pace| pace.piece(piece));
        let mut done = 0;
        while done < length {
            if (self.is_reset)() || self.card.faults.link_down() {
                return Err(Ended::Abandoned);
            }
            let piece = piece.min(length - done);
            if let Some(pace) = &self.card.pace {
                pace.wait(usize::from(self.direction == Direction::CardToHost), piece);
            }
            copy(done, piece)?;
            done += piece;
        }
        Ok(())
    }

    /// Copies between host and card, in the direction of the channel.
    fn copy(&self, iova: u64, offset: u64, length: u64) -> Result<(), Ended> {
        let (host, memory) = (&self.card.host, self.card.memory.mapping());
        match self.direction {
            Direction::HostToCard => host.read_to(iova, memory, offset, length, &self.live()),
            Direction::CardToHost => host.write_from(iova, memory, offset, length, &self.live()),
        }
        .map_err(|fault| {
            if fault == DmaFault::Stopped {
                return Ended::Abandoned;
            }
            warn_limited!(direction = %self.direction, channel = self.channel, %fault, "DMA fault");
            Ended::Errors(self.host_error())
        })
    }

    /// The host refused an access to data.
    ///
    /// C2H writes are posted: a card does not hear of their loss. A host that was asked to be strict refuses them all the
    /// same, so that a driver under test hears of it; then a slave error is reported, which cards reserve for the other
    /// side.
    fn host_error(&self) -> ChannelStatus {
        match self.direction {
            Direction::HostToCard => ChannelStatus::new().with_read_error(pcie::UNSUPPORTED_REQUEST),
            Direction::CardToHost => ChannelStatus::new().with_read_error(axi::SLAVE),
        }
    }

    /// There is no memory at a card address.
    fn card_error(&self) -> ChannelStatus {
        match self.direction {
            Direction::HostToCard => ChannelStatus::new().with_write_error(axi::DECODE),
            Direction::CardToHost => ChannelStatus::new().with_read_error(axi::DECODE),
        }
    }

    /// Reading the source fails, wherever that is.
    fn source_error(&self) -> ChannelStatus {
        match self.direction {
            Direction::HostToCard => self.host_error(),
            Direction::CardToHost => self.card_error(),
        }
    }
}
