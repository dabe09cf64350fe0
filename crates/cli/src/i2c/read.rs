//! `jitney i2c read`: bytes of a device.

use super::place::Place;
use super::{OneBus, OpenBus};
use crate::contract::CardName;
use crate::progress::Progress;
use crate::report::Report;
use crate::status::{Misuse, Status};
use clap::Args;
use jitney_boards::designs::I2cKind;
use jitney_boards::iic::LONGEST_READ;
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write;

const HELP: &str = "\
Examples:
  jitney i2c read 10ee:7024 0x50:0 --count 256 --emulate TEF1001_dma_stream_crc64
  jitney i2c read 10ee:7024 0x40:0x8b --count 2 --emulate TEF1001_dma_stream_crc64
  jitney i2c read 10ee:7024 0x50 --emulate TEF1001_dma_stream_crc64

With a register, that is written to the device and it is read without letting go of the bus; without one, the device gives \
what it has next. Nothing else is written. Beyond 255 bytes a second transfer goes on where the first ended, as EEPROMs do. \
Nobody else can use the bus meanwhile.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Read {
    #[command(flatten)]
    bus: OneBus,
    /// The device by its address of 7 bits, and where in it: 0x50, 0x50:0x10.
    #[arg(value_name = "DEVICE[:REG]")]
    place: Place,
    /// How many bytes.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=0x1_0000))]
    count: u32,
    /// How many bytes a register's number has; two for a device that the boards file calls 24c32, else one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    register_bytes: Option<u8>,
}

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Bytes {
    #[serde(flatten)]
    card: CardName,
    bus: usize,
    address: u8,
    register: Option<u16>,
    bytes: Vec<u8>,
}

pub(crate) fn read(args: &Read, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let open = OpenBus::of(&args.bus)?;
    let Place { address, register } = args.place;
    let is_large = open.known(address).is_some_and(|own| own.device == I2cKind::Eeprom24c32);
    let wide = args.register_bytes.map_or(is_large, |bytes| bytes == 2);
    // A second byte would be data to a device whose registers have numbers of one: written, not read.
    if let Some(register) = register.filter(|register| *register > 0xff && !wide) {
        return Err(Misuse(format!(
            "register {register:#x} does not fit in one byte; --register-bytes 2, if the device at {address:#04x} has so many"
        ))
        .into());
    }
    let written = register.map(|register| {
        let [high, low] = register.to_be_bytes();
        if wide { vec![high, low] } else { vec![low] }
    });
    let count = usize::try_from(args.count)?;
    let mut progress = Progress::new(&mut report, "reading", Some(args.count.into()));
    let bytes = read_all(&open, address, written.as_deref(), count, |bytes| progress.advance(bytes))?;
    progress.end();
    if bytes.len() == 1 {
        report.line(format!("{:#04x}", bytes[0]));
    } else {
        report.line(hex(register.unwrap_or(0).into(), &bytes));
    }
    report.finish(&Bytes { card: open.card.clone(), bus: args.bus.bus, address, register, bytes })?;
    Ok(Status::Passed)
}

/// `count` bytes, in as many transfers as that takes, each of which is `told`.
pub(super) fn read_all(
    open: &OpenBus,
    address: u8,
    written: Option<&[u8]>,
    count: usize,
    mut told: impl FnMut(u64),
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        let part = LONGEST_READ.min(count - bytes.len());
        let first = bytes.is_empty();
        bytes.extend(match written {
            Some(written) if first => open.bus.write_read(address, written, part)?,
            _ => open.bus.read(address, part)?,
        });
        told(u64::try_from(part)?);
    }
    Ok(bytes)
}

/// Sixteen bytes in a line, with where they are and what they are as letters.
pub(super) fn hex(from: usize, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (offset, line) in (from..).step_by(16).zip(bytes.chunks(16)) {
        let words: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let letters = line.iter().map(|byte| match byte {
            0x20..0x7f => char::from(*byte),
            _ => '.',
        });
        // Writing to a string does not fail.
        let _ = writeln!(text, "{offset:04x}  {:47}  {}", words.join(" "), letters.collect::<String>());
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_numbers_and_letters() {
        let text = hex(0x20, b"ABCDEFGHIJKLMNOP\x01Q");
        assert_eq!(
            text,
            "0020  41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f 50  ABCDEFGHIJKLMNOP\n\
             0030  01 51                                            .Q"
        );
    }
}
