//! Controller registers, in BAR 0 (section 3.1).

use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, ReadWrite, Register, WriteOnly};
use std::time::Duration;

/// CAP, bits 31:0 (section 3.1.1). Both halves together are [`Capabilities`].
pub const CAP_LOW: Register<u32, ReadOnly> = Register::new(0x00);
/// CAP, bits 63:32.
pub const CAP_HIGH: Register<u32, ReadOnly> = Register::new(0x04);
/// VS (section 3.1.2).
pub const VS: Register<Version, ReadOnly> = Register::new(0x08);
/// CC (section 3.1.5).
pub const CC: Register<Configuration, ReadWrite> = Register::new(0x14);
/// CSTS (section 3.1.6).
pub const CSTS: Register<ControllerStatus, ReadOnly> = Register::new(0x1c);
/// AQA (section 3.1.8).
pub const AQA: Register<AdminQueueSizes, ReadWrite> = Register::new(0x24);
/// ASQ, bits 31:0 (section 3.1.9).
pub const ASQ_LOW: Register<u32, ReadWrite> = Register::new(0x28);
/// ASQ, bits 63:32.
pub const ASQ_HIGH: Register<u32, ReadWrite> = Register::new(0x2c);
/// ACQ, bits 31:0 (section 3.1.10).
pub const ACQ_LOW: Register<u32, ReadWrite> = Register::new(0x30);
/// ACQ, bits 63:32.
pub const ACQ_HIGH: Register<u32, ReadWrite> = Register::new(0x34);

/// The doorbell of submission queue `queue`, where doorbells are `stride` bytes apart (section 3.1.24).
#[must_use]
pub const fn submission_doorbell(queue: u16, stride: u32) -> Register<u32, WriteOnly> {
    Register::new(0x1000).nth(2 * queue as u32, stride)
}

/// The doorbell of completion queue `queue` (section 3.1.25).
#[must_use]
pub const fn completion_doorbell(queue: u16, stride: u32) -> Register<u32, WriteOnly> {
    Register::new(0x1000).nth(2 * queue as u32 + 1, stride)
}

/// CAP: what the controller can do.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Capabilities {
    /// The most entries of an I/O queue, less one.
    pub most_entries: u16,
    /// Queues have to be contiguous in memory.
    pub contiguous: bool,
    /// Further ways of choosing among queues.
    #[bits(2)]
    pub arbitration: u8,
    #[bits(5)]
    __: u8,
    /// How long enabling and disabling may take, in 500 ms.
    pub timeout: u8,
    /// Doorbells are 4 << this bytes apart.
    #[bits(4)]
    pub doorbell_stride: u8,
    /// It can reset its whole subsystem.
    pub subsystem_reset: bool,
    /// It has the NVM command set.
    pub nvm: bool,
    /// Bits of other command sets.
    #[bits(7)]
    pub other_command_sets: u8,
    /// It has boot partitions.
    pub boot_partition: bool,
    #[bits(2)]
    __: u8,
    /// The smallest page is 4096 << this bytes.
    #[bits(4)]
    pub smallest_page: u8,
    /// The largest page is 4096 << this bytes.
    #[bits(4)]
    pub largest_page: u8,
    __: u8,
}

impl Capabilities {
    /// Bytes between two doorbells.
    #[must_use]
    pub const fn stride(self) -> u32 {
        4 << self.doorbell_stride()
    }

    /// How long CSTS.RDY may take to follow CC.EN. A controller that says zero gets half a second.
    #[must_use]
    pub fn patience(self) -> Duration {
        Duration::from_millis(500 * u64::from(self.timeout().max(1)))
    }
}

/// VS: the version of the specification that the controller follows.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Version {
    /// The third number.
    pub tertiary: u8,
    /// The second number.
    pub minor: u8,
    /// The first number.
    pub major: u16,
}

/// CC: what software wants of the controller.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Configuration {
    /// EN.
    pub enable: bool,
    #[bits(3)]
    __: u8,
    /// 0 for the NVM command set.
    #[bits(3)]
    pub command_set: u8,
    /// Pages have 4096 << this bytes.
    #[bits(4)]
    pub page: u8,
    /// How it chooses among queues; 0 for one after the other.
    #[bits(3)]
    pub arbitration: u8,
    /// SHN: 1 asks for a normal shutdown.
    #[bits(2)]
    pub shutdown: u8,
    /// An I/O submission queue's entry has 2 to the power of this bytes.
    #[bits(4)]
    pub submission_entry: u8,
    /// An I/O completion queue's entry has 2 to the power of this bytes.
    #[bits(4)]
    pub completion_entry: u8,
    __: u8,
}

impl Configuration {
    /// Enabled, with the NVM command set, pages of 4 KiB and entries of 64 and 16 bytes.
    pub const ENABLED: Self = Self::new().with_enable(true).with_submission_entry(6).with_completion_entry(4);
}

/// CSTS: how the controller is.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ControllerStatus {
    /// RDY: it takes commands, and has followed CC.EN.
    pub ready: bool,
    /// CFS: a fatal error that only a reset ends.
    pub fatal: bool,
    /// SHST: 2 when a shutdown is over.
    #[bits(2)]
    pub shutdown: u8,
    /// Its subsystem was reset.
    pub subsystem_reset: bool,
    /// It does not take commands for a while.
    pub paused: bool,
    #[bits(26)]
    __: u32,
}

/// AQA: entries of the admin queues, less one each.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AdminQueueSizes {
    /// Of the submission queue.
    #[bits(12)]
    pub submission: u16,
    #[bits(4)]
    __: u8,
    /// Of the completion queue.
    #[bits(12)]
    pub completion: u16,
    #[bits(4)]
    __: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        // CAP of an emulated controller: 2048 entries, contiguous, 7.5 s, NVM and no others, pages of 4 KiB to 64 KiB.
        let cap = Capabilities::from_bits(0x0040_0020_0f01_07ff);
        assert_eq!((cap.most_entries(), cap.contiguous(), cap.timeout()), (2047, true, 15));
        assert!(cap.nvm() && cap.other_command_sets() == 0);
        assert_eq!((cap.stride(), cap.smallest_page(), cap.largest_page()), (4, 0, 4));
        assert_eq!(cap.patience(), Duration::from_millis(7500));
        assert_eq!(Capabilities::from_bits(3 << 32).stride(), 32);
        assert_eq!(Version::from_bits(0x0001_0400).major(), 1);
        assert_eq!(Configuration::ENABLED.into_bits(), 4 << 20 | 6 << 16 | 1);
        assert_eq!(Configuration::new().with_shutdown(1).into_bits(), 1 << 14);
        assert_eq!(ControllerStatus::from_bits(0b1010).shutdown(), 2);
        assert!(ControllerStatus::from_bits(0b10).fatal());
        assert_eq!(AdminQueueSizes::new().with_completion(63).with_submission(31).into_bits(), 63 << 16 | 31);
    }

    #[test]
    fn doorbells_are_two_for_each_queue_a_stride_apart() {
        assert_eq!(
            (submission_doorbell(0, 4).offset(), completion_doorbell(0, 4).offset()),
            (0x1000, 0x1004)
        );
        assert_eq!(
            (submission_doorbell(3, 4).offset(), completion_doorbell(3, 4).offset()),
            (0x1018, 0x101c)
        );
        assert_eq!(
            (submission_doorbell(1, 32).offset(), completion_doorbell(1, 32).offset()),
            (0x1040, 0x1060)
        );
    }
}
