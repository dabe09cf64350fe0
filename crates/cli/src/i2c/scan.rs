//! `jitney i2c scan`: which addresses answer.

use super::place::address;
use super::{OneBus, OpenBus, words};
use crate::contract::CardName;
use crate::report::Report;
use crate::status::{Misuse, Status};
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use std::ops::RangeInclusive;

const HELP: &str = "\
Examples:
  jitney i2c scan 10ee:7024 --emulate TEF1001_dma_stream_crc64
  jitney i2c scan 10ee:7024 --emulate TEF1001_dma_stream_crc64 --from 0x40 --to 0x4f --json

No data is written to any device: each is addressed for a write of nothing, or, where such a write is known to harm \
(EEPROMs and their write protection, 0x30 to 0x37 and 0x50 to 0x5f), one byte is read. Nobody else can use the bus \
meanwhile. UU is what the boards file knows there, XX what it knows and what does not answer.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Scan {
    #[command(flatten)]
    bus: OneBus,
    /// The first address.
    #[arg(long, value_name = "ADDRESS", default_value = "0x08", value_parser = address)]
    from: u8,
    /// The last address.
    #[arg(long, value_name = "ADDRESS", default_value = "0x77", value_parser = address)]
    to: u8,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Found {
    #[serde(flatten)]
    card: CardName,
    bus: usize,
    devices: Vec<Device>,
}

/// An address at which a device answers, or should.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Device {
    address: u8,
    answers: bool,
    /// What the boards file says that it is.
    device: Option<String>,
    note: Option<String>,
}

pub(crate) fn scan(args: &Scan, json: bool) -> anyhow::Result<Status> {
    if args.from > args.to {
        return Err(Misuse(format!("{:#04x} to {:#04x} are no addresses", args.from, args.to)).into());
    }
    let report = Report::new(json);
    let open = OpenBus::of(&args.bus)?;
    let addresses = args.from..=args.to;
    let mut devices = Vec::new();
    for address in addresses.clone() {
        let answers = open.bus.probe(address)?;
        let known = open.known(address);
        if answers || known.is_some() {
            let device = known.map(|own| own.device.to_string());
            devices.push(Device { address, answers, device, note: known.and_then(|own| own.note.clone()) });
        }
    }
    report.line(grid(&addresses, &devices));
    for device in &devices {
        let known = open.known(device.address).map_or_else(|| "not in the boards file".to_owned(), words);
        let silent = if device.answers { "" } else { ", does not answer" };
        report.line(format!("{:#04x}  {known}{silent}", device.address));
    }
    if devices.is_empty() {
        report.line("no device answers");
    }
    report.finish(&Found { card: open.card.clone(), bus: args.bus.bus, devices })?;
    Ok(Status::Passed)
}

/// As `i2cdetect` prints it.
fn grid(addresses: &RangeInclusive<u8>, devices: &[Device]) -> String {
    let mut text = "     0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f".to_owned();
    for row in (addresses.start() & 0x70..=*addresses.end()).step_by(16) {
        text.push_str(&format!("\n{row:02x}:"));
        for address in row..row + 16 {
            let cell = match devices.iter().find(|device| device.address == address) {
                _ if !addresses.contains(&address) => "  ".to_owned(),
                None => "--".to_owned(),
                Some(Device { answers: false, .. }) => "XX".to_owned(),
                Some(Device { device: Some(_), .. }) => "UU".to_owned(),
                Some(Device { address, .. }) => format!("{address:02x}"),
            };
            text.push_str(&format!(" {cell}"));
        }
        text.truncate(text.trim_end().len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_has_a_row_for_sixteen_addresses() {
        let device = |address, answers, known: bool| Device {
            address,
            answers,
            device: known.then(|| "24c02".into()),
            note: None,
        };
        let devices = [device(0x40, true, true), device(0x41, true, false), device(0x50, false, true)];
        let grid = grid(&(0x3e..=0x51), &devices);
        let lines: Vec<&str> = grid.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1], "30:                                           -- --");
        assert!(lines[2].starts_with("40: UU 41 -- "), "{grid}");
        assert_eq!(lines[3], "50: XX --");
    }
}
