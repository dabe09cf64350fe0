//! How the streams of a board are joined, and joining them.

use anyhow::{Context, bail};
use jitney_boards::designs::Stream;
use jitney_boards::{Board, LeasedSwitch};
use jitney_xdma::{Direction, Xdma};

/// What comes of packets that are sent to a board.
#[derive(Debug)]
pub(crate) enum Joined {
    /// A switch joins them as it is told: so many channels each way. Its other ports lead to something else on the card.
    Switched { switch: Box<LeasedSwitch>, channels: u8 },
    /// Each H2C channel goes to a C2H channel.
    Wired(Vec<(u8, u8)>),
    /// Each packet gives its CRC on the C2H channel of the same number.
    Crc64(Vec<u8>),
    /// Each channel is for itself: what is sent is swallowed, and what comes is constant, if something comes.
    Apart { comes: bool },
}

impl Joined {
    /// How those of `board` are joined; takes the lease of its switch, if it has one.
    pub(crate) fn of(board: &Board, xdma: &Xdma) -> anyhow::Result<Self> {
        let count = |direction| u8::try_from(xdma.channels(direction).len()).unwrap_or(u8::MAX);
        let both = count(Direction::HostToCard).min(count(Direction::CardToHost));
        if let Ok(switch) = board.stream_switch() {
            let channels = both.min(switch.ports());
            return Ok(Self::Switched { switch: Box::new(switch.lease()?), channels });
        }
        let dma = board.design().dma.context("the design has no DMA engine")?;
        Ok(match dma.stream {
            Some(Stream::Loopback) => Self::Wired((0..both).map(|channel| (channel, channel)).collect()),
            Some(Stream::Crossed) => Self::Wired((0..both).map(|channel| (channel, channel ^ 1)).collect()),
            Some(Stream::Crc64) => Self::Crc64((0..both).collect()),
            Some(Stream::FixedData) => Self::Apart { comes: true },
            Some(Stream::None) => Self::Apart { comes: false },
            None => bail!(
                "nobody knows how the streams of {} are joined: its boards file does not say (`dma.stream`)",
                board.name()
            ),
        })
    }

    /// Every pair of channels that can be joined, and is one by one.
    pub(crate) fn pairs(&self) -> Vec<(u8, u8)> {
        match self {
            Self::Switched { channels, .. } => {
                (0..*channels).flat_map(|from| (0..*channels).map(move |to| (from, to))).collect()
            }
            Self::Wired(pairs) => pairs.clone(),
            Self::Crc64(channels) => channels.iter().map(|channel| (*channel, *channel)).collect(),
            Self::Apart { .. } => Vec::new(),
        }
    }

    /// Pairs that can be joined at the same time, as many as there are.
    pub(crate) fn at_once(&self) -> anyhow::Result<Vec<(u8, u8)>> {
        match self {
            Self::Switched { switch, channels } => {
                // The other way round is how these designs are used, and shows a switch that joins nothing.
                let crossed = |port: u8| if (port ^ 1) < *channels { port ^ 1 } else { port };
                set(switch, *channels, |to| Some(crossed(to)))?;
                Ok((0..*channels).map(|to| (crossed(to), to)).collect())
            }
            _ => Ok(self.pairs()),
        }
    }

    /// Joins a pair, and no other if there is a switch.
    pub(crate) fn join(&self, (from, to): (u8, u8)) -> anyhow::Result<()> {
        if let Self::Switched { switch, channels } = self {
            set(switch, *channels, |port| (port == to).then_some(from))?;
        }
        Ok(())
    }
}

/// Has each of the first `channels` ports fed by the one that `from` names, and leaves what the others are fed by.
fn set(switch: &LeasedSwitch, channels: u8, from: impl Fn(u8) -> Option<u8>) -> anyhow::Result<()> {
    let now = switch.switch().routes()?;
    let wanted: Vec<Option<u8>> = (0..).take(channels.into()).map(from).collect();
    let rest = now.into_iter().skip(channels.into());
    // A stream has one end: what a channel feeds now, nothing else gets.
    let rest = rest.map(|fed| fed.filter(|fed| !wanted.contains(&Some(*fed))));
    let routes: Vec<Option<u8>> = wanted.iter().copied().chain(rest.collect::<Vec<_>>()).collect();
    Ok(switch.set_routes(&routes)?)
}
