//! Serial Flash Discoverable Parameters (JESD216F): what a flash says of itself. Pure; any bytes are read or refused.

use std::time::Duration;

/// Bytes of the SFDP header and of each parameter header.
const HEADER: usize = 8;
/// The table that every flash has.
const BASIC: u16 = 0xff00;
/// The words that the table has had from its first revision on.
const LEAST_WORDS: usize = 9;

/// Why bytes are no parameters that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SfdpError {
    /// There is no signature.
    #[error("it has no SFDP")]
    NoSignature,
    /// A revision whose tables have another shape.
    #[error("its SFDP has revision {0}, which is not known")]
    Revision(u8),
    /// More bytes are needed: so many from the first on.
    #[error("its SFDP goes on to byte {0:#x}")]
    Short(usize),
    /// The basic table is not there, or too short.
    #[error("its SFDP has no basic table of {LEAST_WORDS} words")]
    NoBasicTable,
    /// A size that no flash on such a bus has.
    #[error("its SFDP says that it has 2^{0} bits")]
    Size(u32),
    /// It cannot be erased in parts.
    #[error("its SFDP names no size that can be erased")]
    NoErase,
}

/// A size that can be erased, and the command for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erase {
    /// Bytes, a power of two.
    pub size: u64,
    /// The command.
    pub command: u8,
    /// The longest that it may take, where that is said.
    pub limit: Option<Duration>,
}

/// How addresses of four bytes are switched on and off, where that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FourByte {
    /// Not at all, or not in a way that is known here.
    Unknown,
    /// By B7h and E9h.
    Mode {
        /// After a write enable.
        write_enable: bool,
    },
    /// There are always four.
    Always,
}

/// What a flash says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The revision of its table: 1.6 is (1, 6).
    pub revision: (u8, u8),
    /// Bytes in all.
    pub size: u64,
    /// Bytes that are programmed at once.
    pub page: u64,
    /// What can be erased, the smallest first.
    pub erases: Vec<Erase>,
    /// The longest that programming a page may take, where that is said.
    pub program_limit: Option<Duration>,
    /// How addresses of four bytes are had.
    pub four_byte: FourByte,
    /// Whether there are addresses of three bytes.
    pub three_byte: bool,
}

impl Parameters {
    /// Reads them from the first `bytes` of the space that 5Ah reads.
    ///
    /// # Errors
    /// [`SfdpError::Short`] if more bytes are needed, and how many; else what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, SfdpError> {
        let header = bytes.get(..HEADER).ok_or(SfdpError::Short(HEADER))?;
        if &header[..4] != b"SFDP" {
            return Err(SfdpError::NoSignature);
        }
        if header[5] != 1 {
            return Err(SfdpError::Revision(header[5]));
        }
        let headers = usize::from(header[6]) + 1;
        let end = HEADER * (headers + 1);
        let headers = bytes.get(HEADER..end).ok_or(SfdpError::Short(end))?;
        // Of several the last is the newest that it has.
        let basic = headers.chunks_exact(HEADER).rev().find(|own| {
            u16::from_be_bytes([own[7], own[0]]) == BASIC && own[2] == 1 && usize::from(own[3]) >= LEAST_WORDS
        });
        let basic = basic.ok_or(SfdpError::NoBasicTable)?;
        let start = usize::from(basic[4]) | usize::from(basic[5]) << 8 | usize::from(basic[6]) << 16;
        let end = start + 4 * usize::from(basic[3]);
        let table = bytes.get(start..end).ok_or(SfdpError::Short(end))?;
        let words = table.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        Self::of_basic(&words.collect::<Vec<_>>(), (basic[2], basic[1]))
    }

    /// From the words of the basic table, nine at least. The words are numbered from 1 in JESD216.
    fn of_basic(words: &[u32], revision: (u8, u8)) -> Result<Self, SfdpError> {
        let size = size(words[1])?;
        let times = words.get(9).copied();
        let mut erases: Vec<Erase> = (0..4).filter_map(|index| erase(words, index, times)).collect();
        erases.sort_by_key(|erase| erase.size);
        erases.dedup_by_key(|erase| erase.size);
        if erases.is_empty() {
            return Err(SfdpError::NoErase);
        }
        let page_word = words.get(10).copied();
        let page = page_word.map_or(256, |word| 1 << (word >> 4 & 0xf)).clamp(1, 4096);
        let program_limit = page_word.map(|word| {
            let unit = if word >> 13 & 1 == 0 { 8 } else { 64 };
            Duration::from_micros(u64::from((word >> 8 & 0x1f) + 1) * unit) * (2 * ((word & 0xf) + 1))
        });
        let address_bytes = words[0] >> 17 & 0b11;
        let four_byte = match (address_bytes, words.get(15)) {
            (0b10, _) => FourByte::Always,
            (_, Some(word)) if word >> 24 & 1 != 0 => FourByte::Mode { write_enable: false },
            (_, Some(word)) if word >> 25 & 1 != 0 => FourByte::Mode { write_enable: true },
            (_, Some(word)) if word >> 30 & 1 != 0 => FourByte::Always,
            _ => FourByte::Unknown,
        };
        let three_byte = address_bytes != 0b10;
        Ok(Self { revision, size, page, erases, program_limit, four_byte, three_byte })
    }
}

/// Word 2: bits, less one, or their logarithm.
fn size(word: u32) -> Result<u64, SfdpError> {
    let bits = if word >> 31 == 0 {
        u64::from(word) + 1
    } else {
        match word & 0x7fff_ffff {
            power @ 32..=40 => 1 << power,
            power => return Err(SfdpError::Size(power)),
        }
    };
    if bits.is_power_of_two() && bits >= 1 << 15 { Ok(bits / 8) } else { Err(SfdpError::Size(bits.ilog2())) }
}

/// Erase type `index` from 0 of words 8 and 9, with its time from word 10.
fn erase(words: &[u32], index: u32, times: Option<u32>) -> Option<Erase> {
    let word = words[7 + (index / 2) as usize] >> (16 * (index % 2));
    let power = word & 0xff;
    if !(8..=30).contains(&power) {
        return None;
    }
    let [_, command, ..] = word.to_le_bytes();
    let limit = times.map(|times| {
        let own = times >> (4 + 7 * index);
        let unit = [1, 16, 128, 1000][(own >> 5 & 0b11) as usize];
        Duration::from_millis(u64::from((own & 0x1f) + 1) * unit) * (2 * ((times & 0xf) + 1))
    });
    Some(Erase { size: 1 << power, command, limit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(minor: u8, words: &[u32]) -> Vec<u8> {
        let mut bytes = b"SFDP".to_vec();
        bytes.extend([minor, 1, 0, 0xff]);
        bytes.extend([0x00, minor, 1, u8::try_from(words.len()).unwrap(), 0x10, 0, 0, 0xff]);
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    /// As an N25Q256A has it.
    const OLD: [u32; 9] = [
        0xfff3_20e5,
        0x0fff_ffff,
        0x6b08_eb2a,
        0xbb27_3b08,
        0xffff_ffff,
        0xffff_ffff,
        0xffff_ffff,
        0xd810_200c,
        0x0000_0000,
    ];

    #[test]
    fn the_first_revision_says_size_and_erases() {
        let parameters = Parameters::parse(&with(0, &OLD)).unwrap();
        assert_eq!(
            (parameters.size, parameters.page, parameters.four_byte),
            (32 << 20, 256, FourByte::Unknown)
        );
        let erases: Vec<_> = parameters.erases.iter().map(|own| (own.size, own.command, own.limit)).collect();
        assert_eq!(erases, [(4096, 0x20, None), (65536, 0xd8, None)]);
    }

    #[test]
    fn later_ones_say_times_and_address_modes() {
        let mut words = OLD.to_vec();
        words.extend([0x0001_4a34, 0x6100_2187, 0, 0, 0, 0, 0x2100_5000]);
        let parameters = Parameters::parse(&with(6, &words)).unwrap();
        assert_eq!(parameters.program_limit, Some(Duration::from_micros(2048)));
        // 3 + 1 times 16 ms and 9 + 1 times 16 ms, each at most ten times as long.
        let limits: Vec<_> = parameters.erases.iter().map(|own| own.limit.unwrap().as_millis()).collect();
        assert_eq!(limits, [640, 1600]);
        assert_eq!(parameters.four_byte, FourByte::Mode { write_enable: false });
    }

    #[test]
    fn what_is_no_table_is_refused_and_what_is_missing_is_asked_for() {
        assert_eq!(Parameters::parse(&[0xff; 64]), Err(SfdpError::NoSignature));
        let good = with(0, &OLD);
        assert_eq!(Parameters::parse(&good[..4]), Err(SfdpError::Short(8)));
        assert_eq!(Parameters::parse(&good[..12]), Err(SfdpError::Short(16)));
        assert_eq!(Parameters::parse(&good[..20]), Err(SfdpError::Short(52)));
        assert_eq!(Parameters::parse(&with(0, &OLD[..8])), Err(SfdpError::NoBasicTable));
        let mut none = OLD;
        none[7] = 0;
        assert_eq!(Parameters::parse(&with(0, &none)), Err(SfdpError::NoErase));
        let mut large = OLD;
        large[1] = 0x8000_0050;
        assert_eq!(Parameters::parse(&with(0, &large)), Err(SfdpError::Size(80)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, signed: bool) {
            if signed && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(b"SFDP\x06\x01\x00\xff");
            }
            if let Ok(own) = Parameters::parse(&bytes) {
                prop_assert!(own.size.is_power_of_two() && own.page.is_power_of_two() && !own.erases.is_empty());
            }
        }

        #[test]
        fn any_table_is_read_or_refused(words in prop::collection::vec(any::<u32>(), 9..24)) {
            if let Ok(own) = Parameters::parse(&with(8, &words)) {
                prop_assert!(own.erases.iter().all(|erase| erase.size.is_power_of_two()));
            }
        }
    }
}
