//! System Management Wizard: temperature and voltages of an UltraScale FPGA (PG185, UG580), of each of its dies.

use crate::alarms::{Alarms, Flags};
use crate::error::Result;
use crate::frame::Frame;
use crate::sensor::{Quantity, Reading, Tracked};
use jitney_designs::SYSMON_DIE;
use jitney_registers::{ReadOnly, Register};
use serde::Serialize;

const STRIDE: u32 = 4;

const TEMPERATURE: Register<Sample, ReadOnly> = Register::new(0x400);
const VCCINT: Register<Sample, ReadOnly> = Register::new(0x404);
const VCCAUX: Register<Sample, ReadOnly> = Register::new(0x408);
const VBRAM: Register<Sample, ReadOnly> = Register::new(0x418);
/// The greatest temperature; those of VCCINT, VCCAUX and VBRAM follow.
const MAXIMA: Register<Sample, ReadOnly> = Register::new(0x480);
/// The least temperature; those of VCCINT, VCCAUX and VBRAM follow.
const MINIMA: Register<Sample, ReadOnly> = Register::new(0x490);
const FLAGS: Register<Flags, ReadOnly> = Register::new(0x4fc);
/// "Configuration Register 1", which switches alarms off.
const CONFIGURATION_1: Register<u32, ReadOnly> = Register::new(0x504);

/// A conversion: 10 bits in bits 15:6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample(u32);

impl From<u32> for Sample {
    fn from(register: u32) -> Self {
        Self(register)
    }
}

impl Sample {
    /// The code, 0 to 1023.
    fn code(self) -> u32 {
        self.0 >> 6 & 0x3ff
    }

    /// Degrees Celsius, with the reference that is in use (UG580, "Temperature Sensor").
    fn celsius(self, internal_reference: bool) -> f64 {
        let (scale, zero) = if internal_reference {
            (509.314_006_4, 280.230_878_70)
        } else {
            (507.592_131_0, 279.426_576_80)
        };
        f64::from(self.code()) * scale / 1024.0 - zero
    }

    /// Volts of a supply, 0 to 3.
    fn supply(self) -> f64 {
        f64::from(self.code()) * 3.0 / 1024.0
    }

    /// The least value so far, which is all-ones if there was none.
    fn minimum(self) -> Option<Self> {
        (self.code() != 0x3ff).then_some(self)
    }

    /// The greatest value so far, which is zero if there was none.
    fn maximum(self) -> Option<Self> {
        (self.code() != 0).then_some(self)
    }
}

/// What the monitor of one die measures. Temperatures are in degrees Celsius, the rest in volts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DieReadings {
    /// The die: 0 is the one with the master.
    pub die: u8,
    /// Its temperature.
    pub temperature: Tracked,
    /// Whether it is so hot that the FPGA may switch itself off; `None` if nobody watches it.
    pub over_temperature: Option<bool>,
    /// The core's supply.
    pub vccint: Tracked,
    /// The auxiliary supply.
    pub vccaux: Tracked,
    /// The block RAM's supply.
    pub vbram: Tracked,
    /// The monitor uses its internal reference, which is less accurate.
    pub internal_reference: bool,
}

impl DieReadings {
    /// The same as a list.
    #[must_use]
    pub fn list(&self) -> Vec<Reading> {
        let mut temperature = Reading::tracked("temperature", Quantity::Temperature, self.temperature);
        // One alarm is for the design to act upon, the other for the FPGA itself; a reading has one.
        if self.over_temperature == Some(true) {
            temperature.alarm = Some(true);
        }
        let supplies = [("VCCINT", self.vccint), ("VCCAUX", self.vccaux), ("VBRAM", self.vbram)];
        let supplies = supplies.map(|(name, supply)| Reading::tracked(name, Quantity::Voltage, supply));
        std::iter::once(temperature).chain(supplies).collect()
    }
}

/// A SYSMON.
#[derive(Debug, Clone)]
pub struct Sysmon {
    frame: Frame,
}

impl Sysmon {
    /// The SYSMON in `frame`.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// Temperature and supplies of each die, the master's first.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if a register reads as all-ones.
    pub fn readings(&self) -> Result<Vec<DieReadings>> {
        (0..self.dies()).map(|die| self.die(die)).collect()
    }

    /// How many dies it watches.
    #[must_use]
    pub fn dies(&self) -> u8 {
        self.frame.peripheral().slaves.saturating_add(1)
    }

    /// Temperature and supplies of one die, below [`dies`](Self::dies).
    ///
    /// # Errors
    /// As [`readings`](Self::readings); that the registers of the die are outside of the frame.
    pub fn die(&self, die: u8) -> Result<DieReadings> {
        let flags = self.frame.sane(of(FLAGS, die))?;
        let internal = flags.internal_reference();
        let alarms = Alarms::of(flags, self.frame.sane(of(CONFIGURATION_1, die))?);
        let celsius = |sample: Sample| sample.celsius(internal);
        Ok(DieReadings {
            die,
            temperature: self.tracked(die, (TEMPERATURE, 0), alarms.temperature, celsius)?,
            over_temperature: alarms.over_temperature,
            vccint: self.tracked(die, (VCCINT, 1), alarms.vccint, Sample::supply)?,
            vccaux: self.tracked(die, (VCCAUX, 2), alarms.vccaux, Sample::supply)?,
            vbram: self.tracked(die, (VBRAM, 3), alarms.vbram, Sample::supply)?,
            internal_reference: internal,
        })
    }

    /// A quantity by its register, and the place of its extremes in their arrays.
    fn tracked(
        &self,
        die: u8,
        (now, extreme): (Register<Sample, ReadOnly>, u32),
        alarm: Option<bool>,
        convert: impl Fn(Sample) -> f64,
    ) -> Result<Tracked> {
        let least = self.frame.sane(of(MINIMA.nth(extreme, STRIDE), die))?.minimum();
        let greatest = self.frame.sane(of(MAXIMA.nth(extreme, STRIDE), die))?.maximum();
        let now = convert(self.frame.sane(of(now, die))?);
        Ok(Tracked { now, min: least.map(&convert), max: greatest.map(&convert), alarm })
    }
}

/// The same register of another die.
#[expect(clippy::cast_possible_truncation, reason = "the distance is a small constant")]
fn of<V>(register: Register<V, ReadOnly>, die: u8) -> Register<V, ReadOnly> {
    register.nth(die.into(), SYSMON_DIE as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn registers_are_where_the_wizard_has_them() {
        assert_eq!(of(MINIMA.nth(3, STRIDE), 2).offset(), 0x149c);
        assert_eq!(of(FLAGS, 1).offset(), 0xcfc);
    }

    #[test]
    fn samples_convert() {
        let sample = Sample(0x9ac0); // 619
        assert_eq!(format!("{:.2} {:.2}", sample.celsius(true), sample.celsius(false)), "27.65 27.41");
        assert_eq!(format!("{:.4}", Sample(0x4880).supply()), "0.8496");
        assert_eq!((Sample(0xffc0).minimum(), Sample(0x003f).maximum()), (None, None));
    }

    proptest! {
        #[test]
        fn any_register_value_converts(register: u32) {
            let sample = Sample(register);
            prop_assert!((-280.24..=228.7).contains(&sample.celsius(true)));
            prop_assert!((-279.43..=227.7).contains(&sample.celsius(false)));
            prop_assert!((0.0..3.0).contains(&sample.supply()));
        }
    }
}
