//! AXI GPIO: general purpose inputs and outputs (PG144, "Register Space").

use crate::error::Result;
use crate::frame::Frame;
use jitney_registers::{Block, ReadOnly, ReadWrite, Register};

const DATA: Register<u32, ReadWrite> = Register::new(0x0);
const TRISTATE: Register<u32, ReadWrite> = Register::new(0x4);
/// Bytes from a register of channel 1 to that of channel 2.
const CHANNEL_STRIDE: u32 = 0x8;
/// Global interrupt enable. Its bits 30:0 read as zero, with interrupts built in or not.
const INTERRUPT_ENABLE: Register<u32, ReadOnly> = Register::new(0x11c);

/// One of the two channels of a GPIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Channel 1, which every GPIO has.
    One,
    /// Channel 2, where it is built in.
    Two,
}

/// An AXI GPIO: two channels of up to 32 pins.
#[derive(Debug, Clone)]
pub struct AxiGpio {
    frame: Frame,
}

impl AxiGpio {
    /// The GPIO in `frame`.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// The level of each pin that is an input; outputs read as zero (PG144, "GPIO Data Register").
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if nobody answers; pins that are all high are told
    /// from that by a register with bits that are always zero.
    pub fn data(&self, channel: Channel) -> Result<u32> {
        self.read(DATA, channel)
    }

    /// Sets the pins that are outputs.
    pub fn set_data(&self, channel: Channel, value: u32) -> Result<()> {
        self.registers().write(of(DATA, channel), value)
    }

    /// Which pins are inputs: 1 for an input, 0 for an output. A channel whose pins are built as only the one or the
    /// other may read as anything.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn tristate(&self, channel: Channel) -> Result<u32> {
        self.read(TRISTATE, channel)
    }

    /// Makes pins inputs (1) or outputs (0).
    pub fn set_tristate(&self, channel: Channel, inputs: u32) -> Result<()> {
        self.registers().write(of(TRISTATE, channel), inputs)
    }

    fn read(&self, register: Register<u32, ReadWrite>, channel: Channel) -> Result<u32> {
        let register = of(register, channel);
        let value = self.registers().read(register)?;
        if value == u32::MAX && self.registers().read(INTERRUPT_ENABLE)? == u32::MAX {
            return Err(self.frame.link_down(register.offset()));
        }
        Ok(value)
    }

    fn registers(&self) -> Block<&Frame> {
        Block::new(&self.frame, 0)
    }
}

fn of(register: Register<u32, ReadWrite>, channel: Channel) -> Register<u32, ReadWrite> {
    register.nth(channel as u32, CHANNEL_STRIDE)
}
