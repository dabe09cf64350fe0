//! PMBus: regulators that tell their voltages, currents and temperatures over I2C (PMBus 1.2, part II; SMBus 2.0).

use crate::error::{Error, Result};
use crate::iic::LeasedIic;
use crate::sensor::Quantity::{Current, Power, Temperature, Voltage};
use crate::sensor::Reading;
use jitney_vfio::ErrorKind;
use serde::Serialize;

const PAGE: u8 = 0x00;
const CLEAR_FAULTS: u8 = 0x03;
const VOUT_MODE: u8 = 0x20;
const STATUS_WORD: u8 = 0x79;
const READ_VIN: u8 = 0x88;
const READ_IIN: u8 = 0x89;
const READ_VOUT: u8 = 0x8b;
const READ_IOUT: u8 = 0x8c;
const READ_TEMPERATURE_1: u8 = 0x8d;
const READ_TEMPERATURE_2: u8 = 0x8e;
const READ_POUT: u8 = 0x96;
const PMBUS_REVISION: u8 = 0x98;
const MFR_ID: u8 = 0x99;
const MFR_MODEL: u8 = 0x9a;
const MFR_SERIAL: u8 = 0x9e;
/// The longest block (SMBus 2.0, "Block write/read").
const LONGEST_BLOCK: usize = 32;

/// A LINEAR11 number: a mantissa of 11 bits and an exponent of 5, both signed (part II, "Linear data format").
#[must_use]
pub fn linear11(word: u16) -> f64 {
    let mantissa = (word << 5).cast_signed() >> 5;
    let exponent = word.cast_signed() >> 11;
    f64::from(mantissa) * 2_f64.powi(exponent.into())
}

/// A LINEAR16 number, whose exponent is in `mode`, as VOUT_MODE reads it. `None` if that says that it is no such number.
#[must_use]
pub fn linear16(word: u16, mode: u8) -> Option<f64> {
    let exponent = (mode << 3).cast_signed() >> 3;
    (mode >> 5 == 0).then(|| f64::from(word) * 2_f64.powi(exponent.into()))
}

/// The packet error code of `bytes`, the addresses included (SMBus 2.0, "Packet error code").
#[must_use]
pub fn packet_error_code(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

/// What the bits of STATUS_WORD that are set mean, the most significant first.
#[must_use]
pub fn status_words(status: u16) -> Vec<&'static str> {
    const NAMES: [&str; 16] = [
        "none of the above",
        "communication or logic",
        "temperature",
        "input undervoltage",
        "output overcurrent",
        "output overvoltage",
        "off",
        "busy",
        "unknown",
        "other",
        "fan",
        "power not good",
        "manufacturer specific",
        "input",
        "output current or power",
        "output voltage",
    ];
    (0_u8..16).rev().filter(|bit| status >> bit & 1 == 1).map(|bit| NAMES[usize::from(bit)]).collect()
}

/// Who a regulator is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegulatorId {
    /// Its maker, `LTC`.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// The revisions of PMBus, parts I and II, that it keeps to, as it says them.
    pub revision: u8,
}

/// What an output of a regulator says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// Which one, from 0.
    pub page: u8,
    /// What it measures.
    pub readings: Vec<Reading>,
    /// STATUS_WORD; see [`status_words`].
    pub status: u16,
}

/// A regulator at an address of a bus.
#[derive(Debug, Clone, Copy)]
pub struct Regulator<'a> {
    bus: &'a LeasedIic,
    address: u8,
}

impl<'a> Regulator<'a> {
    /// The one at `address` of `bus`.
    #[must_use]
    pub const fn new(bus: &'a LeasedIic, address: u8) -> Self {
        Self { bus, address }
    }

    /// Who it is. Nothing is written but what to read.
    ///
    /// # Errors
    /// What the [bus](LeasedIic::write_read) answers, and [`ErrorKind::Protocol`] if its packet error code is wrong or a
    /// block is longer than it may be; so do all others.
    pub fn id(&self) -> Result<RegulatorId> {
        let text = |bytes: Vec<u8>| {
            let letters =
                bytes.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte));
            letters.collect::<String>().trim().to_owned()
        };
        let serial = self.block(MFR_SERIAL)?.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(RegulatorId {
            manufacturer: text(self.block(MFR_ID)?),
            model: text(self.block(MFR_MODEL)?),
            serial,
            revision: self.byte(PMBUS_REVISION)?,
        })
    }

    /// What outputs 0 to `outputs` less one say. The page is written for each, and put back as it was.
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub fn outputs(&self, outputs: u8) -> Result<Vec<Output>> {
        let before = self.byte(PAGE)?;
        let found: Result<Vec<Output>> = (0..outputs).map(|page| self.output(page)).collect();
        self.set_page(before)?;
        found
    }

    fn output(&self, page: u8) -> Result<Output> {
        self.set_page(page)?;
        let mode = self.byte(VOUT_MODE)?;
        let volts = linear16(self.word(READ_VOUT)?, mode);
        let mut readings: Vec<Reading> =
            volts.map(|volts| Reading::new("output", Voltage, volts)).into_iter().collect();
        for (name, quantity, command) in [
            ("output", Current, READ_IOUT),
            ("output", Power, READ_POUT),
            ("input", Voltage, READ_VIN),
            ("input", Current, READ_IIN),
            ("temperature 1", Temperature, READ_TEMPERATURE_1),
            ("temperature 2", Temperature, READ_TEMPERATURE_2),
        ] {
            readings.push(Reading::new(name, quantity, linear11(self.word(command)?)));
        }
        Ok(Output { page, readings, status: self.word(STATUS_WORD)? })
    }

    /// Forgets the faults that it has noted.
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub fn clear_faults(&self) -> Result<()> {
        self.write(&[CLEAR_FAULTS])
    }

    fn set_page(&self, page: u8) -> Result<()> {
        self.write(&[PAGE, page])
    }

    /// Writes a command and its data, with the packet error code behind them.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        let code = packet_error_code(&[&[self.address << 1], bytes].concat());
        self.bus.write(self.address, &[bytes, &[code]].concat())
    }

    fn byte(&self, command: u8) -> Result<u8> {
        self.checked(command, 1).map(|bytes| bytes[0])
    }

    fn word(&self, command: u8) -> Result<u16> {
        self.checked(command, 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// A block, whose first byte says how long it is.
    fn block(&self, command: u8) -> Result<Vec<u8>> {
        // The length is read first: what is read beyond a block is an error that the regulator notes.
        let length = usize::from(self.bus.write_read(self.address, &[command], 1)?[0]);
        if length > LONGEST_BLOCK {
            return Err(
                self.protocol(command, &format!("a block of {length} bytes, more than {LONGEST_BLOCK}"))
            );
        }
        let mut bytes = self.checked(command, length + 1)?;
        bytes.remove(0);
        Ok(bytes)
    }

    /// `count` bytes that their packet error code vouches for.
    fn checked(&self, command: u8, count: usize) -> Result<Vec<u8>> {
        let mut bytes = self.bus.write_read(self.address, &[command], count + 1)?;
        let code = bytes.pop();
        let all = [&[self.address << 1, command, self.address << 1 | 1], &*bytes].concat();
        if code == Some(packet_error_code(&all)) {
            return Ok(bytes);
        }
        Err(self.protocol(
            command,
            "bytes that their packet error code does not fit to, or knows no such command",
        ))
    }

    fn protocol(&self, command: u8, what: &str) -> Error {
        let what =
            format!("the regulator at {:#04x} answers command {command:#04x} with {what}", self.address);
        jitney_vfio::Error::new(ErrorKind::Protocol, what).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_data_sheets_give_them() {
        for (word, value) in
            [(0xd302, 12.031_25), (0xbe00, -1.0), (0x8000, 0.0), (0x07ff, -1.0), (0xf801, 0.5)]
        {
            assert_eq!(linear11(word), value, "{word:#06x}");
        }
        assert_eq!((linear16(0x1800, 0x14), linear16(0x1000, 0x14)), (Some(1.5), Some(1.0)));
        assert_eq!((linear16(3, 0x01), linear16(1, 0x20), linear16(1, 0x40)), (Some(6.0), None, None));
        assert_eq!(packet_error_code(b"123456789"), 0xf4);
    }

    #[test]
    fn status_bits_have_names() {
        assert_eq!(status_words(0x8802), ["output voltage", "power not good", "communication or logic"]);
        assert!(status_words(0).is_empty());
    }

    proptest! {
        #[test]
        fn any_word_is_a_number(word: u16, mode: u8) {
            prop_assert!(linear11(word).abs() <= 1024.0 * 32768.0);
            prop_assert!(linear16(word, mode).is_none_or(|value| (0.0..=65535.0 * 32768.0).contains(&value)));
            prop_assert!(status_words(word).len() == usize::try_from(word.count_ones()).unwrap());
        }
    }
}
