//! Serial Flash Discoverable Parameters (JESD216) of the parts that have them.

/// A header with one table, the basic flash parameters, at 30h.
fn with_basic(minor: u8, words: &[u32]) -> Vec<u8> {
    const TABLE: u8 = 0x30;
    let mut bytes = b"SFDP".to_vec();
    // Revision, one parameter header, unused.
    bytes.extend([minor, 1, 0, 0xFF]);
    let length = u8::try_from(words.len()).unwrap_or(u8::MAX);
    bytes.extend([0x00, minor, 1, length, TABLE, 0, 0, 0xFF]);
    bytes.resize(TABLE.into(), 0xFF);
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// The first nine words, which all revisions have. `quad_io` and `dual_io` are waits and mode clocks of EBh and BBh.
fn first_words(size: u32, address_bytes: u32, quad_io: u32, dual_io: u32) -> [u32; 9] {
    // 4 KiB with 20h, whole pages are written, and all reads but DTR are there.
    let features = 0xFF80_0000 | 0b111_0001 << 16 | address_bytes << 17 | 0x20 << 8 | 0xE5;
    [
        features,
        (u64::from(size) * 8 - 1).try_into().unwrap_or(u32::MAX),
        0x6B08_EB00 | quad_io,
        0xBB00_3B08 | dual_io << 16,
        // Whole commands on two or four lanes are not for this bus.
        0xFFFF_FFEE,
        0xFFFF_FFFF,
        0xFFFF_FFFF,
        // 2^12 bytes with 20h, 2^16 with D8h.
        0xD810_200C,
        0x0000_0000,
    ]
}

/// Revision 1.0, which ends after nine words.
pub(super) fn n25q256a(size: u32) -> Vec<u8> {
    with_basic(0, &first_words(size, 0b01, 0x0A, 0x08))
}

/// Revision 1.0, of a part that has 3-byte addresses only.
pub(super) fn mx25l(size: u32) -> Vec<u8> {
    with_basic(0, &first_words(size, 0b00, 0x44, 0x04))
}

/// Revision 1.6.
pub(super) fn mt25q(size: u32) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, i] = first_words(size, 0b01, 0x0A, 0x08);
    let words = [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        i,
        // Typical erases take 64 ms (3 + 1 times 16 ms) and 160 ms, the longest 2 * (1 + 4) times as long.
        0b01 << 16 | 9 << 11 | 0b01 << 9 | 3 << 4 | 4,
        // Pages of 2^8 bytes take 128 us (1 + 1 times 64 us), 2 * (1 + 7) times as long at most; the chip 2 times 64 s.
        0b11 << 29 | 1 << 24 | 1 << 13 | 1 << 8 | 8 << 4 | 7,
        // No suspending.
        0x8000_0000,
        0,
        // Both ways to ask whether it is busy: status bit 0, flag status bit 7.
        0b11 << 2,
        // No quad enable bit.
        0,
        // 4-byte addresses by B7h and, as long as the flash is on, back by E9h; reset by 66h and 99h.
        0b0010_0001 << 24 | 1 << 14 | 1 << 12,
    ];
    with_basic(6, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_where_its_header_says() {
        for (bytes, words) in [(n25q256a(32 << 20), 9), (mx25l(16 << 20), 9), (mt25q(128 << 20), 16)] {
            assert_eq!((&bytes[..4], bytes[11]), (&b"SFDP"[..], words));
            let table = usize::from(bytes[12]);
            assert_eq!(bytes.len(), table + 4 * usize::from(words));
            assert_eq!(bytes[table] & 0b11, 0b01, "4 KiB can be erased");
        }
        // 128 MiB are 2^30 bits.
        assert_eq!(mt25q(128 << 20)[0x34..0x38], (0x3FFF_FFFF_u32).to_le_bytes());
    }
}
