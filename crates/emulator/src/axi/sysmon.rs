//! System Management Wizard (PG185) with the UltraScale SYSMON behind it (UG580): temperature and supply voltages of
//! each die.
//!
//! As of the XADC's model, every read of a register makes one conversion, so that a run can be repeated.

use super::alarms::{Alarms, LIMITS as PLACES};
use super::{Peripheral, merge};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes from the registers of one die to those of the next.
const DIE: u32 = 0x800;
// Registers of the wizard, for all dies (PG185, "Register Space").
const SOFT_RESET: u32 = 0x000;
const SOFT_RESET_KEY: u32 = 0xA;
const WIZARD_STATUS: u32 = 0x004;
/// End of sequence and of conversion: they come round all the time.
const STATUS_ENDS: u32 = 0x60;
// Registers of a die's SYSMON: 0x400 plus four times their DRP address (UG580, "Register Interface").
const SYSMON: u32 = 0x400;
const VP_VN: u32 = 0x40C;
const VREFP: u32 = 0x410;
const MAXIMA: u32 = 0x480;
const MINIMA: u32 = 0x490;
const FLAGS: u32 = 0x4FC;
/// The internal reference is in use.
const FLAG_INTERNAL_REFERENCE: u32 = 1 << 9;
const CONFIGURATION: u32 = 0x500;
const CONFIGURATION_END: u32 = 0x600;
/// Continuous sequence, alarms off (UG580, "Configuration Register 1").
const CONFIGURATION_1: u32 = 0x21A0;
/// Sequence of calibration, temperature, VCCINT, VCCAUX and VBRAM (UG580, "Sequencer Channel Selection").
const SELECT_LOWER: u32 = 0x4701;

/// The quantities with a minimum and a maximum, in the order of those registers: offset, and the typical 10-bit code:
/// 45 °C, 0.85 V, 1.8 V and 0.85 V.
const MONITORED: [(u32, u32); 4] = [(0x400, 654), (0x404, 290), (0x408, 614), (0x418, 290)];
/// 1.25 V of 3 V.
const VREFP_CODE: u32 = 427;

/// A 10-bit code in a register: the upper bits of 16.
const fn register(code: u32) -> u32 {
    code << 6
}

/// Limits as designs have them: DRP address and value. 85 °C, back at 60 °C; the supplies 5 % up and down; off at 125 °C, back at 70 °C.
const LIMITS: [(u32, u32); 10] = [
    (PLACES[0].upper, 0xB790),
    (PLACES[0].lower, 0xAB02),
    (PLACES[1].upper, 0x4C28),
    (PLACES[1].lower, 0x44E8),
    (PLACES[2].upper, 0xA147),
    (PLACES[2].lower, 0x91EB),
    (PLACES[3].upper, 0xCB03),
    (PLACES[3].lower, 0xB008),
    (PLACES[4].upper, 0x4C28),
    (PLACES[4].lower, 0x44E8),
];
/// The DRP address of the first configuration register.
const CONFIGURATION_DRP: u32 = 0x40;

/// One die's monitor.
#[derive(Debug, Clone)]
struct Die {
    /// Codes by which it is warmer than the first one.
    warmer: u32,
    conversions: u32,
    configuration: [u32; ((CONFIGURATION_END - CONFIGURATION) / 4) as usize],
    values: [u32; 4],
    maxima: [u32; 4],
    minima: [u32; 4],
    alarms: Alarms,
}

impl Die {
    fn new(number: u8) -> Self {
        let mut configuration = [0; _];
        configuration[1] = CONFIGURATION_1;
        configuration[((0x520 - CONFIGURATION) / 4) as usize] = SELECT_LOWER;
        for (address, limit) in LIMITS {
            configuration[(address - CONFIGURATION_DRP) as usize] = limit;
        }
        let mut die = Self {
            warmer: 2 * u32::from(number),
            conversions: 0,
            configuration,
            values: [0; 4],
            maxima: [0; 4],
            minima: [register(0x3ff); 4],
            alarms: Alarms::default(),
        };
        die.convert();
        die
    }

    /// Converts every quantity once. The temperature goes up and down by three codes, the supplies by one.
    fn convert(&mut self) {
        self.conversions = self.conversions.wrapping_add(1);
        let step = self.conversions / 64 % 6;
        let swing = step.min(6 - step);
        for (index, (_, typical)) in MONITORED.into_iter().enumerate() {
            let code = if index == 0 { typical + self.warmer + swing } else { typical + swing / 3 };
            self.values[index] = register(code);
            self.maxima[index] = self.maxima[index].max(self.values[index]);
            self.minima[index] = self.minima[index].min(self.values[index]);
            let limit = |address: u32| self.configuration[(address - CONFIGURATION_DRP) as usize] & 0xFFC0;
            self.alarms.watch(index, self.values[index], limit);
        }
    }

    fn read(&self, register_at: u32) -> u32 {
        if let Some(index) = MONITORED.iter().position(|(monitored, _)| *monitored == register_at) {
            return self.values[index];
        }
        match register_at {
            VREFP => register(VREFP_CODE),
            MAXIMA..MINIMA => self.maxima[((register_at - MAXIMA) / 4) as usize],
            MINIMA..0x4A0 => self.minima[((register_at - MINIMA) / 4) as usize],
            FLAGS => FLAG_INTERNAL_REFERENCE | self.alarms.flags(self.configuration[1]),
            CONFIGURATION..CONFIGURATION_END => {
                self.configuration[((register_at - CONFIGURATION) / 4) as usize]
            }
            _ => 0,
        }
    }
}

/// The peripheral.
#[derive(Debug)]
pub struct Sysmon(Mutex<Vec<Die>>);

impl Sysmon {
    /// A SYSMON with so many slaves, one for each further die of the FPGA.
    #[must_use]
    pub fn new(slaves: u8) -> Self {
        Self(Mutex::new((0..=slaves).map(Die::new).collect()))
    }

    fn dies(&self) -> MutexGuard<'_, Vec<Die>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The die that an offset means, and the register in it.
fn decode(offset: u32) -> (usize, u32) {
    ((offset / DIE) as usize, offset % DIE)
}

impl Peripheral for Sysmon {
    fn read(&self, offset: u32) -> u32 {
        let (number, register) = decode(offset);
        let mut dies = self.dies();
        match (dies.get_mut(number), register) {
            (Some(_), WIZARD_STATUS) if number == 0 => STATUS_ENDS,
            (Some(die), SYSMON..) => {
                die.convert();
                die.read(register)
            }
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let (number, register) = decode(offset);
        let mut dies = self.dies();
        if (number, register, value) == (0, SOFT_RESET, SOFT_RESET_KEY) {
            *dies = (0..).zip(dies.iter()).map(|(number, _)| Die::new(number)).collect();
            return;
        }
        let Some(die) = dies.get_mut(number) else { return };
        match register {
            VP_VN => *die = Die::new(u8::try_from(number).unwrap_or(u8::MAX)),
            CONFIGURATION..CONFIGURATION_END => {
                let word = &mut die.configuration[((register - CONFIGURATION) / 4) as usize];
                *word = merge(*word, value, lanes) & 0xFFFF;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the internal reference (UG580, "Temperature Sensor").
    fn celsius(register: u32) -> f64 {
        f64::from(register >> 6) * 509.314_006_4 / 1024.0 - 280.230_878_7
    }

    #[test]
    fn each_die_has_its_temperature_and_supplies() {
        let sysmon = Sysmon::new(2);
        for (die, expected) in [(0, 45.5), (1, 46.5), (2, 47.5)] {
            let base = die * DIE;
            for _ in 0..1000 {
                assert!((celsius(sysmon.read(base + 0x400)) - expected).abs() < 1.5);
                let vccint = f64::from(sysmon.read(base + 0x404) >> 6) * 3.0 / 1024.0;
                assert!((vccint - 0.85).abs() < 0.01, "{vccint}");
            }
            assert_eq!(sysmon.read(base + FLAGS), 0x200);
        }
        assert_eq!((sysmon.read(3 * DIE + 0x400), sysmon.read(DIE + WIZARD_STATUS)), (0, 0), "no such die");
    }

    #[test]
    fn extremes_enclose_every_reading_until_a_reset() {
        let sysmon = Sysmon::new(0);
        for _ in 0..2000 {
            let value = sysmon.read(0x400);
            assert!(sysmon.read(MINIMA) <= value && value <= sysmon.read(MAXIMA));
        }
        let spread = || sysmon.read(MAXIMA) - sysmon.read(MINIMA);
        assert_eq!(spread(), register(3));
        sysmon.write(VP_VN, 0, u32::MAX);
        assert_eq!(spread(), 0);
    }

    #[test]
    fn the_alarm_of_one_die_is_not_that_of_another() {
        let sysmon = Sysmon::new(1);
        let flags = |die: u32| sysmon.read(die * DIE + FLAGS);
        assert_eq!((flags(0), flags(1)), (0x200, 0x200));
        sysmon.write(DIE + 0x540, 0x9000, u32::MAX);
        assert_eq!((flags(0), flags(1)), (0x200, 0x201), "too hot above 6 °C");
        sysmon.write(DIE + 0x504, 0x21A2, u32::MAX);
        assert_eq!(flags(1), 0x200, "switched off");
        sysmon.write(0x544, 0x4000, u32::MAX);
        assert_eq!(flags(0), 0x202, "VCCINT above 0.75 V");
    }

    #[test]
    fn configuration_is_kept_until_a_reset_of_the_wizard() {
        let sysmon = Sysmon::new(1);
        sysmon.write(DIE + 0x504, 0xFFFF_3000, u32::MAX);
        assert_eq!(
            (sysmon.read(DIE + 0x504), sysmon.read(0x504), sysmon.read(0x520)),
            (0x3000, 0x21A0, 0x4701)
        );
        sysmon.write(SOFT_RESET, SOFT_RESET_KEY, u32::MAX);
        assert_eq!(sysmon.read(DIE + 0x504), 0x21A0);
    }
}
