//! DDR3 (JEDEC 21-C, annex K).

use super::identity::{Manufacturer, made, part};
use super::{Generation, SHORTEST, Spd, crc16, megatransfers, period, size};

pub(super) fn decode(basic: &[u8; SHORTEST], bytes: &[u8]) -> Spd {
    let width = |code: u8| (code < 4).then(|| 4 << code);
    let ranks = (basic[7] >> 3 & 7) + 1;
    let chip_bits = width(basic[7] & 7);
    let bus_bits = (basic[8] & 7 < 4).then(|| 8 << (basic[8] & 7));
    // Chips of 256 Mbit to 16 Gbit.
    let chip = (basic[4] & 0xf <= 6).then(|| 1_u64 << (28 + (basic[4] & 0xf)));
    // The medium time base is a fraction of a nanosecond, the fine one of a picosecond.
    let medium_ps = (1000 * u32::from(basic[10])).checked_div(basic[11].into());
    let fine_ps = (basic[9] >> 4).checked_div(basic[9] & 0xf);
    let clock_ps =
        medium_ps.and_then(|medium| period(basic[12], medium, basic[34], fine_ps.unwrap_or(0).into()));
    // The sum leaves the identity out, if bit 7 of byte 0 says so.
    let covered = if basic[0] & 0x80 != 0 { 117 } else { 126 };
    Spd {
        generation: Generation::Ddr3,
        form: form(basic[3] & 0xf),
        bytes: size(chip, chip_bits, bus_bits, ranks),
        ranks,
        chip_bits,
        bus_bits,
        has_ecc: basic[8] >> 3 & 3 == 1,
        clock_ps,
        megatransfers: clock_ps.and_then(megatransfers),
        sum_is_right: crc16(&basic[..covered]) == u16::from_le_bytes([basic[126], basic[127]]),
        manufacturer: Manufacturer::decode([basic[117], basic[118]]),
        part: bytes.get(128..146).and_then(part),
        serial: Some(u32::from_be_bytes([basic[122], basic[123], basic[124], basic[125]])),
        made: made([basic[120], basic[121]]),
    }
}

/// "Key Byte / Module Type".
const fn form(code: u8) -> Option<&'static str> {
    Some(match code {
        0x1 => "RDIMM",
        0x2 => "UDIMM",
        0x3 => "SO-DIMM",
        0x4 => "Micro-DIMM",
        0x5 => "Mini-RDIMM",
        0x6 => "Mini-UDIMM",
        0x8 => "72b-SO-UDIMM",
        0x9 => "72b-SO-RDIMM",
        0xb => "LRDIMM",
        _ => return None,
    })
}
