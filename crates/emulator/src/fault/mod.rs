//! Faults that an emulated board produces on request.

mod armed;

use crate::nearest::nearest;
use crate::xdma::Interface;
pub use armed::Faults;
use jitney_designs::Kind;
use jitney_xdma_spec::{Direction, MAX_CHANNELS};
use std::fmt;
use std::str::FromStr;

/// Something that goes wrong, once, at a moment that can be chosen.
///
/// As text: `KIND[:CHANNEL][@N]`, for example `hang`, `descriptor-fetch:h2c0` or `data-fault:c2h1@3`. The channel is
/// `h2c0` to `h2c3` or `c2h0` to `c2h3`; without one, all channels count. `N` counts from 1, from when the fault was
/// asked for; without it, the very next event is meant.
///
/// | Kind | What happens | `@N` counts |
/// |---|---|---|
/// | `descriptor-fetch` | fetching a descriptor fails: status 0x80010, no write-back, as when an IOMMU refuses it | descriptors |
/// | `data-fault` | reading the source of a descriptor fails | descriptors |
/// | `hang` | the channel makes no progress; BUSY stays set even after RUN is cleared, until a reset | descriptors |
/// | `adjacent-bug` | of a block of more than 16 adjacent descriptors, those behind the 16th come in wrong: bad magic. For good. At once without `@N` | descriptors |
/// | `short-packet` | the packet that a descriptor receives ends too early; the rest of it is lost | descriptors of C2H streams |
/// | `lost-eop` | a packet that ends in a descriptor does not: the next one follows on it | descriptors of C2H streams |
/// | `overrun` | what comes up to the end of a packet is lost before a descriptor receives anything: there was no room for it | descriptors of C2H streams |
/// | `stall` | half of the data goes, then nobody takes any more; BUSY stays set until a reset | descriptors of H2C streams |
/// | `link-down` | the card is gone: reads return all ones, writes are lost, DMA stops. For good. At once without `@N` | descriptors |
/// | `lost-interrupt` | an interrupt that should be signalled is not; those after it are | interrupts |
/// | `cms-hang` | the firmware of the card management hangs: its mailbox stays busy and its sensors stand still, until a reset | messages |
/// | `i2c-nak` | no device acknowledges its address | transfers of I2C, counted by their START |
/// | `i2c-stretch` | a device holds the clock low for a tenth of a second | transfers of I2C |
/// | `i2c-hang` | a device holds the data low: the bus stays busy. For good, but a soft reset of the core frees it | transfers of I2C |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// On which channel; `None` for any. Only kinds that happen on a channel have one.
    pub channel: Option<(Direction, u8)>,
    /// At which event, counted from 1; `None` for the next one.
    pub at: Option<u64>,
}

/// What goes wrong; see [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Fetching a descriptor fails.
    DescriptorFetch,
    /// Reading a descriptor's source fails.
    Data,
    /// A channel makes no progress until a reset.
    Hang,
    /// Blocks of more than 16 adjacent descriptors come in wrong from now on.
    AdjacentBug,
    /// A packet ends too early, and its rest is lost.
    ShortPacket,
    /// The end of a packet is lost.
    LostEop,
    /// Data is lost up to the end of a packet.
    Overrun,
    /// Nobody takes a stream's data any more, until a reset.
    Stall,
    /// The card is gone.
    LinkDown,
    /// An interrupt is not signalled.
    LostInterrupt,
    /// The firmware of the card management hangs.
    CmsHang,
    /// No I2C device acknowledges.
    I2cNak,
    /// An I2C device holds the clock for long.
    I2cStretch,
    /// An I2C device holds the bus.
    I2cHang,
}

/// What a kind's `@N` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Descriptor,
    Interrupt,
    /// A message to the card management.
    Message,
    /// A START on an I2C bus.
    I2c,
}

impl FaultKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::DescriptorFetch,
        Self::Data,
        Self::Hang,
        Self::AdjacentBug,
        Self::ShortPacket,
        Self::LostEop,
        Self::Overrun,
        Self::Stall,
        Self::LinkDown,
        Self::LostInterrupt,
        Self::CmsHang,
        Self::I2cNak,
        Self::I2cStretch,
        Self::I2cHang,
    ];

    /// Its name in text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DescriptorFetch => "descriptor-fetch",
            Self::Data => "data-fault",
            Self::Hang => "hang",
            Self::AdjacentBug => "adjacent-bug",
            Self::ShortPacket => "short-packet",
            Self::LostEop => "lost-eop",
            Self::Overrun => "overrun",
            Self::Stall => "stall",
            Self::LinkDown => "link-down",
            Self::LostInterrupt => "lost-interrupt",
            Self::CmsHang => "cms-hang",
            Self::I2cNak => "i2c-nak",
            Self::I2cStretch => "i2c-stretch",
            Self::I2cHang => "i2c-hang",
        }
    }

    const fn has_channel(self) -> bool {
        !matches!(self, Self::AdjacentBug | Self::LinkDown) && matches!(self.event(), Event::Descriptor)
    }

    const fn event(self) -> Event {
        match self {
            Self::LostInterrupt => Event::Interrupt,
            Self::CmsHang => Event::Message,
            Self::I2cNak | Self::I2cStretch | Self::I2cHang => Event::I2c,
            _ => Event::Descriptor,
        }
    }

    /// The one direction of streams that it happens to, if it happens to streams only.
    const fn of_streams(self) -> Option<Direction> {
        match self {
            Self::ShortPacket | Self::LostEop | Self::Overrun => Some(Direction::CardToHost),
            Self::Stall => Some(Direction::HostToCard),
            _ => None,
        }
    }
}

impl Fault {
    /// A fault of this kind at the next event of any channel.
    #[must_use]
    pub const fn new(kind: FaultKind) -> Self {
        Self { kind, channel: None, at: None }
    }
}

impl Fault {
    /// Why it cannot happen on a board whose DMA is like that, and that has these kinds of peripherals, if it cannot.
    pub(crate) fn impossible_on(
        &self,
        dma: Option<&Interface>,
        has: impl FnOnce(Kind) -> bool,
    ) -> Option<String> {
        let needed = match self.kind.event() {
            Event::Message => Some(Kind::Cms),
            Event::I2c => Some(Kind::Iic),
            Event::Descriptor | Event::Interrupt => None,
        };
        if let Some(kind) = needed {
            return (!has(kind)).then(|| format!("the design has no {kind}"));
        }
        let needs_none = self.kind == FaultKind::LinkDown && self.at.is_none();
        let Some(dma) = dma else { return (!needs_none).then(|| "the design has no DMA".into()) };
        if self.kind.of_streams().is_some() && !dma.is_stream() {
            return Some("its channels are memory mapped, and it happens to streams".into());
        }
        let (direction, number) = self.channel?;
        let count = dma.channels(direction);
        (usize::from(number) >= count).then(|| format!("the design has {count} {direction} channels"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some((direction, index)) = self.channel {
            write!(f, ":{direction}{index}")?;
        }
        self.at.map_or(Ok(()), |at| write!(f, "@{at}"))
    }
}

/// Why a text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// No fault has this name.
    #[error("no fault is called '{given}'; did you mean '{nearest}'? There are: {}", names())]
    Kind {
        /// What was given.
        given: String,
        /// The name most like it.
        nearest: &'static str,
    },
    /// No channel has this name.
    #[error("'{given}' names no channel: give h2c0 to h2c3 or c2h0 to c2h3")]
    Channel {
        /// What was given.
        given: String,
    },
    /// The fault does not happen on a channel.
    #[error("fault '{}' takes no channel: it happens to the whole card", kind.name())]
    NoChannel {
        /// The fault.
        kind: FaultKind,
    },
    /// The fault happens to the other direction only.
    #[error("fault '{}' happens on {direction} channels only", kind.name())]
    Direction {
        /// The fault.
        kind: FaultKind,
        /// Where it happens.
        direction: Direction,
    },
    /// The number after `@` is none, or zero.
    #[error("'@{given}' names no event: give a number from 1 on, as in 'hang@3'")]
    Count {
        /// What was given.
        given: String,
    },
}

fn names() -> String {
    FaultKind::ALL.map(FaultKind::name).join(", ")
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (rest, at) = match text.split_once('@') {
            Some((rest, count)) => {
                let at = count.parse().ok().filter(|&at: &u64| at > 0);
                (rest, Some(at.ok_or_else(|| FaultError::Count { given: count.to_owned() })?))
            }
            None => (text, None),
        };
        let (name, channel) = match rest.split_once(':') {
            Some((name, channel)) => (name, Some(channel)),
            None => (rest, None),
        };
        let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let nearest = nearest(name, FaultKind::ALL.iter().map(|kind| kind.name()));
            FaultError::Kind { given: name.to_owned(), nearest }
        })?;
        let channel = channel.map(parse_channel).transpose()?;
        if channel.is_some() && !kind.has_channel() {
            return Err(FaultError::NoChannel { kind });
        }
        if let (Some((given, _)), Some(direction)) = (channel, kind.of_streams())
            && given != direction
        {
            return Err(FaultError::Direction { kind, direction });
        }
        Ok(Self { kind, channel, at })
    }
}

fn parse_channel(text: &str) -> Result<(Direction, u8), FaultError> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| (0..MAX_CHANNELS).map(move |index| (direction, index)))
        .find(|(direction, index)| format!("{direction}{index}") == text)
        .ok_or_else(|| FaultError::Channel { given: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{CardToHost, HostToCard};
    use proptest::prelude::*;

    fn fault(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn faults_are_read_from_text() {
        assert_eq!(fault("hang"), Fault::new(FaultKind::Hang));
        assert_eq!(
            fault("descriptor-fetch:h2c0@7"),
            Fault { kind: FaultKind::DescriptorFetch, channel: Some((HostToCard, 0)), at: Some(7) }
        );
        assert_eq!(fault("data-fault:c2h3").channel, Some((CardToHost, 3)));
        assert_eq!(fault("link-down@2").at, Some(2));
        for kind in FaultKind::ALL {
            let direction = kind.of_streams().unwrap_or(CardToHost);
            let fault = Fault { kind, channel: kind.has_channel().then_some((direction, 1)), at: Some(9) };
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
    }

    #[test]
    fn faults_of_a_part_need_that_part() {
        let refused = |text: &str, has: &[Kind]| fault(text).impossible_on(None, |kind| has.contains(&kind));
        assert_eq!(refused("i2c-hang@3", &[Kind::Cms]).unwrap(), "the design has no iic");
        assert_eq!(refused("cms-hang", &[Kind::Iic]).unwrap(), "the design has no cms");
        for text in ["i2c-nak", "i2c-stretch", "cms-hang@2"] {
            assert_eq!(refused(text, &[Kind::Iic, Kind::Cms]), None, "{text}: no DMA is needed");
        }
        assert!(refused("hang", &[Kind::Iic]).unwrap().contains("no DMA"));
        assert!("i2c-nak:h2c0".parse::<Fault>().is_err());
    }

    #[test]
    fn bad_texts_are_explained() {
        let error = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert!(error("hung").contains("did you mean 'hang'"));
        assert!(error("").contains("There are: descriptor-fetch, "));
        assert!(error("hang:h2c4").contains("h2c0 to h2c3"));
        assert!(error("hang:").contains("names no channel"));
        assert!(error("link-down:h2c0").contains("takes no channel"));
        assert!(error("stall:c2h0").contains("on h2c channels only"));
        assert!(error("overrun:h2c1@3").contains("on c2h channels only"));
        for count in ["hang@", "hang@0", "hang@-1", "hang@x", "hang@99999999999999999999999"] {
            assert!(error(count).contains("names no event"), "{count}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC*") {
            let _ = text.parse::<Fault>();
        }
    }
}
