//! Entries of submission queues (section 4.2) and completion queues (section 4.6).

use super::status::Status;

/// Operation codes of admin commands (section 5).
pub mod admin {
    /// Delete I/O Submission Queue (section 5.6).
    pub const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
    /// Create I/O Submission Queue (section 5.4).
    pub const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    /// Delete I/O Completion Queue (section 5.5).
    pub const DELETE_COMPLETION_QUEUE: u8 = 0x04;
    /// Create I/O Completion Queue (section 5.3).
    pub const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    /// Identify (section 5.15).
    pub const IDENTIFY: u8 = 0x06;
    /// Set Features (section 5.21).
    pub const SET_FEATURES: u8 = 0x09;
    /// The feature Number of Queues (section 5.21.1.7).
    pub const NUMBER_OF_QUEUES: u32 = 0x07;
}

/// Operation codes of NVM commands (section 6).
pub mod nvm {
    /// Flush (section 6.8).
    pub const FLUSH: u8 = 0x00;
    /// Write (section 6.15).
    pub const WRITE: u8 = 0x01;
    /// Read (section 6.9).
    pub const READ: u8 = 0x02;
}

/// A command, 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Submission {
    /// What to do.
    pub operation: u8,
    /// By what its completion names it (CID).
    pub id: u16,
    /// Of which namespace (NSID).
    pub namespace: u32,
    /// Where its data begins (PRP1).
    pub prp1: u64,
    /// Where its second page is, or a list of pages (PRP2).
    pub prp2: u64,
    /// Command dwords 10 to 15.
    pub words: [u32; 6],
}

impl Submission {
    /// Bytes of an entry.
    pub const SIZE: u64 = 64;

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &[self.operation]);
        put(2, &self.id.to_le_bytes());
        put(4, &self.namespace.to_le_bytes());
        put(24, &self.prp1.to_le_bytes());
        put(32, &self.prp2.to_le_bytes());
        for (word, at) in self.words.iter().zip((40..).step_by(4)) {
            put(at, &word.to_le_bytes());
        }
        bytes
    }

    /// What lies in memory as `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let pair = |at: usize| u64::from(word(at + 4)) << 32 | u64::from(word(at));
        Self {
            operation: bytes[0],
            id: u16::from_le_bytes([bytes[2], bytes[3]]),
            namespace: word(4),
            prp1: pair(24),
            prp2: pair(32),
            words: [40, 44, 48, 52, 56, 60].map(word),
        }
    }
}

/// How a command ended, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Completion {
    /// Dword 0, which is the command's own.
    pub result: u32,
    /// How far the controller has read the submission queue (SQHD).
    pub head: u16,
    /// The submission queue (SQID).
    pub queue: u16,
    /// The command (CID).
    pub id: u16,
    /// The phase tag (P).
    pub phase: bool,
    /// How it ended (SF).
    pub status: Status,
}

impl Completion {
    /// Bytes of an entry.
    pub const SIZE: u64 = 16;
    /// Where in an entry the dword is that the controller writes last, with the phase tag.
    pub const LAST_WORD: u64 = 12;

    /// The phase tag in the [last word](Self::LAST_WORD).
    #[must_use]
    pub const fn phase_of(last_word: u32) -> bool {
        last_word >> 16 & 1 != 0
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 16] {
        let last = u32::from(self.status.bits()) << 17 | u32::from(self.phase) << 16 | u32::from(self.id);
        let third = u32::from(self.queue) << 16 | u32::from(self.head);
        (u128::from(last) << 96 | u128::from(third) << 64 | u128::from(self.result)).to_le_bytes()
    }

    /// What lies in memory as `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            result: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            head: half(8),
            queue: half(10),
            id: half(12),
            phase: half(14) & 1 != 0,
            status: Status::from_bits(half(14) >> 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let command = Submission {
            operation: 0x02,
            id: 0x1234,
            namespace: 7,
            prp1: 0x1122_3344_5566_7788,
            prp2: 0x99,
            words: [10, 11, 12, 13, 14, 15],
        };
        let words = command
            .to_bytes()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_le_bytes(*word))
            .collect::<Vec<_>>();
        assert_eq!(
            words,
            [0x1234_0002, 7, 0, 0, 0, 0, 0x5566_7788, 0x1122_3344, 0x99, 0, 10, 11, 12, 13, 14, 15]
        );
        // Invalid Queue Identifier (type 1, code 1) with Do Not Retry, of command 0x55 of queue 2, phase 1.
        let bytes = (0x8203_0055_u128 << 96 | 0x0002_0009_u128 << 64 | 0x77).to_le_bytes();
        let completion = Completion::from_bytes(bytes);
        assert_eq!((completion.result, completion.head, completion.queue, completion.id), (0x77, 9, 2, 0x55));
        assert!(completion.phase && Completion::phase_of(0x8203_0055));
        assert_eq!((completion.status.kind(), completion.status.code()), (1, 1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(words: [u32; 6], operation: u8, id: u16, prp1: u64, prp2: u64, bytes: [u8; 16]) {
            let command = Submission { operation, id, namespace: 1, prp1, prp2, words };
            prop_assert_eq!(Submission::from_bytes(&command.to_bytes()), command);
            let completion = Completion::from_bytes(bytes);
            prop_assert_eq!(Completion::from_bytes(completion.to_bytes()), completion);
        }
    }
}
