//! DDR4 (JEDEC 21-C, annex L).

use super::identity::{Manufacturer, made, part};
use super::{Generation, SHORTEST, Spd, crc16, megatransfers, period, size};

/// The only time bases that are defined, in picoseconds.
const MEDIUM_PS: u32 = 125;
const FINE_PS: u32 = 1;

pub(super) fn decode(basic: &[u8; SHORTEST], bytes: &[u8]) -> Spd {
    let ranks = (basic[12] >> 3 & 7) + 1;
    let chip_bits = (basic[12] & 7 < 4).then(|| 4 << (basic[12] & 7));
    let bus_bits = (basic[13] & 7 < 4).then(|| 8 << (basic[13] & 7));
    // Chips of 256 Mbit to 32 Gbit, then 12 and 24 Gbit.
    let chip = match basic[4] & 0xf {
        code @ 0..=7 => Some(1_u64 << (28 + code)),
        8 => Some(12 << 30),
        9 => Some(24 << 30),
        _ => None,
    };
    // Stacked chips have several dies that are ranks of their own ("3DS").
    let dies = if basic[6] & 0x83 == 0x82 { u64::from(basic[6] >> 4 & 7) + 1 } else { 1 };
    let clock_ps = period(basic[18], MEDIUM_PS, basic[125], FINE_PS);
    let identity = bytes.get(320..349);
    let at = |offset: usize| identity.and_then(|own| own.get(offset).copied());
    Spd {
        generation: Generation::Ddr4,
        form: form(basic[3] & 0xf),
        bytes: size(chip, chip_bits, bus_bits, ranks).and_then(|bytes| bytes.checked_mul(dies)),
        ranks,
        chip_bits,
        bus_bits,
        has_ecc: basic[13] >> 3 & 3 == 1,
        clock_ps,
        megatransfers: clock_ps.and_then(megatransfers),
        sum_is_right: crc16(&basic[..126]) == u16::from_le_bytes([basic[126], basic[127]]),
        manufacturer: at(0).zip(at(1)).and_then(|(bank, code)| Manufacturer::decode([bank, code])),
        part: identity.and_then(|own| own.get(9..29)).and_then(part),
        serial: identity.and_then(|own| own.get(5..9)?.first_chunk().copied()).map(u32::from_be_bytes),
        made: at(3).zip(at(4)).and_then(|(year, week)| made([year, week])),
    }
}

/// "Key Byte / Module Type".
const fn form(code: u8) -> Option<&'static str> {
    Some(match code {
        0x1 => "RDIMM",
        0x2 => "UDIMM",
        0x3 => "SO-DIMM",
        0x4 => "LRDIMM",
        0x5 => "Mini-RDIMM",
        0x6 => "Mini-UDIMM",
        0x8 => "72b-SO-RDIMM",
        0x9 => "72b-SO-UDIMM",
        0xc => "16b-SO-DIMM",
        0xd => "32b-SO-DIMM",
        _ => return None,
    })
}
