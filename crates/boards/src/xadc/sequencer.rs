//! Which channels an XADC converts and how (UG480, "Automatic Channel Sequencer").

use super::registers::{Configuration0, Configuration1};
use serde::{Serialize, Serializer};
use std::fmt;

/// A channel of the XADC by its number (UG480, "ADC Channel Select").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(u8);

impl Channel {
    /// The die's temperature.
    pub const TEMPERATURE: Self = Self(0);
    /// The core's supply.
    pub const VCCINT: Self = Self(1);
    /// The auxiliary supply.
    pub const VCCAUX: Self = Self(2);
    /// The dedicated analogue input.
    pub const VP_VN: Self = Self(3);
    /// The positive reference.
    pub const VREFP: Self = Self(4);
    /// The negative reference.
    pub const VREFN: Self = Self(5);
    /// The block RAM's supply.
    pub const VBRAM: Self = Self(6);
    /// The calibration of offset and gain.
    pub const CALIBRATION: Self = Self(8);

    /// Auxiliary input `input`, if it is one of the 16.
    #[must_use]
    pub const fn auxiliary(input: u8) -> Option<Self> {
        if input < 16 { Some(Self(16 + input)) } else { None }
    }

    /// Its number, 0 to 31.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Writes its name: `Temp`, `Vaux14`.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match *self {
            Self::TEMPERATURE => "Temp",
            Self::VCCINT => "Vccint",
            Self::VCCAUX => "Vccaux",
            Self::VP_VN => "Vp/Vn",
            Self::VREFP => "VrefP",
            Self::VREFN => "VrefN",
            Self::VBRAM => "Vbram",
            Self::CALIBRATION => "Cal",
            Self(number @ 16..) => return write!(f, "Vaux{}", number - 16),
            Self(number) => return write!(f, "unused{number}"),
        })
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the sequencer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It converts temperature and supplies, whatever is selected.
    Default,
    /// It converts the selected channels once.
    SinglePass,
    /// It converts the selected channels again and again.
    Continuous,
    /// It is off; one channel is converted.
    SingleChannel,
    /// Both ADCs convert at once: auxiliary inputs n and n + 8 in pairs.
    Simultaneous,
    /// ADC A watches temperature and supplies, ADC B converts the selected channels.
    Independent,
}

impl Mode {
    fn of(code: u8) -> Self {
        match code {
            1 => Self::SinglePass,
            2 => Self::Continuous,
            3 => Self::SingleChannel,
            4..=7 => Self::Simultaneous,
            8..=11 => Self::Independent,
            _ => Self::Default,
        }
    }
}

/// Writes it in words: `continuous`.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::SinglePass => "single pass",
            Self::Continuous => "continuous",
            Self::SingleChannel => "single channel",
            Self::Simultaneous => "simultaneous",
            Self::Independent => "independent ADC",
        })
    }
}

/// A channel that is converted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Selected {
    /// Which one.
    pub channel: Channel,
    /// It measures -0.5 V to 0.5 V, not 0 V to 1 V.
    pub bipolar: bool,
    /// It gets ten clocks for settling, not four.
    pub acquisition: bool,
}

/// What an XADC's sequencer is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sequencer {
    /// What it does.
    pub mode: Mode,
    /// The channels that are converted, in the order of their numbers.
    pub channels: Vec<Selected>,
}

impl Sequencer {
    /// Decodes the configuration and the three pairs of registers with a bit for each channel.
    pub(super) fn decode(
        configuration_0: Configuration0,
        configuration_1: Configuration1,
        selected: ChannelBits,
        bipolar: ChannelBits,
        acquisition: ChannelBits,
    ) -> Self {
        let mode = Mode::of(configuration_1.sequencer());
        let selected = match mode {
            Mode::SingleChannel => {
                let channel = Selected {
                    channel: Channel(configuration_0.channel()),
                    bipolar: configuration_0.bipolar(),
                    acquisition: configuration_0.acquisition(),
                };
                return Self { mode, channels: vec![channel] };
            }
            Mode::Default => ChannelBits::DEFAULT,
            Mode::Simultaneous => selected.with_pairs(),
            _ => selected,
        };
        let channels = (0..32).map(Channel).filter(|channel| selected.has(*channel));
        let channels = channels.map(|channel| Selected {
            channel,
            bipolar: bipolar.has(channel),
            acquisition: acquisition.has(channel),
        });
        Self { mode, channels: channels.collect() }
    }

    /// How `channel` is converted; `None` if it is not.
    #[must_use]
    pub fn selected(&self, channel: Channel) -> Option<Selected> {
        self.channels.iter().find(|selected| selected.channel == channel).copied()
    }
}

/// A bit for each channel: bit n for channel n.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelBits(u32);

impl ChannelBits {
    /// What is converted in default mode: temperature, VCCINT, VCCAUX, VBRAM and calibration.
    const DEFAULT: Self = Self(1 << 0 | 1 << 1 | 1 << 2 | 1 << 6 | 1 << 8);

    /// From a pair of registers. The lower one has channels 0 to 7 in bits 15:8 and channels 8 to 15 in bits 7:0, the
    /// upper one channels 16 to 31 in bits 15:0.
    pub(super) fn of(lower: u32, upper: u32) -> Self {
        Self(lower >> 8 & 0xff | (lower & 0xff) << 8 | (upper & 0xffff) << 16)
    }

    fn has(self, channel: Channel) -> bool {
        self.0 >> channel.0 & 1 == 1
    }

    /// With auxiliary input n + 8 wherever n is there.
    fn with_pairs(self) -> Self {
        Self(self.0 | (self.0 & 0x00ff_0000) << 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(
        configuration: [u32; 2],
        selected: [u32; 2],
        bipolar: [u32; 2],
        acquisition: [u32; 2],
    ) -> Sequencer {
        let bits = |[lower, upper]: [u32; 2]| ChannelBits::of(lower, upper);
        let [c0, c1] = configuration;
        Sequencer::decode(c0.into(), c1.into(), bits(selected), bits(bipolar), bits(acquisition))
    }

    fn words(sequencer: &Sequencer) -> Vec<String> {
        let word = |selected: &Selected| {
            let bipolar = if selected.bipolar { " bipolar" } else { "" };
            let acquisition = if selected.acquisition { " acq" } else { "" };
            format!("{}{bipolar}{acquisition}", selected.channel)
        };
        sequencer.channels.iter().map(word).collect()
    }

    #[test]
    fn the_factory_image_converts_one_channel() {
        let factory = decode([0, 0x3000], [0xffff, 0xffff], [0, 0], [0, 0]);
        assert_eq!((factory.mode, words(&factory)), (Mode::SingleChannel, vec!["Temp".to_owned()]));
        let other = decode([0x51e, 0x3000], [0, 0], [0, 0], [0, 0]);
        assert_eq!(words(&other), ["Vaux14 bipolar acq"]);
    }

    #[test]
    fn the_rebuilt_image_converts_a_sequence() {
        let rebuilt = decode([0, 0x2000], [0x4f01, 0x4000], [0x0800, 0], [0x0800, 0x4000]);
        assert_eq!(rebuilt.mode, Mode::Continuous);
        let expected = ["Temp", "Vccint", "Vccaux", "Vp/Vn bipolar acq", "Vbram", "Cal", "Vaux14 acq"];
        assert_eq!(words(&rebuilt), expected);
        assert_eq!(rebuilt.selected(Channel::VREFP), None);
    }

    #[test]
    fn modes_choose_channels() {
        for code in [0, 12, 15] {
            let default = decode([0, code << 12], [0, 0xffff], [0, 0], [0, 0]);
            assert_eq!(default.mode, Mode::Default);
            assert_eq!(words(&default), ["Temp", "Vccint", "Vccaux", "Vbram", "Cal"]);
        }
        let pairs = decode([0, 0x4000], [0, 0x0003], [0, 0], [0, 0]);
        assert_eq!(pairs.mode, Mode::Simultaneous);
        assert_eq!(words(&pairs), ["Vaux0", "Vaux1", "Vaux8", "Vaux9"]);
        assert_eq!(decode([0, 0x8000], [0, 0], [0, 0], [0, 0]).mode, Mode::Independent);
        assert_eq!(decode([0, 0x1000], [0, 0], [0, 0], [0, 0]).mode, Mode::SinglePass);
    }

    proptest! {
        #[test]
        fn anything_decodes(registers: [u32; 8]) {
            let [a, b, c, d, e, f, g, h] = registers;
            let sequencer = decode([a, b], [c, d], [e, f], [g, h]);
            prop_assert!(sequencer.channels.is_sorted_by(|a, b| a.channel < b.channel));
            prop_assert!(words(&sequencer).len() <= 32);
        }
    }
}
