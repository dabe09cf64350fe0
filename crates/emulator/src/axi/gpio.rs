//! AXI GPIO (PG144): up to two channels of 32 pins.

use super::{Peripheral, merge};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// One channel: the pins as the board wires them, and the registers.
#[derive(Debug)]
pub struct GpioChannel {
    /// What the board drives onto the pins.
    pins: u32,
    /// Direction of pins that the design fixed: 1 is an input. Programmable channels have none.
    fixed: Option<u32>,
    data: AtomicU32,
    tristate: AtomicU32,
}

impl GpioChannel {
    /// Inputs only, at a constant level.
    pub const fn inputs(pins: u32) -> Self {
        Self { pins, fixed: Some(u32::MAX), data: AtomicU32::new(0), tristate: AtomicU32::new(u32::MAX) }
    }

    /// Outputs only.
    pub const fn outputs() -> Self {
        Self { pins: 0, fixed: Some(0), data: AtomicU32::new(0), tristate: AtomicU32::new(0) }
    }

    /// Pins whose direction software chooses by the tristate register; inputs after power-up, which the board drives to
    /// these levels.
    pub const fn programmable(pins: u32) -> Self {
        Self { pins, fixed: None, data: AtomicU32::new(0), tristate: AtomicU32::new(u32::MAX) }
    }

    /// The data register: inputs as they are; pins that are outputs read zero (PG144, "GPIO Data Register").
    fn read_data(&self) -> u32 {
        self.pins & self.tristate.load(Relaxed)
    }

    fn write_tristate(&self, value: u32, lanes: u32) {
        if self.fixed.is_none() {
            self.tristate.store(merge(self.tristate.load(Relaxed), value, lanes), Relaxed);
        }
    }

    fn write_data(&self, value: u32, lanes: u32) {
        self.data.store(merge(self.data.load(Relaxed), value, lanes), Relaxed);
    }
}

/// The peripheral. A channel that the design does not have reads zero.
#[derive(Debug)]
pub struct Gpio {
    name: Arc<str>,
    channels: [Option<GpioChannel>; 2],
}

impl Gpio {
    /// A GPIO block; `name` stands in the log when its outputs change.
    pub fn new(name: impl Into<Arc<str>>, first: GpioChannel, second: Option<GpioChannel>) -> Self {
        Self { name: name.into(), channels: [Some(first), second] }
    }

    /// The register that an offset names: its channel, and whether it is the direction.
    fn decode(&self, offset: u32) -> Option<(&GpioChannel, bool)> {
        let (channel, tristate) = match offset {
            0x0 => (0, false),
            0x4 => (0, true),
            0x8 => (1, false),
            0xC => (1, true),
            _ => return None,
        };
        self.channels[channel].as_ref().map(|channel| (channel, tristate))
    }
}

impl Peripheral for Gpio {
    fn read(&self, offset: u32) -> u32 {
        match self.decode(offset) {
            Some((channel, true)) => channel.tristate.load(Relaxed),
            Some((channel, false)) => channel.read_data(),
            None => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        match self.decode(offset) {
            Some((channel, true)) => channel.write_tristate(value, lanes),
            Some((channel, false)) => {
                channel.write_data(value, lanes);
                tracing::debug!(
                    gpio = &*self.name,
                    outputs =
                        format_args!("{:#x}", channel.data.load(Relaxed) & !channel.tristate.load(Relaxed)),
                    "outputs written"
                );
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_constant_and_outputs_read_zero() {
        let gpio = Gpio::new("test", GpioChannel::inputs(0x4E49_5445), Some(GpioChannel::outputs()));
        gpio.write(0x0, 0, u32::MAX);
        gpio.write(0x4, 0, u32::MAX);
        assert_eq!(gpio.read(0x0), 0x4E49_5445);
        gpio.write(0x8, 2, u32::MAX);
        assert_eq!(gpio.read(0x8), 0);
        assert_eq!(gpio.channels[1].as_ref().unwrap().data.load(Relaxed), 2);
        assert_eq!(gpio.read(0x11C), 0, "no interrupt registers");
    }

    #[test]
    fn direction_is_software_s_where_the_design_leaves_it() {
        let gpio = Gpio::new("test", GpioChannel::programmable(0), None);
        assert_eq!(gpio.read(0x4), u32::MAX);
        gpio.write(0x4, 0xF0, 0xFF);
        assert_eq!(gpio.read(0x4), 0xFFFF_FFF0);
        assert_eq!(gpio.read(0xC), 0, "no second channel");
    }
}
