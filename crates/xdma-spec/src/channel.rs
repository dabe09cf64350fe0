//! Channel registers, blocks 0 (H2C) and 1 (C2H): PG195, "H2C Channel Registers (0x0)" and "C2H Channel Registers (0x1)".
//!
//! Offsets are from the start of a channel, [`block::offset`](crate::block::offset) of
//! [`Direction::channel_block`]. Registers that end in `_SET` and `_CLEAR` are the W1S and W1C twins: a written 1
//! sets or clears that bit, a 0 leaves it.

use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, ReadWrite, Register, WriteOnly};

use crate::block::Direction;
use crate::status::ChannelStatus;

pub use crate::identifier::IDENTIFIER;

/// Control.
pub const CONTROL: Register<ChannelControl, ReadWrite> = Register::new(0x04);
/// Control, W1S.
pub const CONTROL_SET: Register<ChannelControl, WriteOnly> = Register::new(0x08);
/// Control, W1C.
pub const CONTROL_CLEAR: Register<ChannelControl, WriteOnly> = Register::new(0x0c);
/// Status; reading leaves it, a written 1 clears that bit.
pub const STATUS: Register<ChannelStatus, ReadWrite> = Register::new(0x40);
/// Status; reading clears every bit but BUSY.
pub const STATUS_READ_CLEAR: Register<ChannelStatus, ReadOnly> = Register::new(0x44);
/// Descriptors completed since RUN last rose. It keeps its value when RUN falls.
pub const COMPLETED_COUNT: Register<u32, ReadOnly> = Register::new(0x48);
/// What the channel asks of addresses and lengths.
pub const ALIGNMENTS: Register<Alignments, ReadOnly> = Register::new(0x4c);
/// Where the poll-mode write-back word goes, bits 31:0 of the IOVA.
pub const WRITEBACK_ADDRESS_LOW: Register<u32, ReadWrite> = Register::new(0x88);
/// Where the poll-mode write-back word goes, bits 63:32 of the IOVA.
pub const WRITEBACK_ADDRESS_HIGH: Register<u32, ReadWrite> = Register::new(0x8c);
/// Status bits that request the channel's interrupt.
pub const INTERRUPT_ENABLE: Register<InterruptEnable, ReadWrite> = Register::new(0x90);
/// Interrupt enable, W1S.
pub const INTERRUPT_ENABLE_SET: Register<InterruptEnable, WriteOnly> = Register::new(0x94);
/// Interrupt enable, W1C.
pub const INTERRUPT_ENABLE_CLEAR: Register<InterruptEnable, WriteOnly> = Register::new(0x98);
/// Performance monitor control.
pub const PERFORMANCE_CONTROL: Register<PerformanceControl, ReadWrite> = Register::new(0xc0);
/// Clock cycles counted, bits 31:0.
pub const PERFORMANCE_CYCLES_LOW: Register<u32, ReadOnly> = Register::new(0xc4);
/// Clock cycles counted, bits 41:32.
pub const PERFORMANCE_CYCLES_HIGH: Register<PerformanceHigh, ReadOnly> = Register::new(0xc8);
/// Data beats counted, bits 31:0.
pub const PERFORMANCE_DATA_LOW: Register<u32, ReadOnly> = Register::new(0xcc);
/// Data beats counted, bits 41:32.
pub const PERFORMANCE_DATA_HIGH: Register<PerformanceHigh, ReadOnly> = Register::new(0xd0);
/// Pending count, bits 31:0. PG195 no longer lists it; AMD's Linux driver reads it.
pub const PERFORMANCE_PENDING_LOW: Register<u32, ReadOnly> = Register::new(0xd4);
/// Pending count, bits 41:32.
pub const PERFORMANCE_PENDING_HIGH: Register<PerformanceHigh, ReadOnly> = Register::new(0xd8);

/// "Channel Control (0x04)". The `report_…` bits (`ie_…` in PG195) let an event be logged in [`ChannelStatus`].
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ChannelControl {
    /// The engine runs. Rising: the first descriptor's address is latched, the completed count and the logged
    /// status are cleared. Falling: the engine finishes its descriptor, goes idle and drops its credits.
    pub run: bool,
    /// Report a descriptor with STOP.
    pub report_descriptor_stopped: bool,
    /// Report a descriptor with COMPLETED.
    pub report_descriptor_completed: bool,
    /// Report source and destination addresses that are not aligned to each other.
    pub report_align_mismatch: bool,
    /// Report a descriptor with a bad magic.
    pub report_magic_stopped: bool,
    /// Report a length that is not a multiple of a stream's data width.
    pub report_invalid_length: bool,
    /// Report that the engine went idle after RUN was cleared.
    pub report_idle_stopped: bool,
    #[bits(2)]
    __: u8,
    /// Report errors of reading the source and stop at them; all five bits are set together.
    #[bits(5)]
    pub report_read_error: u8,
    /// Report errors of writing the destination and stop at them, likewise; H2C only.
    #[bits(5)]
    pub report_write_error: u8,
    /// Report errors of fetching descriptors and stop at them, likewise.
    #[bits(5)]
    pub report_descriptor_error: u8,
    __: bool,
    /// Do not advance the card address (a FIFO behind one address).
    pub non_incrementing: bool,
    /// Write a [`Writeback`](crate::Writeback) word when a descriptor with COMPLETED ends.
    pub poll_mode_writeback: bool,
    /// Do not write [`StreamSlot`](crate::StreamSlot)s; C2H streams only.
    pub stream_writeback_disable: bool,
    #[bits(4)]
    __: u8,
}

impl ChannelControl {
    /// Every error of `direction` reported, RUN clear.
    #[must_use]
    pub const fn report_errors(direction: Direction) -> Self {
        let both = Self::new()
            .with_report_align_mismatch(true)
            .with_report_magic_stopped(true)
            .with_report_invalid_length(true)
            .with_report_read_error(0x1f)
            .with_report_descriptor_error(0x1f);
        match direction {
            Direction::HostToCard => both.with_report_write_error(0x1f),
            Direction::CardToHost => both,
        }
    }

    /// What a polling driver writes before it sets RUN: [`report_errors`](Self::report_errors) and the write-back.
    #[must_use]
    pub const fn polled(direction: Direction) -> Self {
        Self::report_errors(direction).with_poll_mode_writeback(true)
    }
}

/// "Channel Alignments (0x4C)".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Alignments {
    /// Bits of an address that the IP implements.
    pub address_bits: u8,
    /// A length must be a multiple of this many bytes.
    pub length_granularity: u8,
    /// Source and destination must be multiples of this many bytes.
    pub address_alignment: u8,
    __: u8,
}

impl Alignments {
    /// Any byte address of 64 bits and any length: what a channel with data realignment reports.
    pub const ANY: Self =
        Self::new().with_address_alignment(1).with_length_granularity(1).with_address_bits(64);
}

/// "Channel Interrupt Enable Mask (0x90)": the channel requests its interrupt, as a level, while one of these bits
/// and the same bit of [`ChannelStatus`] are set, if the IRQ block lets it through.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct InterruptEnable {
    __: bool,
    /// A descriptor with STOP ended.
    pub descriptor_stopped: bool,
    /// A descriptor with COMPLETED ended.
    pub descriptor_completed: bool,
    /// Addresses not aligned to each other.
    pub align_mismatch: bool,
    /// Bad magic.
    pub magic_stopped: bool,
    /// Length not allowed.
    pub invalid_length: bool,
    /// Idle after RUN was cleared.
    pub idle_stopped: bool,
    #[bits(2)]
    __: u8,
    /// Errors of reading the source.
    #[bits(5)]
    pub read_error: u8,
    /// Errors of writing the destination; H2C only.
    #[bits(5)]
    pub write_error: u8,
    /// Errors of fetching descriptors.
    #[bits(5)]
    pub descriptor_error: u8,
    __: u8,
}

/// "Performance Monitor Control (0xC0)".
///
/// The sources disagree about bits 0 and 2. The names here are those of AMD's Linux driver, which always sets both. In
/// the tables of PG195 v4.1 bit 0 is Auto and bit 2 is Run, where Run only arms the counters until the channel's own
/// RUN rises. An emulated card that starts counting for either bit is right for both.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PerformanceControl {
    /// Count now.
    pub run: bool,
    /// Clear the counters.
    pub clear: bool,
    /// Start when the channel's RUN rises and stop when a descriptor with STOP ends.
    pub auto: bool,
    #[bits(29)]
    __: u32,
}

/// The upper half of a 42-bit performance counter.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PerformanceHigh {
    /// Bits 41:32 of the counter.
    #[bits(10)]
    pub count: u16,
    #[bits(6)]
    __: u8,
    /// The counter has reached its end and stays there.
    pub saturated: bool,
    #[bits(15)]
    __: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polling_driver_writes_these_control_words() {
        assert_eq!(u32::from(ChannelControl::polled(Direction::HostToCard)), 0x04ff_fe38);
        assert_eq!(u32::from(ChannelControl::polled(Direction::CardToHost)), 0x04f8_3e38);
        let reporting = ChannelControl::report_errors(Direction::HostToCard);
        assert_eq!(u32::from(reporting.with_run(true)), 0x00ff_fe39);
    }

    #[test]
    fn control_bits_above_the_errors_are_where_pg195_puts_them() {
        assert_eq!(u32::from(ChannelControl::new().with_report_descriptor_stopped(true)), 1 << 1);
        assert_eq!(u32::from(ChannelControl::new().with_report_descriptor_completed(true)), 1 << 2);
        assert_eq!(u32::from(ChannelControl::new().with_report_idle_stopped(true)), 1 << 6);
        assert_eq!(u32::from(ChannelControl::new().with_non_incrementing(true)), 1 << 25);
        assert_eq!(u32::from(ChannelControl::new().with_stream_writeback_disable(true)), 1 << 27);
    }

    #[test]
    fn the_interrupt_mask_has_the_bits_of_the_status() {
        let all = InterruptEnable::new()
            .with_descriptor_stopped(true)
            .with_descriptor_completed(true)
            .with_align_mismatch(true)
            .with_magic_stopped(true)
            .with_invalid_length(true)
            .with_idle_stopped(true)
            .with_read_error(0x1f)
            .with_write_error(0x1f)
            .with_descriptor_error(0x1f);
        assert_eq!(u32::from(all), 0x00ff_fe7e);
        let writes = InterruptEnable::new().with_write_error(0x1f);
        assert_eq!(u32::from(writes), u32::from(ChannelStatus::new().with_write_error(0x1f)));
    }

    #[test]
    fn alignments_of_the_usual_cards() {
        assert_eq!(u32::from(Alignments::ANY), 0x0001_0140);
    }

    #[test]
    fn performance_words() {
        let control = PerformanceControl::new().with_clear(true).with_auto(true);
        assert_eq!(u32::from(control), 0b110);
        assert_eq!(u32::from(PerformanceHigh::new().with_count(0x3ff).with_saturated(true)), 0x1_03ff);
    }
}
