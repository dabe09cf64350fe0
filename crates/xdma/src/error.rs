//! What can go wrong with an XDMA.

use crate::plan::PlanError;
use jitney_vfio::ErrorKind;
use jitney_xdma_spec::status::{axi, pcie};
use jitney_xdma_spec::writeback::{STREAM_MAGIC, StreamSlot, Writeback};
use jitney_xdma_spec::{ChannelSet, ChannelStatus, Direction};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// A failure of the driver or of the engine. Channels are named with their card, as `h2c0 of 0000:2e:00.0 (10ee:7011)`.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The card, its owner or the system refused something: memory, a lease that somebody else has, an access.
    #[error(transparent)]
    Card(jitney_vfio::Error),
    /// The card answers all-ones or nothing: its link is down, it was reset, or the process that emulates it is gone.
    #[error(transparent)]
    LinkDown(jitney_vfio::Error),
    /// The BAR does not hold an XDMA, or one with a block missing.
    #[error("{bar} has no XDMA: {why}")]
    NoXdma {
        /// Which BAR of which card.
        bar: String,
        /// What is wrong with it.
        why: String,
    },
    /// The card has fewer channels.
    #[error("there is no channel {channel}; the card has {there} {direction} channels, counted from 0")]
    NoChannel {
        /// The channel that was asked for.
        channel: String,
        /// Its direction.
        direction: Direction,
        /// How many there are in this direction.
        there: usize,
    },
    /// What was asked for needs a channel of the other kind: a stream, or one that is memory-mapped.
    #[error("{channel} is {}", if *stream { "an AXI4-Stream: it has no addresses, and is received from with receive or capture" } else { "memory-mapped: it has no packets, and is read with read or submit" })]
    Stream {
        /// The channel.
        channel: String,
        /// Whether the channel is a stream.
        stream: bool,
    },
    /// The range does not lie within the buffer.
    #[error("{channel}: bytes {:#x} to {:#x} are not within the buffer, which has {size:#x}", range.start, range.end)]
    Range {
        /// The channel.
        channel: String,
        /// The range that was asked for, in bytes from the start of the buffer.
        range: Range<u64>,
        /// Size of the buffer in bytes.
        size: u64,
    },
    /// The transfer cannot be described to this channel. Nothing was started.
    #[error("{channel}: {why}")]
    Plan {
        /// The channel.
        channel: String,
        /// What is wrong, and what would fit.
        why: PlanError,
    },
    /// The engine reported an error and was stopped.
    #[error("transfer failed on {0}")]
    Engine(Box<Failure>),
    /// The engine made no progress for too long and was stopped.
    #[error("no progress for {after:?} on {failure}")]
    TimedOut {
        /// How long nothing had happened.
        after: Duration,
        /// Where it stood.
        failure: Box<Failure>,
    },
    /// The transfer was given up before it had ended: its handle or its channel was told to.
    #[error("{channel}: the transfer was cancelled after {bytes_done:#x} of {bytes:#x} bytes")]
    Cancelled {
        /// The channel.
        channel: String,
        /// Bytes of the descriptors that are done.
        bytes_done: u64,
        /// Bytes of the whole transfer.
        bytes: u64,
    },
    /// The transfer was in the queue behind one that failed, and was not carried out.
    #[error(
        "{channel}: not carried out, because a transfer in front of it failed ({cause}); submit it again"
    )]
    Behind {
        /// The channel.
        channel: String,
        /// What the one in front of it failed with.
        cause: Box<Error>,
    },
    /// The engine has not become idle so far after RUN was cleared. It may still; until then the channel keeps what memory it
    /// may be using, and nothing is started on it.
    #[error(
        "{channel} is still busy {after:.1?} after it was told to stop (status {:#010x}: {}); \
         try again, and reset the card if it stays so",
        status.into_bits(), status.describe(*direction)
    )]
    StillBusy {
        /// The channel.
        channel: String,
        /// Its direction.
        direction: Direction,
        /// What its status register reads.
        status: ChannelStatus,
        /// How long it was given.
        after: Duration,
    },
    /// The channel's registers did not answer, while the card is still there: the engine may be running. So the card's bus
    /// mastering was switched off, and seen to be. Nothing moves data on it any more, for nobody, until its owner has reset it.
    #[error(transparent)]
    CutOff(jitney_vfio::Error),
    /// The same, but nothing could be done about it: what the engine does is not known. The channel keeps what memory it may be
    /// using.
    #[error(transparent)]
    Unknown(jitney_vfio::Error),
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl From<jitney_vfio::Error> for Error {
    fn from(error: jitney_vfio::Error) -> Self {
        match error.kind() {
            ErrorKind::LinkDown => Self::LinkDown(error),
            _ => Self::Card(error),
        }
    }
}

impl Error {
    /// `what` read as all-ones.
    pub(crate) fn all_ones(what: impl fmt::Display) -> Self {
        let error = jitney_vfio::Error::new(
            ErrorKind::LinkDown,
            format!("{what} reads as all-ones: the link is down, or the card was reset or unplugged"),
        );
        Self::LinkDown(error.with_remedy("see the kernel log, then reset or rescan the card"))
    }

    /// A register of `channel` reads `read` after `written` was written to it.
    pub(crate) fn lost_write(channel: &str, written: u64, read: u64) -> Self {
        let what = format!(
            "{channel}: an address register reads {read:#x} after {written:#x} was written: writes do not reach the card, or \
             somebody else uses the channel"
        );
        let error = jitney_vfio::Error::new(ErrorKind::LinkDown, what);
        Self::LinkDown(error.with_remedy("see the kernel log and jitney list, then reset the card"))
    }

    /// Credit mode of `channel` is not on after it was switched on; the register reads `read`.
    pub(crate) fn no_credit_mode(channel: &str, read: ChannelSet) -> Self {
        let what = format!(
            "{channel}: the credit mode register reads {:#010x} after the channel's bit was set: writes do not reach the card, \
             or its XDMA has no descriptor credits",
            read.into_bits()
        );
        let error = jitney_vfio::Error::new(ErrorKind::LinkDown, what);
        Self::LinkDown(error.with_remedy("see the kernel log and jitney list, then reset the card"))
    }

    /// A task cannot be woken.
    #[cfg(feature = "async")]
    pub(crate) fn waiting(error: &std::io::Error) -> Self {
        let what = "waiting for the end of a transfer";
        match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(errno) => Self::Card(jitney_vfio::Error::from_errno(errno, what)),
            None => Self::Card(jitney_vfio::Error::new(ErrorKind::System, format!("{what}: {error}"))),
        }
    }

    /// A stream's `channel` says of a descriptor what cannot be.
    pub(crate) fn wrong_length(channel: &str, slot: StreamSlot) -> Self {
        let what = format!(
            "{channel} says of a descriptor that is done: {:#010x}, {:#x} bytes; its first half has no magic {STREAM_MAGIC:#x}, or \
             the second is more than the descriptor has",
            slot.status.into_bits(),
            slot.length
        );
        Self::Card(
            jitney_vfio::Error::new(ErrorKind::System, what)
                .with_remedy("see the design, then reset the card"),
        )
    }

    /// `channel` could not be told to stop, for `why`, and its card was cut off.
    pub(crate) fn cut_off(channel: &str, why: &Self) -> Self {
        let what = format!(
            "{channel} could not be stopped ({why}) while its card is still there: the card's bus mastering was switched off, \
             and none of its channels moves data any more"
        );
        Self::CutOff(jitney_vfio::Error::new(ErrorKind::LinkDown, what).with_remedy("reset the card"))
    }

    /// `channel` could not be told to stop, for `why`, nor its card be cut off, for `either`.
    pub(crate) fn unknown(channel: &str, why: &Self, either: &jitney_vfio::Error) -> Self {
        let what = format!(
            "{channel} could not be stopped ({why}), nor its card's bus mastering be switched off ({either}): memory that it may \
             still use is kept"
        );
        Self::Unknown(
            jitney_vfio::Error::new(either.kind(), what).with_remedy("reset the card or end this program"),
        )
    }
}

/// How a transfer stood when it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The channel.
    pub channel: String,
    /// Its direction.
    pub direction: Direction,
    /// What its status register read, before it was stopped.
    pub status: ChannelStatus,
    /// The write-back word: all zero if the engine had not written it.
    pub writeback: Writeback,
    /// Descriptors of the transfer that the engine has done, by its completed count.
    pub descriptors_done: u64,
    /// Descriptors of the transfer that it had been given.
    pub descriptors_started: u64,
    /// Descriptors that the engine was given since it was started, by this transfer and those before it: the most that the
    /// write-back word, which counts them, can come to.
    pub given: u64,
    /// Whether the write-back word cannot be: it counts descriptors that the engine was not given.
    pub miscounted: bool,
    /// Bytes of the descriptors that are done.
    pub bytes_done: u64,
    /// Bytes of the whole transfer.
    pub bytes: u64,
    /// Whether the engine has become idle, so that the channel can be used again. If not, it may still; if it stays so, the card
    /// has to be reset.
    pub usable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, status, descriptors_done, descriptors_started, bytes_done, bytes, .. } = self;
        write!(
            f,
            "{channel}: status {:#010x} ({}), ",
            status.into_bits(),
            self.status.describe(self.direction)
        )?;
        let written = self.writeback;
        if written.error() {
            write!(f, "write-back {:#010x} (error), ", written.into_bits())?;
        } else if self.miscounted {
            let (word, given) = (written.into_bits(), self.given);
            write!(f, "write-back {word:#010x} (it cannot be: {given} descriptors were given), ")?;
        }
        write!(f, "{descriptors_done} of {descriptors_started} descriptors done, ")?;
        write!(f, "{bytes_done:#x} of {bytes:#x} bytes; ")?;
        f.write_str(if self.usable {
            "the channel was stopped and can be used again"
        } else {
            "the channel has not stopped so far: try again, and reset the card if it stays so"
        })?;
        self.hints().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl Failure {
    /// What usually is behind the errors that the status shows, and what to do.
    fn hints(&self) -> impl Iterator<Item = &'static str> {
        let (over_pcie, over_axi) = match self.direction {
            Direction::HostToCard => (self.status.read_error(), self.status.write_error()),
            Direction::CardToHost => (0, self.status.read_error()),
        };
        let host = (over_pcie | self.status.descriptor_error()) & pcie::UNSUPPORTED_REQUEST != 0;
        let card = over_axi & axi::DECODE != 0;
        let host = host.then_some(
            "host memory that is not mapped for the card, or its bus mastering is off: keep buffer and card until the \
             transfer has ended",
        );
        let card =
            card.then_some("nothing answers at that card address: compare it with the design's address map");
        let other = self.miscounted.then_some(
            "somebody else has started the channel, or written to this one's memory: see who uses the card (jitney list)",
        );
        host.into_iter().chain(card).chain(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_where_and_what_to_do() {
        let failure = Failure {
            channel: "h2c0 of fake (10ee:7011)".into(),
            direction: Direction::HostToCard,
            status: ChannelStatus::from(0x80010),
            writeback: Writeback::from(0x8000_0002),
            descriptors_done: 2,
            descriptors_started: 5,
            given: 5,
            miscounted: false,
            bytes_done: 0x2000,
            bytes: 0x4800,
            usable: false,
        };
        assert_eq!(
            Error::Engine(Box::new(failure)).to_string(),
            "transfer failed on h2c0 of fake (10ee:7011): status 0x00080010 (descriptor fetch: unsupported request; \
             bad magic), write-back 0x80000002 (error), 2 of 5 descriptors done, 0x2000 of 0x4800 bytes; the channel \
             has not stopped so far: try again, and reset the card if it stays so; host memory that is not mapped for the \
             card, or its bus mastering is off: keep buffer and card until the transfer has ended"
        );
    }

    #[test]
    fn a_hint_fits_the_direction() {
        let hints = |direction, status| {
            let failure = Failure {
                channel: String::new(),
                direction,
                status,
                writeback: Writeback::default(),
                descriptors_done: 0,
                descriptors_started: 1,
                given: 1,
                miscounted: false,
                bytes_done: 0,
                bytes: 1,
                usable: true,
            };
            failure.hints().map(|hint| hint.split(' ').next().unwrap_or("")).collect::<Vec<_>>()
        };
        let (read, write) =
            (ChannelStatus::new().with_read_error(1), ChannelStatus::new().with_write_error(1));
        assert_eq!(hints(Direction::HostToCard, read), ["host"]);
        assert_eq!(hints(Direction::HostToCard, write), ["nothing"]);
        assert_eq!(hints(Direction::CardToHost, read), ["nothing"]);
        assert_eq!(hints(Direction::CardToHost, ChannelStatus::new().with_read_error(axi::SLAVE)), [""; 0]);
    }

    #[test]
    fn a_dead_link_has_its_own_variant_wherever_it_was_noticed() {
        let vfio = jitney_vfio::Error::new(ErrorKind::LinkDown, "the board's process is gone");
        assert!(matches!(Error::from(vfio), Error::LinkDown(_)));
        assert!(matches!(Error::all_ones("BAR 2"), Error::LinkDown(_)));
    }
}
