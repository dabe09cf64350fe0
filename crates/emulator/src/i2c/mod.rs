//! I2C buses and the devices on them.
//!
//! Those that a boards file names (its key `i2c`) are on the bus of an emulated board. Others are put on it with the core:
//!
//! ```
//! use jitney_emulator::axi::Iic;
//! use jitney_emulator::boards::Board;
//! use jitney_emulator::designs::Catalogue;
//! use jitney_emulator::i2c::{Bus, Eeprom};
//! use std::sync::Arc;
//!
//! let bus = Bus::default().with(0x57, Eeprom::new(256, 8));
//! let board = Board::named(&Catalogue::built_in(), "i2c_probe")?.peripheral("iic", Iic::new(bus, Arc::default()));
//! # let _ = board;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Device`] is what a data sheet describes: it acknowledges, takes bytes and gives bytes. A [`Bus`] finds the one that an
//! address means; who is the master, an AXI IIC for example, knows no more than that.

mod eeprom;
mod pmbus;
mod spd;

pub use eeprom::Eeprom;
pub use pmbus::Regulator;
pub use spd::ddr3_module;

use jitney_designs::{I2cDevice, I2cKind};
use std::fmt;
use std::time::Instant;

/// A device on an I2C bus (NXP UM10204).
pub trait Device: Send {
    /// START, or repeated START, and its address, to write to it or to read from it; whether it acknowledges.
    fn start(&mut self, read: bool, now: Instant) -> bool;

    /// A byte is written to it; whether it acknowledges.
    fn write(&mut self, byte: u8) -> bool;

    /// The next byte that is read from it.
    fn read(&mut self) -> u8;

    /// STOP.
    fn stop(&mut self, now: Instant);
}

/// A bus and its devices, each at an address of 7 bits.
#[derive(Default)]
pub struct Bus {
    devices: Vec<(u8, Box<dyn Device>)>,
    /// The one that a transfer is with.
    addressed: Option<usize>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.devices.iter().map(|(address, _)| address)).finish()
    }
}

impl Bus {
    /// The same with a device at `address`.
    #[must_use]
    pub fn with(mut self, address: u8, device: impl Device + 'static) -> Self {
        self.devices.push((address, Box::new(device)));
        self
    }

    /// What a boards file says is on it. What has no model there is not on the emulated bus.
    pub(crate) fn of(devices: &[I2cDevice]) -> Self {
        devices.iter().fold(Self::default(), |bus, own| {
            let address = own.address;
            match own.device {
                I2cKind::SpdDdr3 => bus.with(address, Eeprom::spd(ddr3_module())),
                I2cKind::Eeprom24c02 => bus.with(address, Eeprom::new(256, 8)),
                I2cKind::Eeprom24c32 => bus.with(address, Eeprom::new(4096, 32)),
                I2cKind::Ltm4676a => {
                    // Of what the file does not say, 1 V.
                    let volts = |output: usize| {
                        f64::from(own.millivolts.get(output).copied().unwrap_or(1000)) / 1000.0
                    };
                    bus.with(address, Regulator::new(address, [volts(0), volts(1)]))
                }
                _ => bus,
            }
        })
    }

    /// START and an address; whether a device acknowledges.
    pub(crate) fn start(&mut self, address: u8, read: bool, now: Instant) -> bool {
        self.addressed = self.devices.iter().position(|(own, _)| *own == address);
        let answers = self.device().is_some_and(|device| device.start(read, now));
        if !answers {
            self.addressed = None;
        }
        answers
    }

    pub(crate) fn write(&mut self, byte: u8) -> bool {
        self.device().is_some_and(|device| device.write(byte))
    }

    /// Lines that nobody pulls read as ones.
    pub(crate) fn read(&mut self) -> u8 {
        self.device().map_or(0xFF, Device::read)
    }

    /// STOP, which every device sees.
    pub(crate) fn stop(&mut self, now: Instant) {
        for (_, device) in &mut self.devices {
            device.stop(now);
        }
        self.addressed = None;
    }

    fn device(&mut self) -> Option<&mut (dyn Device + 'static)> {
        let (_, device) = self.devices.get_mut(self.addressed?)?;
        Some(&mut **device)
    }
}
