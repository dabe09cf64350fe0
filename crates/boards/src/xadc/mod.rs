//! XADC Wizard: temperature and voltages of a 7-series FPGA (PG091, UG480).

mod registers;
mod sequencer;

use crate::alarms::Alarms;
use crate::error::Result;
use crate::frame::Frame;
use crate::sensor::{Quantity, Reading, Tracked};
use jitney_registers::{ReadOnly, Register};
use registers::{
    ACQUISITION, BIPOLAR, CALIBRATION_A, CALIBRATION_B, CONFIGURATION_0, CONFIGURATION_1, FLAGS, Gain,
    MAXIMA, MINIMA, SELECTED, STRIDE, Sample, TEMPERATURE, VAUX, VBRAM, VCCAUX, VCCINT, VP_VN, VREFN, VREFP,
};
use sequencer::ChannelBits;
use serde::Serialize;

pub use sequencer::{Channel, Mode, Selected, Sequencer};

/// Everything that an XADC measures. Temperatures are in degrees Celsius, the rest in volts.
///
/// Temperature and supplies are converted whatever the sequencer is set to; the other inputs are `None` or missing
/// where it does not convert them, because their registers hold nothing then.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Readings {
    /// The die's temperature.
    pub temperature: Tracked,
    /// Whether it is so hot that the FPGA may switch itself off; `None` if nobody watches it.
    pub over_temperature: Option<bool>,
    /// The core's supply.
    pub vccint: Tracked,
    /// The auxiliary supply.
    pub vccaux: Tracked,
    /// The block RAM's supply.
    pub vbram: Tracked,
    /// The dedicated analogue input.
    pub vp_vn: Option<f64>,
    /// The positive reference.
    pub vrefp: Option<f64>,
    /// The negative reference.
    pub vrefn: Option<f64>,
    /// The auxiliary inputs.
    pub vaux: Vec<Auxiliary>,
}

impl Readings {
    /// The same as a list, in which temperature, supplies and inputs look alike.
    #[must_use]
    pub fn list(&self) -> Vec<Reading> {
        let mut temperature = Reading::tracked("temperature", Quantity::Temperature, self.temperature);
        // One alarm is for the design to act upon, the other for the FPGA itself; a reading has one.
        if self.over_temperature == Some(true) {
            temperature.alarm = Some(true);
        }
        let supplies = [("VCCINT", self.vccint), ("VCCAUX", self.vccaux), ("VBRAM", self.vbram)];
        let supplies = supplies.map(|(name, supply)| Reading::tracked(name, Quantity::Voltage, supply));
        let inputs = [("VP/VN", self.vp_vn), ("VREFP", self.vrefp), ("VREFN", self.vrefn)];
        let inputs = inputs
            .into_iter()
            .filter_map(|(name, volts)| Some(Reading::new(name, Quantity::Voltage, volts?)));
        let vaux = self
            .vaux
            .iter()
            .map(|own| Reading::new(format!("VAUX{}", own.input), Quantity::Voltage, own.volts));
        std::iter::once(temperature).chain(supplies).chain(inputs).chain(vaux).collect()
    }
}

/// An auxiliary analogue input.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Auxiliary {
    /// Which one, 0 to 15.
    pub input: u8,
    /// Volts: 0 to 1, or -0.5 to 0.5 if it is bipolar.
    pub volts: f64,
    /// Whether it is bipolar.
    pub bipolar: bool,
}

/// The coefficients that an ADC found when it calibrated itself.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Calibration {
    /// Offset of the supply sensor in units of 1/4096 of the scale.
    pub supply_offset: i16,
    /// Offset of bipolar inputs in the same units.
    pub bipolar_offset: i16,
    /// Gain error in per cent, -6.3 to 6.3.
    pub gain_percent: f64,
}

/// An XADC.
#[derive(Debug, Clone)]
pub struct Xadc {
    frame: Frame,
}

impl Xadc {
    /// The XADC in `frame`.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// The die's temperature in degrees Celsius: one register access.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if the register reads as all-ones, here and in what
    /// follows.
    pub fn temperature(&self) -> Result<f64> {
        self.frame.sane(TEMPERATURE).map(Sample::celsius)
    }

    /// Everything that it measures.
    ///
    /// # Errors
    /// As [`temperature`](Self::temperature).
    pub fn readings(&self) -> Result<Readings> {
        let sequencer = self.sequencer()?;
        let reference = |channel, register| {
            sequencer.selected(channel).map(|_| self.frame.sane(register).map(Sample::supply)).transpose()
        };
        let mut vaux = Vec::new();
        for input in 0..16 {
            let selected = Channel::auxiliary(input).and_then(|channel| sequencer.selected(channel));
            if let Some(Selected { bipolar, .. }) = selected {
                let volts = self.frame.sane(VAUX.nth(input.into(), STRIDE))?.input(bipolar);
                vaux.push(Auxiliary { input, volts, bipolar });
            }
        }
        let vp_vn = sequencer.selected(Channel::VP_VN);
        let alarms = Alarms::of(self.frame.sane(FLAGS)?, self.frame.sane(CONFIGURATION_1)?.into());
        // What is not converted is not watched.
        let watched = |channel, alarm: Option<bool>| alarm.filter(|_| sequencer.selected(channel).is_some());
        Ok(Readings {
            temperature: self.tracked(
                TEMPERATURE,
                0,
                watched(Channel::TEMPERATURE, alarms.temperature),
                Sample::celsius,
            )?,
            over_temperature: watched(Channel::TEMPERATURE, alarms.over_temperature),
            vccint: self.tracked(VCCINT, 1, watched(Channel::VCCINT, alarms.vccint), Sample::supply)?,
            vccaux: self.tracked(VCCAUX, 2, watched(Channel::VCCAUX, alarms.vccaux), Sample::supply)?,
            vbram: self.tracked(VBRAM, 3, watched(Channel::VBRAM, alarms.vbram), Sample::supply)?,
            vp_vn: vp_vn
                .map(|own| self.frame.sane(VP_VN).map(|sample| sample.input(own.bipolar)))
                .transpose()?,
            vrefp: reference(Channel::VREFP, VREFP)?,
            vrefn: reference(Channel::VREFN, VREFN)?,
            vaux,
        })
    }

    /// The coefficients of ADC A and of ADC B.
    ///
    /// # Errors
    /// As [`temperature`](Self::temperature).
    pub fn calibration(&self) -> Result<[Calibration; 2]> {
        Ok([self.coefficients(CALIBRATION_A)?, self.coefficients(CALIBRATION_B)?])
    }

    /// What its sequencer is set to.
    ///
    /// # Errors
    /// As [`temperature`](Self::temperature).
    pub fn sequencer(&self) -> Result<Sequencer> {
        Ok(Sequencer::decode(
            self.frame.sane(CONFIGURATION_0)?,
            self.frame.sane(CONFIGURATION_1)?,
            self.channel_bits(SELECTED)?,
            self.channel_bits(BIPOLAR)?,
            self.channel_bits(ACQUISITION)?,
        ))
    }

    fn channel_bits(&self, lower: Register<u32, ReadOnly>) -> Result<ChannelBits> {
        Ok(ChannelBits::of(self.frame.sane(lower)?, self.frame.sane(lower.nth(1, STRIDE))?))
    }

    /// A quantity with the extremes at place `extreme` of their arrays.
    fn tracked(
        &self,
        now: Register<Sample, ReadOnly>,
        extreme: u32,
        alarm: Option<bool>,
        convert: fn(Sample) -> f64,
    ) -> Result<Tracked> {
        Ok(Tracked {
            now: convert(self.frame.sane(now)?),
            min: self.frame.sane(MINIMA.nth(extreme, STRIDE))?.minimum().map(convert),
            max: self.frame.sane(MAXIMA.nth(extreme, STRIDE))?.maximum().map(convert),
            alarm,
        })
    }

    fn coefficients(&self, first: Register<u32, ReadOnly>) -> Result<Calibration> {
        let at = |index| self.frame.sane(first.nth(index, STRIDE));
        Ok(Calibration {
            supply_offset: Sample(at(0)?).signed(),
            bipolar_offset: Sample(at(1)?).signed(),
            gain_percent: Gain::from(at(2)?).percent(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn registers_are_where_the_wizard_has_them() {
        assert_eq!(MAXIMA.nth(3, STRIDE).offset(), 0x28c);
        assert_eq!(MINIMA.nth(3, STRIDE).offset(), 0x29c);
        assert_eq!(VAUX.nth(15, STRIDE).offset(), 0x27c);
        assert_eq!(CALIBRATION_A.nth(2, STRIDE).offset(), 0x228);
        assert_eq!(CALIBRATION_B.nth(2, STRIDE).offset(), 0x2c8);
        assert_eq!(ACQUISITION.nth(1, STRIDE).offset(), 0x33c);
    }

    #[test]
    fn samples_convert_as_seen_on_a_board() {
        for (register, celsius) in
            [(0x9c60, "34.70"), (0x9c80, "34.94"), (0xa2d0, "47.371"), (0xa230, "46.141"), (0xa3c0, "49.217")]
        {
            let digits = celsius.len() - 3;
            assert_eq!(format!("{:.digits$}", Sample(register).celsius()), celsius);
        }
        for (register, volts) in [(0x57e0, "1.0298"), (0x9830, "1.7834"), (0x57d0, "1.0291")] {
            assert_eq!(format!("{:.4}", Sample(register).supply()), volts);
        }
        assert_eq!(Sample(0x9c6f).celsius(), Sample(0x9c60).celsius(), "the lowest four bits do not count");
    }

    #[test]
    fn extremes_may_be_undefined() {
        assert_eq!(Sample(0xfff0).minimum(), None);
        assert_eq!(Sample(0xffff).minimum(), None);
        assert_eq!(Sample(0xffe0).minimum(), Some(Sample(0xffe0)));
        assert_eq!(Sample(0x0000).maximum(), None);
        assert_eq!(Sample(0x0010).maximum(), Some(Sample(0x0010)));
    }

    #[test]
    fn calibration_has_signs() {
        assert_eq!(Sample(0xff90).signed(), -7);
        assert_eq!(Sample(0xff50).signed(), -11);
        assert_eq!(Sample(0x7ff0).signed(), 2047);
        assert_eq!(Sample(0x8000).signed(), -2048);
        assert!((Gain::from(0x7f).percent() - 6.3).abs() < 1e-9);
        assert!((Gain::from(0x3f).percent() + 6.3).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn any_register_value_converts(register: u32) {
            let sample = Sample(register);
            prop_assert!((-273.15..=230.83).contains(&sample.celsius()));
            prop_assert!((0.0..3.0).contains(&sample.supply()));
            prop_assert!((0.0..1.0).contains(&sample.input(false)));
            prop_assert!((-0.5..0.5).contains(&sample.input(true)));
            prop_assert!((-6.3..=6.3).contains(&Gain::from(register).percent()));
        }
    }
}
