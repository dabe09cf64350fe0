//! What can be wrong with a message.

use crate::Command;

/// The errno values this crate answers with, as Linux numbers them on the machines it supports (x86-64, AArch64).
pub mod errno {
    /// A list or a transfer is too long.
    pub const E2BIG: u32 = 7;
    /// Something is mapped there already.
    pub const EEXIST: u32 = 17;
    /// A value makes no sense.
    pub const EINVAL: u32 = 22;
    /// The command or flag is not implemented.
    pub const ENOTSUP: u32 = 95;
}

/// The body of a message that does not follow the specification, or asks for what this crate leaves out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The specification has no such command.
    #[error("command {number} is unknown")]
    UnknownCommand {
        /// The number in the header.
        number: u16,
    },
    /// The command exists, and is not implemented or not for this side of the connection.
    #[error("{command} is not supported")]
    UnsupportedCommand {
        /// The command.
        command: Command,
    },
    /// A flag exists and is not implemented.
    #[error("{command}: flags {flags:#x}: {what} is not supported")]
    UnsupportedFlag {
        /// The command.
        command: Command,
        /// The whole flags field.
        flags: u32,
        /// What the flag would ask for.
        what: &'static str,
    },
    /// The body ends before a field does.
    #[error("{command}: the body has {length} bytes, `{field}` ends at byte {needed}")]
    Short {
        /// The command.
        command: Command,
        /// The field that is missing or cut off.
        field: &'static str,
        /// Where the field ends, in bytes from the start of the body.
        needed: u64,
        /// How long the body is, in bytes.
        length: usize,
    },
    /// A field has a value that the specification does not allow.
    #[error("{command}: `{field}` is {value:#x}: {reason}")]
    Value {
        /// The command.
        command: Command,
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More data asked for or sent than one message may carry.
    #[error("{command}: `{field}` is {value}, the limit is {limit}")]
    TooLarge {
        /// The command.
        command: Command,
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// What it may say at most.
        limit: u64,
    },
    /// The capabilities are no JSON, or one of them has the wrong type.
    #[error("VERSION: the capabilities cannot be read: {reason}")]
    Capabilities {
        /// What the JSON reader said, with line and column.
        reason: String,
    },
}

impl DecodeError {
    /// The errno with which to answer a request that is wrong in this way; see [`errno`].
    #[must_use]
    pub const fn errno(&self) -> u32 {
        match self {
            Self::UnknownCommand { .. } | Self::UnsupportedCommand { .. } | Self::UnsupportedFlag { .. } => {
                errno::ENOTSUP
            }
            Self::TooLarge { .. } => errno::E2BIG,
            Self::Short { .. } | Self::Value { .. } | Self::Capabilities { .. } => errno::EINVAL,
        }
    }
}

/// The header of a message is not that of the reply that was waited for, or the reply is a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The message is a command, or of no type the specification knows.
    #[error("waiting for the reply to {command}: a message of type {kind} came")]
    NotAReply {
        /// What was asked.
        command: Command,
        /// The type bits of the header; 1 is a reply.
        kind: u8,
    },
    /// The reply answers another message.
    #[error(
        "waiting for the reply to {command} (message {expected}): message {id}, command {number} was answered"
    )]
    Mismatch {
        /// What was asked.
        command: Command,
        /// The identifier it was asked with.
        expected: u16,
        /// The identifier in the reply.
        id: u16,
        /// The command number in the reply.
        number: u16,
    },
    /// The peer answered with an error.
    #[error("the peer refused {command} with errno {errno}")]
    Refused {
        /// What was asked.
        command: Command,
        /// The errno; the specification allows 0, "no reason given".
        errno: u32,
    },
}
