//! A file that may be a bitstream, all at once and in pieces.

#![no_main]

use jitney_bitstream::{Bitstream, Scanner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, piece) = input;
    let Ok(own) = Bitstream::read(bytes) else { return };
    assert!(own.data.start <= own.data.end && own.data.end <= bytes.len());
    let data = &bytes[own.data];
    let whole = Scanner::scan(data);
    assert!(whole.end.is_none_or(|end| end <= data.len() as u64) && whole.dies.len() <= 16);

    let mut scanner = Scanner::default();
    while let Some(offset) = scanner.wants() {
        let start = usize::try_from(offset).unwrap();
        let Some(left) = data.get(start..) else { break };
        if !scanner.feed(&left[..left.len().min(8 + usize::from(piece))]) {
            break;
        }
    }
    assert_eq!(scanner.finish(data.len() as u64), whole);
});
