//! A bitstream, from its first byte to its end, in pieces as they come.

use crate::packets::{Packet, command, register};
use crate::parts::part_of;
use std::fmt;

const SYNC: u32 = 0xaa99_5566;
/// What is in front of the sync word for the FPGA to find how wide its bus is (UG470, "Bus Width Auto Detection").
const BUS_WIDTH: [u32; 2] = [0x0000_00bb, 0x1122_0044];
/// Bytes of a word.
const WORD: u64 = 4;
/// Dies that a device can have, and then some.
const MOST_DIES: usize = 16;

/// In which order the bytes of words, and the bits of bytes, are in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As an FPGA takes them from a flash.
    Straight,
    /// The bits of each byte are the other way round, as for some parallel buses.
    BitsSwapped,
    /// The bytes of each word of 32 bits are.
    BytesSwapped,
    /// The bytes of each 16 bits are.
    HalvesSwapped,
    /// Bits and bytes are.
    BitsAndBytesSwapped,
}

impl Order {
    const ALL: [Self; 5] = [
        Self::Straight,
        Self::BitsSwapped,
        Self::BytesSwapped,
        Self::HalvesSwapped,
        Self::BitsAndBytesSwapped,
    ];

    /// The word that these bytes are.
    fn word(self, bytes: [u8; 4]) -> u32 {
        let [a, b, c, d] = bytes;
        match self {
            Self::Straight => u32::from_be_bytes(bytes),
            Self::BitsSwapped => u32::from_be_bytes(bytes.map(u8::reverse_bits)),
            Self::BytesSwapped => u32::from_le_bytes(bytes),
            Self::HalvesSwapped => u32::from_be_bytes([b, a, d, c]),
            Self::BitsAndBytesSwapped => u32::from_le_bytes(bytes.map(u8::reverse_bits)),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Straight => "straight",
            Self::BitsSwapped => "bits of each byte swapped",
            Self::BytesSwapped => "bytes of each 32 bits swapped",
            Self::HalvesSwapped => "bytes of each 16 bits swapped",
            Self::BitsAndBytesSwapped => "bits and bytes of each 32 bits swapped",
        })
    }
}

/// What is for one die of the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Die {
    /// The IDCODE that the device has to have.
    pub idcode: Option<u32>,
    /// What the design reads through USR_ACCESS, if it is set by a packet.
    pub user_access: Option<u32>,
    /// Words of frame data.
    pub frame_words: u64,
    /// Frames are written to several addresses at once.
    pub compressed: bool,
}

/// Something that is in no bitstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Where, in bytes from the start.
    pub at: u64,
    /// The word.
    pub word: u32,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Where the sync word is, in bytes; without one it is no bitstream.
    pub sync: Option<u64>,
    /// How bytes and bits are ordered.
    pub order: Option<Order>,
    /// What an FPGA finds its bus width by is there.
    pub bus_width: bool,
    /// The dies that it is for, in its order; more than one where the device has.
    pub dies: Vec<Die>,
    /// Where a configuration starts that is asked for in it (WBSTAR).
    pub warm_boot: Option<u32>,
    /// The watchdog (TIMER).
    pub timer: Option<u32>,
    /// It starts another configuration, at [`warm_boot`](Self::warm_boot), before it is one itself.
    pub jumps: bool,
    /// What follows is encrypted, and was not read.
    pub encrypted: bool,
    /// Packets that were read.
    pub packets: u64,
    /// Where it ends, in bytes from the start: behind the command that ends it and what fills it up.
    pub end: Option<u64>,
    /// Bytes that are missing at least; zero if it has its end.
    pub missing: u64,
    /// Where it stops being one.
    pub fault: Option<Fault>,
}

impl Scan {
    /// The part that it is for, if that is known here.
    #[must_use]
    pub fn part(&self) -> Option<&'static str> {
        part_of(self.idcode()?)
    }

    /// The IDCODE that the device has to have.
    #[must_use]
    pub fn idcode(&self) -> Option<u32> {
        self.dies.iter().find_map(|die| die.idcode)
    }

    /// Words of frame data, for all dies.
    #[must_use]
    pub fn frame_words(&self) -> u64 {
        self.dies.iter().map(|die| die.frame_words).sum()
    }

    /// Whether it has a beginning and an end and nothing else in between.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.end.is_some() && self.missing == 0 && self.fault.is_none()
    }
}

/// Reads a bitstream in pieces.
///
/// ```
/// # use jitney_bitstream::Scanner;
/// # let flash = [0xff_u8; 4096];
/// let mut scanner = Scanner::default();
/// while let Some(offset) = scanner.wants() {
///     let start = usize::try_from(offset).unwrap_or(usize::MAX);
///     let Some(piece) = flash.get(start..).filter(|piece| piece.len() > 8) else { break };
///     scanner.feed(&piece[..piece.len().min(512)]);
/// }
/// assert_eq!(scanner.finish(4096).sync, None);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Scanner {
    /// The next byte.
    position: u64,
    state: State,
    /// Ends of what is for further dies, the innermost last.
    nested: Vec<u64>,
    /// The register of the last packet.
    register: u8,
    scan: Scan,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum State {
    /// For a sync word.
    #[default]
    Searching,
    /// At a packet.
    Packets,
    /// In what a packet writes, up to there.
    Payload(u64),
    /// Behind the command that ends it.
    Ended,
    Done,
}

impl Scanner {
    /// All of a bitstream at once.
    #[must_use]
    pub fn scan(bytes: &[u8]) -> Scan {
        let mut scanner = Self::default();
        while let Some(offset) = scanner.wants() {
            let piece = usize::try_from(offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default();
            if !scanner.feed(piece) {
                break;
            }
        }
        scanner.finish(bytes.len() as u64)
    }

    /// Which byte is wanted next, in bytes from the start; nothing if no more is.
    #[must_use]
    pub fn wants(&self) -> Option<u64> {
        (self.state != State::Done).then_some(self.position)
    }

    /// What was found so far.
    #[must_use]
    pub const fn so_far(&self) -> &Scan {
        &self.scan
    }

    /// Takes `bytes`, the first of which is the one that was [wanted](Self::wants). They need not all be used; says whether any
    /// were. Eight are enough to go on.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let start = self.position;
        loop {
            let at = self.position - start;
            let Some(left) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)) else { break };
            // For another die ends here, whatever was in it.
            if let Some(end) = self.nested.last().copied().filter(|end| self.position >= *end) {
                self.nested.pop();
                self.position = end;
                self.state = State::Packets;
                continue;
            }
            let went_on = match self.state {
                State::Searching => self.search(left),
                State::Packets | State::Payload(_) | State::Ended => self.word(left),
                State::Done => false,
            };
            if !went_on {
                break;
            }
        }
        self.position > start || self.state == State::Done
    }

    /// What was found, of a bitstream that has `length` bytes.
    #[must_use]
    pub fn finish(mut self, length: u64) -> Scan {
        match self.state {
            State::Ended => self.scan.end = Some(self.position.min(length)),
            State::Done => {}
            _ if self.scan.sync.is_some() => {
                let open = match self.state {
                    State::Payload(end) => end,
                    _ => self.position,
                };
                // The end of what was begun, and the command that ends all.
                let needed = self.nested.first().copied().unwrap_or(0).max(open) + 2 * WORD;
                self.scan.missing = needed.saturating_sub(length).max(1);
            }
            _ => {}
        }
        self.scan
    }

    fn search(&mut self, bytes: &[u8]) -> bool {
        let orders = match &self.scan.order {
            Some(order) => std::slice::from_ref(order),
            None => &Order::ALL[..],
        };
        let found = bytes.windows(4).enumerate().find_map(|(at, window)| {
            let word = window.try_into().unwrap_or([0; 4]);
            let order = orders.iter().find(|order| order.word(word) == SYNC)?;
            Some((at, *order))
        });
        if self.scan.sync.is_none() {
            let before = &bytes[..found.map_or(bytes.len(), |(at, _)| at)];
            self.scan.bus_width |= orders.iter().any(|order| has_bus_width(before, *order));
        }
        let Some((at, order)) = found else {
            // The first bytes of what is looked for may be the last of these.
            self.position += bytes.len().saturating_sub(7) as u64;
            return false;
        };
        self.scan.sync.get_or_insert(self.position + at as u64);
        self.scan.order = Some(order);
        if self.scan.dies.len() < MOST_DIES {
            self.scan.dies.push(Die::default());
        }
        self.position += at as u64 + WORD;
        self.state = State::Packets;
        true
    }

    fn word(&mut self, bytes: &[u8]) -> bool {
        let Some(word) = bytes.first_chunk::<4>() else { return false };
        let word = self.scan.order.unwrap_or(Order::Straight).word(*word);
        let at = self.position;
        match self.state {
            State::Packets => {
                self.position += WORD;
                self.packet(word, at);
            }
            State::Payload(end) => {
                self.position += WORD;
                self.written(word);
                if self.state == State::Payload(end) && self.position >= end {
                    self.state = State::Packets;
                }
            }
            // What fills it up are packets that do nothing.
            _ if Packet::of(word) == Packet::Nothing => self.position += WORD,
            _ => {
                self.scan.end = Some(self.position);
                self.state = State::Done;
            }
        }
        true
    }

    fn packet(&mut self, word: u32, at: u64) {
        self.scan.packets += 1;
        let words = match Packet::of(word) {
            Packet::Nothing | Packet::Read => return,
            Packet::Write { register, words } => {
                self.register = register;
                words
            }
            Packet::WriteMore { words } => words,
            Packet::Unknown => {
                self.scan.fault = Some(Fault { at, word });
                self.state = State::Done;
                return;
            }
        };
        let end = self.position + WORD * u64::from(words);
        if words == 0 {
            return;
        }
        match self.register {
            register::FDRI => {
                self.die().frame_words += u64::from(words);
                self.position = end;
            }
            register::MFWR => {
                self.die().compressed = true;
                self.position = end;
            }
            register::NEXT_DIE if self.nested.len() < MOST_DIES => {
                self.nested.push(end);
                self.state = State::Searching;
            }
            register::CBC => {
                self.scan.encrypted = true;
                self.state = State::Done;
            }
            _ => self.state = State::Payload(end),
        }
    }

    /// A word for the register of the last packet.
    fn written(&mut self, word: u32) {
        match self.register {
            register::IDCODE => self.die().idcode = Some(word),
            register::AXSS => self.die().user_access = Some(word),
            register::WBSTAR => self.scan.warm_boot = Some(word),
            register::TIMER => self.scan.timer = Some(word),
            register::CMD if word == command::IPROG => self.scan.jumps = true,
            register::CMD if word == command::DESYNC => {
                // Of a further die, nothing follows that belongs to it.
                match self.nested.last() {
                    Some(end) => {
                        self.position = *end;
                        self.state = State::Packets;
                    }
                    None => self.state = State::Ended,
                }
            }
            _ => {}
        }
    }

    fn die(&mut self) -> &mut Die {
        if self.scan.dies.is_empty() {
            self.scan.dies.push(Die::default());
        }
        let last = self.scan.dies.len() - 1;
        &mut self.scan.dies[last]
    }
}

/// Whether `bytes` have the words by which the bus width is found.
fn has_bus_width(bytes: &[u8], order: Order) -> bool {
    bytes.windows(8).any(|window| {
        let (words, _) = window.as_chunks::<4>();
        words.iter().zip(BUS_WIDTH).all(|(word, expected)| order.word(*word) == expected)
    })
}
