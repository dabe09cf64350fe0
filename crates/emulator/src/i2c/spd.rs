//! What the EEPROM of a memory module says (JEDEC 21-C, annex K, "Serial Presence Detect for DDR3 SDRAM modules").

/// A DDR3-1600 SO-DIMM of 8 GiB with two ranks of chips that are 8 bits wide.
#[must_use]
pub fn ddr3_module() -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut put = |at: usize, values: &[u8]| bytes[at..at + values.len()].copy_from_slice(values);
    // 176 of 256 bytes are used, the sum covers 117; revision 1.1; DDR3; SO-DIMM.
    put(0, &[0x92, 0x11, 0x0B, 0x03]);
    // 4 Gbit and 8 banks; 16 rows and 10 columns; 1.5 V and 1.35 V; 2 ranks of 8 bits; 64 bits without ECC.
    put(4, &[0x04, 0x21, 0x02, 0x09, 0x03]);
    // Fine time base 5/2 ps, medium 1/8 ns; a clock of 1.25 ns.
    put(9, &[0x52, 0x01, 0x08, 0x0A, 0x00, 0xFE, 0x00]);
    // tAA, tWR, tRCD, tRRD, tRP, tRAS and tRC.
    put(16, &[0x69, 0x78, 0x69, 0x30, 0x69, 0x11, 0x18, 0x81]);
    put(60, &[0x0F, 0x11, 0x65]);
    // Micron; week 15 of 2021; a serial number.
    put(117, &[0x80, 0x2C, 0x01, 0x21, 0x15, 0xDE, 0xAD, 0x00, 0x01]);
    put(128, b"8KTF1G64HZ-1G6E1  ");
    put(146, &[0x45, 0x31, 0x80, 0x2C]);
    let sum = crc16(&bytes[..117]);
    bytes[126..128].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// CRC16 with the polynomial 0x1021 and nothing at its begin.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(ddr3_module()[2], 0x0B);
    }
}
