//! A regulator with two outputs that speaks PMBus, as an LTM4676A (PMBus 1.2, part II; LTM4676A data sheet).

use super::Device;
use std::time::Instant;

/// Commands (PMBus, "Command summary").
mod command {
    pub(super) const PAGE: u8 = 0x00;
    pub(super) const OPERATION: u8 = 0x01;
    pub(super) const CLEAR_FAULTS: u8 = 0x03;
    pub(super) const CAPABILITY: u8 = 0x19;
    pub(super) const VOUT_MODE: u8 = 0x20;
    pub(super) const VOUT_COMMAND: u8 = 0x21;
    pub(super) const STATUS_BYTE: u8 = 0x78;
    pub(super) const STATUS_WORD: u8 = 0x79;
    pub(super) const STATUS_VOUT: u8 = 0x7A;
    pub(super) const STATUS_CML: u8 = 0x7E;
    pub(super) const READ_VIN: u8 = 0x88;
    pub(super) const READ_IIN: u8 = 0x89;
    pub(super) const READ_VOUT: u8 = 0x8B;
    pub(super) const READ_IOUT: u8 = 0x8C;
    pub(super) const READ_TEMPERATURE_1: u8 = 0x8D;
    pub(super) const READ_TEMPERATURE_2: u8 = 0x8E;
    pub(super) const READ_POUT: u8 = 0x96;
    pub(super) const PMBUS_REVISION: u8 = 0x98;
    pub(super) const MFR_ID: u8 = 0x99;
    pub(super) const MFR_MODEL: u8 = 0x9A;
    pub(super) const MFR_SERIAL: u8 = 0x9E;
    pub(super) const MFR_SPECIAL_ID: u8 = 0xE7;
}

/// LINEAR16 with an exponent of -12.
const VOUT_MODE: u8 = 0x14;
const INPUT_VOLTS: f64 = 12.03;
/// Of the status byte: something was wrong with a command.
const STATUS_CML: u8 = 1 << 1;
const CML_COMMAND: u8 = 1 << 7;
const CML_DATA: u8 = 1 << 6;
const CML_PEC: u8 = 1 << 5;

/// The regulator.
#[derive(Debug)]
pub struct Regulator {
    address: u8,
    /// What its outputs are set to, in units of 2^-12 V.
    outputs: [u16; 2],
    operation: [u8; 2],
    page: u8,
    cml: u8,
    command: u8,
    /// What was written since START, the command first.
    written: Vec<u8>,
    answer: Vec<u8>,
    read: usize,
    reads: u32,
}

impl Regulator {
    /// One at `address`, whose outputs give these volts.
    #[must_use]
    pub fn new(address: u8, volts: [f64; 2]) -> Self {
        Self {
            address,
            outputs: volts.map(linear16),
            operation: [0x80; 2],
            page: 0,
            cml: 0,
            command: 0,
            written: Vec::new(),
            answer: Vec::new(),
            read: 0,
            reads: 0,
        }
    }

    /// The output that the page means; both is the first, for what is read.
    fn output(&self) -> usize {
        usize::from(self.page == 1)
    }

    /// The data that a command reads; `None` if there is no such command to read.
    fn data(&self) -> Option<Vec<u8>> {
        let volts = f64::from(self.outputs[self.output()]) / 4096.0;
        let on = self.operation[self.output()] & 0x80 != 0;
        let volts = if on { volts } else { 0.0 };
        // Up and down by some milliamperes, with every reading.
        let amperes = if on { 2.5 + f64::from(self.reads % 4) / 64.0 } else { 0.0 };
        let word = |value: u16| Some(value.to_le_bytes().to_vec());
        let block = |text: &[u8]| {
            let length = u8::try_from(text.len()).unwrap_or(0);
            Some(std::iter::once(length).chain(text.iter().copied()).collect())
        };
        let status = if self.cml == 0 { 0 } else { STATUS_CML };
        match self.command {
            command::PAGE => Some(vec![self.page]),
            command::OPERATION => Some(vec![self.operation[self.output()]]),
            // PEC, 400 kHz, an alert line.
            command::CAPABILITY => Some(vec![0xB0]),
            command::VOUT_MODE => Some(vec![VOUT_MODE]),
            command::VOUT_COMMAND => word(self.outputs[self.output()]),
            command::STATUS_BYTE => Some(vec![status]),
            command::STATUS_WORD => word(status.into()),
            command::STATUS_VOUT => Some(vec![0]),
            command::STATUS_CML => Some(vec![self.cml]),
            command::READ_VIN => word(linear11(INPUT_VOLTS)),
            command::READ_IIN => word(linear11(volts * amperes / INPUT_VOLTS / 0.9)),
            command::READ_VOUT => word(linear16(volts)),
            command::READ_IOUT => word(linear11(amperes)),
            command::READ_TEMPERATURE_1 => word(linear11(41.5)),
            command::READ_TEMPERATURE_2 => word(linear11(44.0)),
            command::READ_POUT => word(linear11(volts * amperes)),
            command::PMBUS_REVISION => Some(vec![0x22]),
            command::MFR_ID => block(b"LTC"),
            command::MFR_MODEL => block(b"LTM4676A"),
            command::MFR_SERIAL => block(&[0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, self.address]),
            command::MFR_SPECIAL_ID => word(0x47E1),
            _ => None,
        }
    }

    /// Does what was written since START, once STOP has come.
    fn execute(&mut self) {
        let written = std::mem::take(&mut self.written);
        let Some((command, data)) = written.split_first() else { return };
        let length = match *command {
            command::CLEAR_FAULTS => 0,
            command::PAGE | command::OPERATION => 1,
            command::VOUT_COMMAND => 2,
            // A command that is read follows, or there is none to write.
            _ if data.is_empty() => return,
            _ => {
                self.cml |= CML_COMMAND;
                return;
            }
        };
        if data.is_empty() && length > 0 {
            return;
        }
        let data = match data.split_at_checked(length) {
            Some((data, [])) => data,
            Some((data, [pec])) => {
                let all = [&[self.address << 1], &written[..=length]].concat();
                if crc8(&all) != *pec {
                    self.cml |= CML_PEC;
                    return;
                }
                data
            }
            _ => {
                self.cml |= CML_DATA;
                return;
            }
        };
        let pages = if self.page == 0xFF { 0..2 } else { self.output()..self.output() + 1 };
        match (*command, data) {
            (command::CLEAR_FAULTS, _) => self.cml = 0,
            (command::PAGE, [page @ (0 | 1 | 0xFF)]) => self.page = *page,
            (command::OPERATION, [value]) => self.operation[pages].fill(*value),
            (command::VOUT_COMMAND, [low, high]) => {
                self.outputs[pages].fill(u16::from_le_bytes([*low, *high]));
            }
            _ => self.cml |= CML_DATA,
        }
    }
}

impl Device for Regulator {
    fn start(&mut self, read: bool, _now: Instant) -> bool {
        if !read {
            self.written.clear();
            return true;
        }
        // Without a command before it there is nothing to read but what was read last.
        if let Some(command) = self.written.first() {
            self.command = *command;
        }
        self.written.clear();
        self.reads = self.reads.wrapping_add(1);
        self.read = 0;
        self.answer = match self.data() {
            Some(data) => {
                let all = [&[self.address << 1, self.command, self.address << 1 | 1], &*data].concat();
                data.into_iter().chain([crc8(&all)]).collect()
            }
            None => {
                self.cml |= CML_COMMAND;
                Vec::new()
            }
        };
        true
    }

    fn write(&mut self, byte: u8) -> bool {
        if self.written.len() > 34 {
            self.cml |= CML_DATA;
            return false;
        }
        self.written.push(byte);
        true
    }

    fn read(&mut self) -> u8 {
        let byte = self.answer.get(self.read).copied().unwrap_or(0xFF);
        self.read += 1;
        byte
    }

    fn stop(&mut self, _now: Instant) {
        self.execute();
    }
}

/// Volts in units of 2^-12.
fn linear16(volts: f64) -> u16 {
    to_integer(volts * 4096.0).clamp(0, 0xFFFF).try_into().unwrap_or(0)
}

/// A number with 11 bits of mantissa and 5 of exponent, both signed, as precise as it can be.
fn linear11(value: f64) -> u16 {
    let exponent = (-16..=15).find(|exponent| (value / 2_f64.powi(*exponent)).abs() < 1023.5).unwrap_or(15);
    let mantissa = to_integer(value / 2_f64.powi(exponent)).clamp(-1024, 1023);
    let word = (exponent & 0x1F) << 11 | mantissa & 0x7FF;
    u16::try_from(word).unwrap_or(0)
}

fn to_integer(value: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and what is given here is small")]
    let integer = value.round() as i32;
    integer
}

/// The packet error code: CRC8 with the polynomial 0x07 (SMBus 2.0, "Packet error code").
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regulator() -> Regulator {
        Regulator::new(0x40, [4.0, 1.5])
    }

    fn write(regulator: &mut Regulator, bytes: &[u8]) {
        assert!(regulator.start(false, Instant::now()) && bytes.iter().all(|byte| regulator.write(*byte)));
        regulator.stop(Instant::now());
    }

    fn read(regulator: &mut Regulator, command: u8, count: usize) -> Vec<u8> {
        assert!(regulator.start(false, Instant::now()) && regulator.write(command));
        assert!(regulator.start(true, Instant::now()));
        let bytes = (0..count).map(|_| regulator.read()).collect();
        regulator.stop(Instant::now());
        bytes
    }

    #[test]
    fn pages_are_the_outputs() {
        let mut own = regulator();
        assert_eq!(read(&mut own, 0x8B, 2), 0x4000_u16.to_le_bytes());
        write(&mut own, &[0x00, 1]);
        assert_eq!(read(&mut own, 0x8B, 2), 0x1800_u16.to_le_bytes());
        write(&mut own, &[0x00, 0xFF]);
        write(&mut own, &[0x01, 0x00]);
        assert_eq!(read(&mut own, 0x8B, 2), [0, 0], "both are off");
    }

    #[test]
    fn numbers_are_linear() {
        assert_eq!(linear11(12.03), 0xD302, "770 of 1/64");
        assert_eq!(linear11(0.0), 0x8000);
        assert_eq!(linear11(-1.0), 0xBE00, "-512 of 2^-9");
        assert_eq!(crc8(b"123456789"), 0xF4);
    }

    #[test]
    fn a_code_ends_what_is_read_and_may_end_what_is_written() {
        let mut own = regulator();
        let bytes = read(&mut own, 0x99, 5);
        assert_eq!(bytes[..4], *b"\x03LTC");
        assert_eq!(bytes[4], crc8(&[0x80, 0x99, 0x81, 3, b'L', b'T', b'C']));
        write(&mut own, &[0x00, 1, crc8(&[0x80, 0x00, 1])]);
        assert_eq!((read(&mut own, 0x00, 1), own.cml), (vec![1], 0));
        write(&mut own, &[0x00, 0, 0x55]);
        assert_eq!((read(&mut own, 0x00, 1), read(&mut own, 0x7E, 1)), (vec![1], vec![CML_PEC]));
    }

    #[test]
    fn what_it_does_not_know_is_noted_until_it_is_cleared() {
        let mut own = regulator();
        assert_eq!(read(&mut own, 0xC9, 1), [0xFF]);
        assert_eq!(read(&mut own, 0x79, 2), [STATUS_CML, 0]);
        write(&mut own, &[0x03]);
        assert_eq!(read(&mut own, 0x79, 2), [0, 0]);
        write(&mut own, &[0x00, 7]);
        assert_eq!(read(&mut own, 0x7E, 1), [CML_DATA]);
    }
}
