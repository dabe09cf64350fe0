//! A channel of a stream, as it is named on the command line.

use crate::status::Misuse;
use jitney_xdma::{ChannelInfo, Direction, Xdma};
use std::str::FromStr;

/// `c2h0`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelName {
    pub(crate) direction: Direction,
    pub(crate) index: u8,
}

impl FromStr for ChannelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Direction::ALL.into_iter().find_map(|direction| {
            let index = text.strip_prefix(&direction.to_string())?.parse().ok()?;
            Some(Self { direction, index })
        });
        named.ok_or_else(|| "write h2c0 to h2c3 or c2h0 to c2h3".into())
    }
}

impl ChannelName {
    /// What there is to know about it, if `xdma` has it and it is a stream of this `direction`.
    pub(crate) fn must_be_stream<'a>(
        self,
        xdma: &'a Xdma,
        direction: Direction,
        instead: &str,
    ) -> Result<&'a ChannelInfo, Misuse> {
        let Self { index, .. } = self;
        let own = format!("{}{index}", self.direction);
        let channels = xdma.channels(direction);
        if self.direction != direction {
            return Err(Misuse(format!("{own} goes the other way: name one of {}", names(channels))));
        }
        match channels.iter().find(|channel| channel.to_string() == own) {
            Some(channel) if channel.stream => Ok(channel),
            Some(_) => Err(Misuse(format!("{own} is memory-mapped and has no stream: `jitney {instead}`"))),
            None => Err(Misuse(format!("there is no channel {own}; there are {}", names(channels)))),
        }
    }
}

fn names(channels: &[ChannelInfo]) -> String {
    if channels.is_empty() {
        return "none".into();
    }
    channels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_a_direction_and_a_number() {
        let name: ChannelName = "c2h3".parse().unwrap();
        assert_eq!((name.direction, name.index), (Direction::CardToHost, 3));
        for text in ["", "c2h", "h2c-1", "c2h256", "x2h0", "h2c 0"] {
            assert!(text.parse::<ChannelName>().is_err(), "{text}");
        }
    }
}
