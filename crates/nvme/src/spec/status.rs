//! Status codes, in words (section 4.6.1).

use std::fmt;

/// The status field of a completion: code (bits 7:0), type (bits 10:8), retry delay (12:11), More (13) and Do Not Retry (14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(u16);

impl Status {
    /// It went well.
    pub const SUCCESS: Self = Self(0);
    /// Generic: Invalid Command Opcode.
    pub const INVALID_OPCODE: Self = Self(0x0001);
    /// Generic: Invalid Field in Command.
    pub const INVALID_FIELD: Self = Self(0x0002);
    /// Generic: Data Transfer Error.
    pub const DATA_TRANSFER_ERROR: Self = Self(0x0004);
    /// Generic: LBA Out of Range.
    pub const OUT_OF_RANGE: Self = Self(0x0080);
    /// Command specific, of those that make and delete queues: Invalid Queue Identifier.
    pub const INVALID_QUEUE: Self = Self(0x0101);

    /// From the field's bits, without the phase tag.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x7fff)
    }

    /// The field's bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Status Code Type: 0 generic, 1 command specific, 2 media and data integrity, 7 the vendor's.
    #[must_use]
    pub const fn kind(self) -> u16 {
        self.0 >> 8 & 7
    }

    /// Status Code.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0 & 0xff
    }

    /// Whether it is `other`, however often it is to be tried again.
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        self.0 & 0x7ff == other.0 & 0x7ff
    }

    /// Whether trying again can help (Do Not Retry is clear).
    #[must_use]
    pub const fn may_be_tried_again(self) -> bool {
        self.0 >> 14 & 1 == 0
    }

    const fn words(self) -> &'static str {
        match (self.kind(), self.code()) {
            (0, 0x00) => "success",
            (0, 0x01) => "invalid command opcode",
            (0, 0x02) => "invalid field in the command",
            (0, 0x03) => "command id in use",
            (0, 0x04) => "data transfer error: the card could not reach the memory",
            (0, 0x05) => "aborted, power is going",
            (0, 0x06) => "internal error",
            (0, 0x07) => "aborted as requested",
            (0, 0x08) => "aborted, its submission queue was deleted",
            (0, 0x0b) => "invalid namespace or format",
            (0, 0x0c) => "commands in a wrong order",
            (0, 0x13) => "invalid PRP offset",
            (0, 0x80) => "block out of range",
            (0, 0x81) => "capacity exceeded",
            (0, 0x82) => "namespace not ready",
            (1, 0x00) => "invalid completion queue",
            (1, 0x01) => "invalid queue identifier",
            (1, 0x02) => "invalid queue size",
            (1, 0x08) => "invalid interrupt vector",
            (1, 0x0c) => "invalid order of deleting queues",
            (2, 0x80) => "write fault",
            (2, 0x81) => "unrecovered read error",
            (2, 0x86) => "access denied",
            (2, _) => "media or data integrity error",
            (7, _) => "an error of the vendor's",
            _ => "an error that is not known here",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (type {}, code {:#04x})", self.words(), self.kind(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_it_means() {
        let status = Status::from_bits(0x4101);
        assert!(status.is(Status::INVALID_QUEUE) && !status.may_be_tried_again());
        assert_eq!(status.to_string(), "invalid queue identifier (type 1, code 0x01)");
        assert_eq!(Status::from_bits(0x0281).to_string(), "unrecovered read error (type 2, code 0x81)");
    }
}
