//! XADC Wizard (PG091) with the 7-series XADC behind it (UG480): temperature and supply voltages of the FPGA.
//!
//! The values move around those that such boards showed, as a function of how many conversions were made; every read of
//! a register makes one. So a run can be repeated, and minimum and maximum are those of what was really converted.

use super::alarms::{Alarms, LIMITS as PLACES};
use super::{Peripheral, merge};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How the design set the XADC up: what its registers hold after configuration of the FPGA or a reset of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Single-channel mode on the temperature: the supplies show a value but have neither minimum nor maximum.
    Factory,
    /// Continuous sequence of temperature, supplies, VP/VN (bipolar), calibration and VAUX14.
    Sequenced,
}

// Registers of the wizard (PG091, "Register Space").
const SOFT_RESET: u32 = 0x000;
const SOFT_RESET_KEY: u32 = 0xA;
const WIZARD_STATUS: u32 = 0x004;
/// End of sequence and of conversion: they come round all the time.
const STATUS_ENDS: u32 = 0x60;
// Registers of the XADC: 0x200 plus four times their DRP address (UG480, "Register Interface").
const XADC: u32 = 0x200;
const VP_VN: u32 = 0x20C;

/// DRP addresses.
mod drp {
    pub(super) const TEMPERATURE: u32 = 0x00;
    pub(super) const VCCINT: u32 = 0x01;
    pub(super) const VCCAUX: u32 = 0x02;
    pub(super) const VP_VN: u32 = 0x03;
    pub(super) const VREFP: u32 = 0x04;
    pub(super) const VREFN: u32 = 0x05;
    pub(super) const VBRAM: u32 = 0x06;
    pub(super) const OFFSETS_A: u32 = 0x08;
    pub(super) const GAIN_A: u32 = 0x0A;
    pub(super) const VAUX: u32 = 0x10;
    pub(super) const MAXIMA: u32 = 0x20;
    pub(super) const MINIMA: u32 = 0x24;
    pub(super) const OFFSETS_B: u32 = 0x30;
    pub(super) const GAIN_B: u32 = 0x32;
    pub(super) const FLAGS: u32 = 0x3F;
    pub(super) const CONFIGURATION: u32 = 0x40;
    pub(super) const CONFIGURATION_END: u32 = 0x60;
    /// Configuration register 1, from `CONFIGURATION`.
    pub(super) const SEQUENCER_MODE: usize = 1;
    pub(super) const SELECT_LOWER: usize = 0x08;
    pub(super) const SELECT_UPPER: usize = 0x09;
}

/// The four quantities with a minimum and a maximum, in the order of those registers: DRP address, bit in the lower
/// select word, typical 12-bit code of the factory and of the sequenced image, and how far it wanders.
const MONITORED: [(u32, u32, [u16; 2], u16); 4] = [
    (drp::TEMPERATURE, 1 << 8, [0x9C7, 0xA2D], 6),
    (drp::VCCINT, 1 << 9, [0x57E, 0x57E], 1),
    (drp::VCCAUX, 1 << 10, [0x983, 0x983], 1),
    (drp::VBRAM, 1 << 14, [0x57D, 0x57D], 1),
];
const SELECT_VP_VN: u32 = 1 << 11;
const SELECT_VREFP: u32 = 1 << 12;
/// 1.25 V of 3 V.
const VREFP_CODE: u16 = 0x6AA;
/// 0.3 V of 1 V: what the one auxiliary input in use shows.
const VAUX14_CODE: u16 = 0x4CC;
/// 1 code of offset at the dedicated input.
const VP_VN_CODE: u16 = 0x001;
/// A 12-bit code in a register: the upper bits of 16.
const fn register(code: u16) -> u32 {
    (code as u32) << 4
}

/// Of −7 and −11 codes, as those boards' two converters show; gain correction +6.3 %, the end of its range.
const OFFSET_A: u32 = 0xFF90;
const OFFSET_B: u32 = 0xFF50;
const GAIN: u32 = 0x7F;
const NO_MINIMUM: u32 = 0xFFF0;

/// Limits as designs have them: DRP address and value. 85 °C, back at 60 °C; the supplies 5 % up and down; off at 125 °C, back at 70 °C.
const LIMITS: [(u32, u32); 10] = [
    (PLACES[0].upper, 0xB5ED),
    (PLACES[0].lower, 0xA93A),
    (PLACES[1].upper, 0x5999),
    (PLACES[1].lower, 0x5111),
    (PLACES[2].upper, 0xA147),
    (PLACES[2].lower, 0x91EB),
    (PLACES[3].upper, 0xCA33),
    (PLACES[3].lower, 0xAE4E),
    (PLACES[4].upper, 0x5999),
    (PLACES[4].lower, 0x5111),
];

struct State {
    image: Image,
    conversions: u32,
    /// Configuration and sequencer registers, DRP 0x40 to 0x5F.
    configuration: [u32; 32],
    values: [u32; 4],
    maxima: [u32; 4],
    minima: [u32; 4],
    alarms: Alarms,
}

impl State {
    fn new(image: Image) -> Self {
        let mut configuration = [0; 32];
        // Clock divider; then the mode in bits 15:12, calibration, and the alarm of VBRAM off (UG480, "Control Registers").
        configuration[0x02] = 0x0400;
        for (address, limit) in LIMITS {
            configuration[(address - drp::CONFIGURATION) as usize] = limit;
        }
        match image {
            Image::Factory => configuration[drp::SEQUENCER_MODE] = 0x31A0,
            Image::Sequenced => {
                configuration[drp::SEQUENCER_MODE] = 0x21A0;
                configuration[drp::SELECT_LOWER] = 0x4F01;
                configuration[drp::SELECT_UPPER] = 0x4000;
                // VP/VN is bipolar; VP/VN and VAUX14 settle for longer.
                configuration[0x0C] = 0x0800;
                configuration[0x0E] = 0x0800;
                configuration[0x0F] = 0x4000;
            }
        }
        let values = MONITORED.map(|(_, _, typical, _)| register(typical[image as usize]));
        let mut state = Self {
            image,
            conversions: 0,
            configuration,
            values,
            maxima: [0; 4],
            minima: [NO_MINIMUM; 4],
            alarms: Alarms::default(),
        };
        state.convert();
        state
    }

    /// What the sequencer converts: the lower and the upper select word.
    fn selected(&self) -> (u32, u32) {
        const DEFAULT: u32 = 0x4701;
        match self.configuration[drp::SEQUENCER_MODE] >> 12 & 0xF {
            3 => match self.configuration[0] & 0x1F {
                channel @ 0..8 => (1 << (8 + channel), 0),
                channel @ 8..16 => (1 << (channel - 8), 0),
                channel => (0, 1 << (channel - 16)),
            },
            1 | 2 | 4..8 => (self.configuration[drp::SELECT_LOWER], self.configuration[drp::SELECT_UPPER]),
            // Independent converters monitor the card whatever was selected.
            8..12 => {
                let (lower, upper) =
                    (self.configuration[drp::SELECT_LOWER], self.configuration[drp::SELECT_UPPER]);
                (lower | DEFAULT, upper)
            }
            _ => (DEFAULT, 0),
        }
    }

    /// Converts every selected quantity once.
    fn convert(&mut self) {
        self.conversions = self.conversions.wrapping_add(1);
        let (lower, _) = self.selected();
        for (index, (address, select, typical, range)) in MONITORED.into_iter().enumerate() {
            if lower & select != 0 {
                let code = wander(typical[self.image as usize], range, self.conversions, address);
                self.values[index] = register(code);
                self.maxima[index] = self.maxima[index].max(self.values[index]);
                self.minima[index] = self.minima[index].min(self.values[index]);
                let limit = |address: u32| self.configuration[(address - drp::CONFIGURATION) as usize] & !0xF;
                self.alarms.watch(index, self.values[index], limit);
            }
        }
    }

    /// The register at a DRP address.
    fn read(&self, address: u32) -> u32 {
        let (lower, upper) = self.selected();
        let if_selected = |select, code| if select { register(code) } else { 0 };
        if let Some(index) = MONITORED.iter().position(|(monitored, ..)| *monitored == address) {
            return self.values[index];
        }
        match address {
            drp::VP_VN => if_selected(lower & SELECT_VP_VN != 0, VP_VN_CODE),
            drp::VREFP => if_selected(lower & SELECT_VREFP != 0, VREFP_CODE),
            drp::VREFN => 0,
            drp::OFFSETS_A..drp::GAIN_A => OFFSET_A,
            drp::OFFSETS_B..drp::GAIN_B => OFFSET_B,
            drp::GAIN_A | drp::GAIN_B => GAIN,
            drp::VAUX..drp::MAXIMA => {
                let input = address - drp::VAUX;
                if_selected(input == 14 && upper & 1 << input != 0, VAUX14_CODE)
            }
            drp::MAXIMA..drp::MINIMA => self.maxima[(address - drp::MAXIMA) as usize],
            drp::MINIMA..0x28 => self.minima[(address - drp::MINIMA) as usize],
            drp::FLAGS => self.alarms.flags(self.configuration[drp::SEQUENCER_MODE]),
            drp::CONFIGURATION..drp::CONFIGURATION_END => {
                self.configuration[(address - drp::CONFIGURATION) as usize]
            }
            _ => 0,
        }
    }
}

/// A slow triangle of `range` codes around `typical`, and on it one code of noise.
fn wander(typical: u16, range: u16, conversion: u32, quantity: u32) -> u16 {
    // A full swing takes 1024 conversions; the quantities are not in step.
    let phase = conversion.wrapping_add(quantity * 300) % 1024;
    let triangle = if phase < 512 { phase } else { 1024 - phase };
    let slow = triangle * (2 * u32::from(range)) / 512;
    let noise = conversion.wrapping_mul(0x9E37_79B9).rotate_left(quantity * 7) >> 31;
    typical - range + u16::try_from(slow + noise).unwrap_or(0)
}

/// The peripheral.
pub struct Xadc(Mutex<State>);

impl Xadc {
    /// The sensors of a running card, in what this image has them do.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self(Mutex::new(State::new(image)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peripheral for Xadc {
    fn read(&self, offset: u32) -> u32 {
        let mut state = self.state();
        match offset {
            WIZARD_STATUS => STATUS_ENDS,
            XADC.. => {
                state.convert();
                state.read((offset - XADC) / 4)
            }
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let mut state = self.state();
        match offset {
            VP_VN => *state = State::new(state.image),
            SOFT_RESET if value == SOFT_RESET_KEY => *state = State::new(state.image),
            XADC.. => {
                let address = (offset - XADC) / 4;
                if (drp::CONFIGURATION..drp::CONFIGURATION_END).contains(&address) {
                    let word = &mut state.configuration[(address - drp::CONFIGURATION) as usize];
                    *word = merge(*word, value, lanes) & 0xFFFF;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn celsius(register: u32) -> f64 {
        f64::from(register >> 4) * 503.975 / 4096.0 - 273.15
    }

    #[test]
    fn readings_stay_near_what_the_boards_showed() {
        for (image, expected) in [(Image::Factory, 34.8), (Image::Sequenced, 47.4)] {
            let xadc = Xadc::new(image);
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..5000 {
                let temperature = xadc.read(0x200);
                seen.insert(temperature);
                assert!((celsius(temperature) - expected).abs() < 1.2, "{temperature:#x}");
                for (offset, volts) in [(0x204, 1.03), (0x208, 1.783), (0x218, 1.029)] {
                    let reading = f64::from(xadc.read(offset) >> 4) * 3.0 / 4096.0;
                    assert!((reading - volts).abs() < 0.002, "{offset:#x}: {reading}");
                }
            }
            assert!(seen.len() > 5, "it moves");
        }
    }

    #[test]
    fn minimum_and_maximum_enclose_every_reading_until_they_are_reset() {
        let xadc = Xadc::new(Image::Sequenced);
        for _ in 0..2000 {
            let value = xadc.read(0x200);
            assert!(xadc.read(0x290) <= value && value <= xadc.read(0x280));
        }
        let spread = || xadc.read(0x280) - xadc.read(0x290);
        assert!(spread() >= 0x80);
        xadc.write(0x20C, 0, u32::MAX);
        assert!(spread() <= 0x20);
    }

    #[test]
    fn the_factory_image_converts_the_temperature_alone() {
        let xadc = Xadc::new(Image::Factory);
        assert_eq!(xadc.read(0x304) >> 12, 3);
        assert_eq!(xadc.read(0x300) & 0x1F, 0);
        assert_eq!((xadc.read(0x208), xadc.read(0x20C), xadc.read(0x278)), (0x9830, 0, 0));
        for offset in [0x284, 0x288, 0x28C] {
            assert_eq!((xadc.read(offset), xadc.read(offset + 0x10)), (0, 0xFFF0));
        }
        assert_ne!(xadc.read(0x280), 0);
    }

    #[test]
    fn the_sequenced_image_shows_its_channels_and_calibration() {
        let xadc = Xadc::new(Image::Sequenced);
        assert_eq!((xadc.read(0x304) >> 12, xadc.read(0x320), xadc.read(0x324)), (2, 0x4F01, 0x4000));
        assert_eq!((xadc.read(0x330), xadc.read(0x338), xadc.read(0x33C)), (0x0800, 0x0800, 0x4000));
        assert_eq!((xadc.read(0x220), xadc.read(0x224), xadc.read(0x228)), (0xFF90, 0xFF90, 0x7F));
        assert_eq!((xadc.read(0x2C0), xadc.read(0x2C4), xadc.read(0x2C8)), (0xFF50, 0xFF50, 0x7F));
        assert_eq!((xadc.read(0x278), xadc.read(0x240)), (0x4CC0, 0));
        assert_ne!(xadc.read(0x28C), 0);
    }

    #[test]
    fn a_limit_that_is_passed_raises_its_alarm_and_only_that() {
        let xadc = Xadc::new(Image::Sequenced);
        let flags = || xadc.read(0x2FC);
        assert_eq!(flags(), 0);
        // VCCAUX, at 1.78 V, must be 1.9 V at least.
        xadc.write(0x358, 0xA200, u32::MAX);
        assert_eq!(flags(), 1 << 2);
        xadc.write(0x358, 0x9000, u32::MAX);
        assert_eq!(flags(), 0, "a supply's alarm ends with its reason");
        // 40 °C is too hot, until it is below 30 °C.
        xadc.write(0x340, 0x9F00, u32::MAX);
        xadc.write(0x350, 0x9A00, u32::MAX);
        assert_eq!(flags(), 1 << 0);
        xadc.write(0x340, 0xB5ED, u32::MAX);
        assert_eq!(flags(), 1 << 0, "between the two limits it stays");
        xadc.write(0x350, 0xA93A, u32::MAX);
        assert_eq!(flags(), 0);
        // What is switched off says nothing.
        xadc.write(0x34C, 0x9F00, u32::MAX);
        assert_eq!(flags(), 1 << 3, "over-temperature");
        xadc.write(0x304, 0x21A1, u32::MAX);
        assert_eq!(flags(), 0);
    }

    #[test]
    fn software_can_change_the_mode() {
        let xadc = Xadc::new(Image::Factory);
        xadc.write(0x304, 0x00A0, u32::MAX);
        assert!(xadc.read(0x294) != 0xFFF0, "the default mode converts the supplies");
        xadc.write(0x304, 0xFFFF_1234, 0xFFFF_FF00);
        assert_eq!(xadc.read(0x304), 0x12A0);
        xadc.write(0x000, 0xA, u32::MAX);
        assert_eq!(xadc.read(0x304), 0x31A0);
        assert_eq!(xadc.read(0xFFFC), 0);
    }
}
