//! Packets: the words behind the sync word (UG470, "Configuration Packets"; UG570 has the same).

/// A packet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packet {
    Nothing,
    /// So many words for a register follow.
    Write {
        register: u8,
        words: u32,
    },
    /// More than one packet holds follow for the register of the packet before.
    WriteMore {
        words: u32,
    },
    /// So many words are read; none follow.
    Read,
    /// This is none.
    Unknown,
}

impl Packet {
    pub(crate) const fn of(word: u32) -> Self {
        let operation = word >> 27 & 0b11;
        match (word >> 29, operation) {
            (0b001 | 0b010, 0) => Self::Nothing,
            (0b001 | 0b010, 1) => Self::Read,
            (0b001, 2) => Self::Write { register: (word >> 13 & 0x1f) as u8, words: word & 0x7ff },
            (0b010, 2) => Self::WriteMore { words: word & 0x7ff_ffff },
            _ => Self::Unknown,
        }
    }
}

/// Registers (UG470, "Configuration Registers").
pub(crate) mod register {
    /// Frame data, in.
    pub(crate) const FDRI: u8 = 0b00010;
    pub(crate) const CMD: u8 = 0b00100;
    /// One frame for several addresses: a compressed bitstream.
    pub(crate) const MFWR: u8 = 0b01010;
    /// The initial vector of what is encrypted from there on.
    pub(crate) const CBC: u8 = 0b01011;
    pub(crate) const IDCODE: u8 = 0b01100;
    /// What the design reads through USR_ACCESS.
    pub(crate) const AXSS: u8 = 0b01101;
    /// Where the next configuration starts.
    pub(crate) const WBSTAR: u8 = 0b10000;
    /// The watchdog.
    pub(crate) const TIMER: u8 = 0b10001;
    /// The bitstream of the next die, in a device of several.
    pub(crate) const NEXT_DIE: u8 = 0b11110;
}

/// Commands (UG470, "Command Register Codes").
pub(crate) mod command {
    pub(crate) const DESYNC: u32 = 0b01101;
    /// Configure from WBSTAR on.
    pub(crate) const IPROG: u32 = 0b01111;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_the_guides_have_them() {
        assert_eq!(Packet::of(0x2000_0000), Packet::Nothing);
        assert_eq!(Packet::of(0x3000_8001), Packet::Write { register: register::CMD, words: 1 });
        assert_eq!(Packet::of(0x3001_8001), Packet::Write { register: register::IDCODE, words: 1 });
        assert_eq!(Packet::of(0x3000_4000), Packet::Write { register: register::FDRI, words: 0 });
        assert_eq!(Packet::of(0x5024_b6c6), Packet::WriteMore { words: 0x24_b6c6 });
        assert_eq!(Packet::of(0x2800_e001), Packet::Read);
        assert_eq!((Packet::of(u32::MAX), Packet::of(0)), (Packet::Unknown, Packet::Unknown));
    }
}
