//! A channel's registers: PG195, "H2C Channel Registers (0x0)", "H2C SGDMA Registers (0x4)" and their C2H twins.

use super::state::{EVENT_BITS, State};
use crate::axi::merge;
use jitney_xdma_spec::sgdma::MAX_CREDITS;
use jitney_xdma_spec::{ChannelStatus, Identifier};

/// Offsets of a channel's registers, as patterns.
mod at {
    use jitney_xdma_spec::{channel, sgdma};

    pub(super) const IDENTIFIER: u32 = channel::IDENTIFIER.offset();
    pub(super) const CONTROL: u32 = channel::CONTROL.offset();
    pub(super) const CONTROL_SET: u32 = channel::CONTROL_SET.offset();
    pub(super) const CONTROL_CLEAR: u32 = channel::CONTROL_CLEAR.offset();
    pub(super) const STATUS: u32 = channel::STATUS.offset();
    pub(super) const STATUS_READ_CLEAR: u32 = channel::STATUS_READ_CLEAR.offset();
    pub(super) const COMPLETED_COUNT: u32 = channel::COMPLETED_COUNT.offset();
    pub(super) const ALIGNMENTS: u32 = channel::ALIGNMENTS.offset();
    pub(super) const WRITEBACK_LOW: u32 = channel::WRITEBACK_ADDRESS_LOW.offset();
    pub(super) const WRITEBACK_HIGH: u32 = channel::WRITEBACK_ADDRESS_HIGH.offset();
    pub(super) const INTERRUPT_ENABLE: u32 = channel::INTERRUPT_ENABLE.offset();
    pub(super) const INTERRUPT_ENABLE_SET: u32 = channel::INTERRUPT_ENABLE_SET.offset();
    pub(super) const INTERRUPT_ENABLE_CLEAR: u32 = channel::INTERRUPT_ENABLE_CLEAR.offset();
    pub(super) const PERFORMANCE_CONTROL: u32 = channel::PERFORMANCE_CONTROL.offset();
    pub(super) const CYCLES_LOW: u32 = channel::PERFORMANCE_CYCLES_LOW.offset();
    pub(super) const CYCLES_HIGH: u32 = channel::PERFORMANCE_CYCLES_HIGH.offset();
    pub(super) const DATA_LOW: u32 = channel::PERFORMANCE_DATA_LOW.offset();
    pub(super) const DATA_HIGH: u32 = channel::PERFORMANCE_DATA_HIGH.offset();

    pub(super) const FIRST_LOW: u32 = sgdma::FIRST_DESCRIPTOR_LOW.offset();
    pub(super) const FIRST_HIGH: u32 = sgdma::FIRST_DESCRIPTOR_HIGH.offset();
    pub(super) const FIRST_ADJACENT: u32 = sgdma::FIRST_DESCRIPTOR_ADJACENT.offset();
    pub(super) const CREDITS: u32 = sgdma::CREDITS.offset();
}

impl State {
    /// Reads a register of the channel block.
    pub(super) fn read_channel(&mut self, register: u32) -> u32 {
        match register {
            at::IDENTIFIER => {
                Identifier::of(self.direction.channel_block(), self.channel, self.stream).into()
            }
            at::CONTROL => self.control.into(),
            at::STATUS => self.status().into(),
            at::STATUS_READ_CLEAR => {
                let status = self.status();
                self.logged = ChannelStatus::new();
                status.into()
            }
            at::COMPLETED_COUNT => self.completed,
            at::ALIGNMENTS => self.alignments.into(),
            at::WRITEBACK_LOW => low(self.writeback_address),
            at::WRITEBACK_HIGH => high(self.writeback_address),
            at::INTERRUPT_ENABLE => self.interrupt_enable,
            at::PERFORMANCE_CONTROL => self.performance.control().into(),
            at::CYCLES_LOW => self.performance.cycles().0,
            at::CYCLES_HIGH => self.performance.cycles().1.into(),
            at::DATA_LOW => self.performance.beats().0,
            at::DATA_HIGH => self.performance.beats().1.into(),
            _ => 0,
        }
    }

    /// Writes a register of the channel block.
    pub(super) fn write_channel(&mut self, register: u32, value: u32, lanes: u32) {
        let control = u32::from(self.control);
        match register {
            at::CONTROL => self.set_control(merge(control, value, lanes)),
            at::CONTROL_SET => self.set_control(control | value),
            at::CONTROL_CLEAR => self.set_control(control & !value),
            at::STATUS => self.logged = (u32::from(self.logged) & !value).into(),
            at::WRITEBACK_LOW => set_low(&mut self.writeback_address, value, lanes),
            at::WRITEBACK_HIGH => set_high(&mut self.writeback_address, value, lanes),
            at::INTERRUPT_ENABLE => {
                self.interrupt_enable = merge(self.interrupt_enable, value, lanes) & EVENT_BITS;
            }
            at::INTERRUPT_ENABLE_SET => self.interrupt_enable |= value & EVENT_BITS,
            at::INTERRUPT_ENABLE_CLEAR => self.interrupt_enable &= !value,
            at::PERFORMANCE_CONTROL if lanes & 7 != 0 => self.performance.set_control((value & 7).into()),
            _ => {}
        }
    }

    /// Reads a register of the SGDMA block.
    pub(super) fn read_sgdma(&self, register: u32) -> u32 {
        match register {
            at::IDENTIFIER => Identifier::of(self.direction.sgdma_block(), self.channel, self.stream).into(),
            at::FIRST_LOW => low(self.first_descriptor),
            at::FIRST_HIGH => high(self.first_descriptor),
            at::FIRST_ADJACENT => self.first_adjacent,
            at::CREDITS => self.credits,
            _ => 0,
        }
    }

    /// Writes a register of the SGDMA block.
    pub(super) fn write_sgdma(&mut self, register: u32, value: u32, lanes: u32) {
        match register {
            at::FIRST_LOW => set_low(&mut self.first_descriptor, value, lanes),
            at::FIRST_HIGH => set_high(&mut self.first_descriptor, value, lanes),
            at::FIRST_ADJACENT => self.first_adjacent = merge(self.first_adjacent, value, lanes) & 0x3f,
            at::CREDITS if self.credit_mode => {
                self.credits = MAX_CREDITS.min(self.credits + (value & MAX_CREDITS));
            }
            _ => {}
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is meant")]
const fn low(value: u64) -> u32 {
    value as u32
}

const fn high(value: u64) -> u32 {
    low(value >> 32)
}

fn set_low(pair: &mut u64, value: u32, lanes: u32) {
    *pair = u64::from(high(*pair)) << 32 | u64::from(merge(low(*pair), value, lanes));
}

fn set_high(pair: &mut u64, value: u32, lanes: u32) {
    *pair = u64::from(merge(high(*pair), value, lanes)) << 32 | u64::from(low(*pair));
}
