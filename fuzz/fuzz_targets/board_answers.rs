//! What things on a board answer: a memory module, a card management, a network module, a regulator.

#![no_main]

use jitney_boards::cms::{CardInfo, Module, PAGE};
use jitney_boards::pmbus::{linear11, linear16, packet_error_code, status_words};
use jitney_boards::spd::Spd;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Spd::decode(bytes) {
        Ok(spd) => assert!(spd.ranks >= 1 && spd.part.is_none_or(|part| !part.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let info = CardInfo::decode(bytes);
    // An item has two bytes at least; eight of them can name 255 addresses.
    assert!(info.cages.len() * 2 <= bytes.len() && info.mac_addresses.len() <= bytes.len() * 32);
    if let Some((lower, rest)) = bytes.split_first_chunk::<PAGE>()
        && let Some(upper) = rest.first_chunk::<PAGE>()
    {
        let module = Module::decode(lower, upper);
        assert!(module.vendor.len() <= 16 && module.celsius.abs() <= 128.0);
    }
    for pair in bytes.chunks_exact(3) {
        let word = u16::from_le_bytes([pair[0], pair[1]]);
        assert!(linear11(word).is_finite() && linear16(word, pair[2]).is_none_or(f64::is_finite));
        assert_eq!(status_words(word).len(), word.count_ones() as usize);
    }
    // A code behind what it was made of leaves nothing.
    let code = packet_error_code(bytes);
    assert_eq!(packet_error_code(&[bytes, &[code]].concat()), 0);
});
