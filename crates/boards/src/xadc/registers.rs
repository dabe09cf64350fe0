//! The registers of the XADC Wizard's AXI4-Lite interface (PG091, "Register Space"), which are those of the XADC
//! itself (UG480, "XADC Register Interface") four bytes apart from 0x200 on.

use crate::alarms::Flags;
use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, Register};

/// Bytes between the registers of an array.
pub(super) const STRIDE: u32 = 4;

pub(super) const TEMPERATURE: Register<Sample, ReadOnly> = Register::new(0x200);
pub(super) const VCCINT: Register<Sample, ReadOnly> = Register::new(0x204);
pub(super) const VCCAUX: Register<Sample, ReadOnly> = Register::new(0x208);
pub(super) const VP_VN: Register<Sample, ReadOnly> = Register::new(0x20c);
pub(super) const VREFP: Register<Sample, ReadOnly> = Register::new(0x210);
pub(super) const VREFN: Register<Sample, ReadOnly> = Register::new(0x214);
pub(super) const VBRAM: Register<Sample, ReadOnly> = Register::new(0x218);
/// The first of 16 auxiliary inputs.
pub(super) const VAUX: Register<Sample, ReadOnly> = Register::new(0x240);

/// Supply offset, bipolar offset and gain of ADC A.
pub(super) const CALIBRATION_A: Register<u32, ReadOnly> = Register::new(0x220);
/// Supply offset, bipolar offset and gain of ADC B.
pub(super) const CALIBRATION_B: Register<u32, ReadOnly> = Register::new(0x2c0);

/// The greatest temperature; those of VCCINT, VCCAUX and VBRAM follow.
pub(super) const MAXIMA: Register<Sample, ReadOnly> = Register::new(0x280);
/// The least temperature; those of VCCINT, VCCAUX and VBRAM follow.
pub(super) const MINIMA: Register<Sample, ReadOnly> = Register::new(0x290);

pub(super) const FLAGS: Register<Flags, ReadOnly> = Register::new(0x2fc);

pub(super) const CONFIGURATION_0: Register<Configuration0, ReadOnly> = Register::new(0x300);
pub(super) const CONFIGURATION_1: Register<Configuration1, ReadOnly> = Register::new(0x304);
/// Which channels the sequencer converts, in two registers.
pub(super) const SELECTED: Register<u32, ReadOnly> = Register::new(0x320);
/// Which channels are bipolar, likewise.
pub(super) const BIPOLAR: Register<u32, ReadOnly> = Register::new(0x330);
/// Which channels get more time to settle, likewise.
pub(super) const ACQUISITION: Register<u32, ReadOnly> = Register::new(0x338);

/// A conversion: 12 bits in bits 15:4. The bits below may carry more resolution, which nobody specifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample(pub(super) u32);

impl From<u32> for Sample {
    fn from(register: u32) -> Self {
        Self(register)
    }
}

impl Sample {
    /// The code, 0 to 4095.
    pub(super) fn code(self) -> u16 {
        (self.0 >> 4 & 0xfff) as u16
    }

    /// The code as two's complement of 12 bits, -2048 to 2047.
    pub(super) fn signed(self) -> i16 {
        (self.code() << 4).cast_signed() >> 4
    }

    /// Degrees Celsius (UG480, "Temperature Sensor").
    pub(super) fn celsius(self) -> f64 {
        f64::from(self.code()) * 503.975 / 4096.0 - 273.15
    }

    /// Volts of a supply, 0 to 3 (UG480, "Power Supply Sensor").
    pub(super) fn supply(self) -> f64 {
        f64::from(self.code()) * 3.0 / 4096.0
    }

    /// Volts at an analogue input: 0 to 1, or -0.5 to 0.5 if it is bipolar (UG480, "Analog Inputs").
    pub(super) fn input(self, bipolar: bool) -> f64 {
        f64::from(if bipolar { self.signed() } else { self.code().cast_signed() }) / 4096.0
    }

    /// The least value so far, which is all-ones if there was none.
    pub(super) fn minimum(self) -> Option<Self> {
        (self.code() != 0xfff).then_some(self)
    }

    /// The greatest value so far, which is zero if there was none.
    pub(super) fn maximum(self) -> Option<Self> {
        (self.code() != 0).then_some(self)
    }
}

/// A gain coefficient (UG480, "ADC Calibration Coefficients").
#[bitfield(u32)]
pub(super) struct Gain {
    /// In tenths of a per cent.
    #[bits(6)]
    pub magnitude: u8,
    pub positive: bool,
    #[bits(25)]
    __: u32,
}

impl Gain {
    pub(super) fn percent(self) -> f64 {
        let magnitude = f64::from(self.magnitude()) / 10.0;
        if self.positive() { magnitude } else { -magnitude }
    }
}

/// "Configuration Register 0".
#[bitfield(u32)]
pub(super) struct Configuration0 {
    /// The channel in single-channel mode.
    #[bits(5)]
    pub channel: u8,
    #[bits(3)]
    __: u8,
    /// That channel gets more time to settle.
    pub acquisition: bool,
    /// Conversions start with an event, not by themselves.
    pub event_driven: bool,
    /// That channel is bipolar.
    pub bipolar: bool,
    #[bits(21)]
    __: u32,
}

/// "Configuration Register 1".
#[bitfield(u32)]
pub(super) struct Configuration1 {
    #[bits(12)]
    __: u16,
    /// What the sequencer does.
    #[bits(4)]
    pub sequencer: u8,
    __: u16,
}
