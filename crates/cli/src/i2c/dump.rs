//! `jitney i2c dump`: what the devices that are known say, in words.

use super::place::address;
use super::read::{hex, read_all};
use super::{OneBus, OpenBus, words};
use crate::contract::CardName;
use crate::report::Report;
use crate::say::say;
use crate::size::human;
use crate::status::{Misuse, Status};
use clap::Args;
use jitney_boards::designs::{I2cDevice, I2cKind};
use jitney_boards::pmbus::{Regulator, status_words};
use jitney_boards::spd::Spd;
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "\
Examples:
  jitney i2c dump 10ee:7024 --emulate TEF1001_dma_stream_crc64
  jitney i2c dump 10ee:7024 --emulate TEF1001_dma_stream_crc64 --device 0x50 --json

It is for devices that the design's boards file names (its key `i2c`); `jitney i2c read` is for any. To read all outputs of \
a regulator its page is written, and put back as it was; nothing else is written. Nobody else can use the bus meanwhile. The \
status is 1 if a device does not answer or makes no sense, 3 if the boards file names none.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Dump {
    #[command(flatten)]
    bus: OneBus,
    /// Only the device at this address.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    device: Option<u8>,
}

/// The devices of a bus.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Dumped {
    #[serde(flatten)]
    card: CardName,
    bus: usize,
    devices: Vec<Device>,
}

/// A device and what it says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Device {
    address: u8,
    device: String,
    note: Option<String>,
    module: Option<Module>,
    regulator: Option<RegulatorFacts>,
    /// Its first bytes, if it is an EEPROM that nothing more is known of.
    bytes: Option<Vec<u8>>,
    error: Option<String>,
    #[serde(skip)]
    lines: Vec<String>,
}

/// A memory module.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Module {
    generation: String,
    form: Option<&'static str>,
    bytes: Option<u64>,
    ranks: u8,
    chip_bits: Option<u8>,
    bus_bits: Option<u8>,
    has_ecc: bool,
    clock_ps: Option<u32>,
    megatransfers: Option<u32>,
    sum_is_right: bool,
    manufacturer: Option<String>,
    part: Option<String>,
    serial: Option<String>,
    year: Option<u16>,
    week: Option<u8>,
}

/// A regulator.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RegulatorFacts {
    manufacturer: String,
    model: String,
    serial: String,
    outputs: Vec<Output>,
}

/// An output of a regulator.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Output {
    page: u8,
    readings: Vec<Reading>,
    /// What is wrong, by the bits of its status.
    faults: Vec<&'static str>,
}

/// A number that a regulator measures.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Reading {
    name: String,
    unit: &'static str,
    now: f64,
}

pub(crate) fn dump(args: &Dump, json: bool) -> anyhow::Result<Status> {
    let report = Report::new(json);
    let open = OpenBus::of(&args.bus)?;
    let known = open.iic().known().iter().filter(|own| args.device.is_none_or(|only| only == own.address));
    let known: Vec<&I2cDevice> = known.collect();
    if let (Some(only), true) = (args.device, known.is_empty()) {
        let why = format!("the boards file names no device at {only:#04x}; `jitney i2c read` reads from any");
        return Err(Misuse(why).into());
    }
    let devices: Vec<Device> = known.into_iter().map(|own| Device::read(&open, own)).collect();
    for device in &devices {
        device.lines.iter().for_each(|line| report.line(line));
        if let Some(error) = &device.error {
            say!("jitney: {:#04x} ({}): {error}", device.address, device.device);
        }
    }
    let failed = devices.iter().any(|device| device.error.is_some());
    let none = devices.is_empty();
    report.finish(&Dumped { card: open.card.clone(), bus: args.bus.bus, devices })?;
    Ok(match (none, failed) {
        (true, _) => {
            say!("jitney: the boards file names no device on this bus; `jitney i2c scan` looks for some");
            Status::NothingTested
        }
        (_, true) => Status::Failed,
        _ => Status::Passed,
    })
}

impl Device {
    fn read(open: &OpenBus, known: &I2cDevice) -> Self {
        let mut device = Self {
            address: known.address,
            device: known.device.to_string(),
            note: known.note.clone(),
            module: None,
            regulator: None,
            bytes: None,
            error: None,
            lines: vec![format!("{:#04x}  {}", known.address, words(known))],
        };
        if let Err(error) = device.ask(open, known.device) {
            device.error = Some(format!("{error:#}"));
        }
        device
    }

    fn ask(&mut self, open: &OpenBus, kind: I2cKind) -> anyhow::Result<()> {
        match kind {
            I2cKind::SpdDdr3 => {
                let spd = Spd::decode(&read_all(open, self.address, Some(&[0]), 256, |_| ())?)?;
                self.lines.extend(spd_lines(&spd));
                self.module = Some(Module::of(spd));
            }
            I2cKind::Ltm4676a => {
                let regulator = Regulator::new(&open.bus, self.address);
                let facts = RegulatorFacts::read(&regulator)?;
                self.lines.extend(facts.lines());
                self.regulator = Some(facts);
            }
            I2cKind::Eeprom24c02 | I2cKind::Eeprom24c32 => {
                let first: &[u8] = if kind == I2cKind::Eeprom24c32 { &[0, 0] } else { &[0] };
                let bytes = read_all(open, self.address, Some(first), 256, |_| ())?;
                self.lines.extend(hex(0, &bytes).lines().map(|line| format!("      {line}")));
                self.bytes = Some(bytes);
            }
            _ => self.lines.push("      nothing is known of what it says".to_owned()),
        }
        Ok(())
    }
}

impl Module {
    fn of(spd: Spd) -> Self {
        let name = spd.manufacturer.map(|own| match own.name() {
            Some(name) => name.to_owned(),
            None => format!("bank {} code {:#04x}", own.bank, own.code),
        });
        Self {
            generation: spd.generation.to_string(),
            form: spd.form,
            bytes: spd.bytes,
            ranks: spd.ranks,
            chip_bits: spd.chip_bits,
            bus_bits: spd.bus_bits,
            has_ecc: spd.has_ecc,
            clock_ps: spd.clock_ps,
            megatransfers: spd.megatransfers,
            sum_is_right: spd.sum_is_right,
            manufacturer: name,
            part: spd.part,
            serial: spd.serial.map(|serial| format!("{serial:08x}")),
            year: spd.made.map(|(year, _)| year),
            week: spd.made.map(|(_, week)| week),
        }
    }
}

fn spd_lines(spd: &Spd) -> Vec<String> {
    let module = Module::of(spd.clone());
    let speed = module.megatransfers.map(|speed| format!("-{speed}")).unwrap_or_default();
    let size = module.bytes.map(human).unwrap_or_else(|| "of an unknown size".into());
    let form = module.form.unwrap_or("module");
    let chip = module.chip_bits.map(|bits| format!(" of chips with {bits} bits")).unwrap_or_default();
    let ecc = if module.has_ecc { ", ECC" } else { "" };
    let mut lines =
        vec![format!("      {}{speed} {form}, {size}, {} ranks{chip}{ecc}", module.generation, module.ranks)];
    let made = spd.made.map(|(year, week)| format!(", of week {week} of {year}")).unwrap_or_default();
    lines.push(format!(
        "      {} {}, serial number {}{made}",
        module.manufacturer.unwrap_or_else(|| "unknown manufacturer".into()),
        module.part.unwrap_or_else(|| "without a part number".into()),
        module.serial.unwrap_or_else(|| "unknown".into()),
    ));
    if !module.sum_is_right {
        lines.push("      the sum of its description is wrong".to_owned());
    }
    lines
}

impl RegulatorFacts {
    fn read(regulator: &Regulator<'_>) -> anyhow::Result<Self> {
        let id = regulator.id()?;
        let outputs = regulator.outputs(2)?.into_iter().map(|output| Output {
            page: output.page,
            faults: status_words(output.status),
            readings: output
                .readings
                .into_iter()
                .map(|own| Reading { unit: own.quantity.unit(), now: own.now, name: own.name })
                .collect(),
        });
        Ok(Self {
            manufacturer: id.manufacturer,
            model: id.model,
            serial: id.serial,
            outputs: outputs.collect(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("      {} {}, serial number {}", self.manufacturer, self.model, self.serial)];
        for output in &self.outputs {
            let readings = output.readings.iter();
            let readings: Vec<String> =
                readings.map(|own| format!("{} {:.3} {}", own.name, own.now, own.unit)).collect();
            lines.push(format!("      output {}: {}", output.page, readings.join(", ")));
            if !output.faults.is_empty() {
                lines.push(format!("      output {}: FAULTS: {}", output.page, output.faults.join(", ")));
            }
        }
        lines
    }
}
