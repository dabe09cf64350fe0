//! Bitstreams as the tools write them, in small, and everything else.

use super::*;
use proptest::prelude::*;

fn write(register: u32, word: u32) -> [u32; 2] {
    [0x3000_0001 | register << 13, word]
}

const FDRI: u32 = 2;
const CMD: u32 = 4;
const IDCODE: u32 = 12;
const AXSS: u32 = 13;
const WBSTAR: u32 = 16;

/// As Vivado has it: fill, bus width, sync, registers, frames, end, fill.
fn words() -> Vec<u32> {
    let mut words = vec![u32::MAX; 8];
    words.extend([0x0000_00bb, 0x1122_0044, u32::MAX, u32::MAX, 0xaa99_5566, 0x2000_0000]);
    words.extend(write(WBSTAR, 0));
    words.extend(write(CMD, 0));
    words.extend(write(IDCODE, 0x1363_6093));
    words.extend(write(AXSS, 0x8c34_d30f));
    words.extend([0x3000_0000 | FDRI << 13, 0x5000_0000 | 1000]);
    words.extend((0..1000_u32).map(|word| word.wrapping_mul(0x0101_0101)));
    words.extend(write(CMD, 5));
    words.extend(write(CMD, 13));
    words.extend([0x2000_0000; 16]);
    words
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The header of a `.bit` file in front of `data`.
fn bit(part: &str, data: &[u8]) -> Vec<u8> {
    let mut file = vec![0x00, 0x09, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00, 0x00, 0x01];
    for (letter, text) in [
        (b'a', "top;UserID=0XFFFFFFFF;Version=2023.1\0"),
        (b'b', &*format!("{part}\0")),
        (b'c', "2023/07/08\0"),
        (b'd', "12:34:56\0"),
    ] {
        file.push(letter);
        file.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        file.extend(text.bytes());
    }
    file.push(b'e');
    file.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    file.extend(data);
    file
}

#[test]
fn a_bit_file_is_its_header_and_a_bin_file() {
    let data = bytes(&words());
    let plain = Bitstream::read(&data).unwrap();
    assert_eq!((plain.header, plain.data), (None, 0..data.len()));
    let scan = plain.scan;
    assert_eq!((scan.sync, scan.bus_width, scan.order), (Some(48), true, Some(Order::Straight)));
    assert_eq!((scan.part(), scan.idcode(), scan.frame_words()), (Some("XC7A200T"), Some(0x1363_6093), 1000));
    assert_eq!((scan.dies[0].user_access, scan.warm_boot, scan.jumps), (Some(0x8c34_d30f), Some(0), false));
    assert_eq!((scan.end, scan.is_whole()), (Some(data.len() as u64), true));

    let file = bit("7a200tfbg484", &data);
    let own = Bitstream::read(&file).unwrap();
    let header = own.header.unwrap();
    assert_eq!((&*header.design, &*header.part), ("top;UserID=0XFFFFFFFF;Version=2023.1", "7a200tfbg484"));
    assert_eq!(
        (&*header.date, &*header.time, header.length as usize),
        ("2023/07/08", "12:34:56", data.len())
    );
    assert_eq!((&file[own.data], own.scan), (&data[..], scan));
}

#[test]
fn an_end_that_is_missing_is_seen_wherever_it_begins() {
    let data = bytes(&words());
    let end = data.len() - 16 * 4;
    for length in (53..end - 1).step_by(7) {
        let scan = Scanner::scan(&data[..length]);
        assert!(scan.missing > 0 && !scan.is_whole(), "{length}: {scan:?}");
    }
    assert!(Scanner::scan(&data[..end]).is_whole());
    // In the middle of its frames it knows how many.
    assert!(Scanner::scan(&data[..1000]).missing >= 4 * 1000 - 1000);
    let file = bit("7a200t", &data);
    let short = Bitstream::read(&file[..file.len() - 40]).unwrap();
    assert_eq!(short.scan.missing, 40, "the header says more than there is");
    // In flash, erased bytes follow; half-written, they come too early.
    let mut erased = data.clone();
    erased.extend([0xff; 100]);
    let whole = Scanner::scan(&erased);
    assert_eq!((whole.end, whole.is_whole()), (Some(data.len() as u64), true));
    let place = data.len() - 18 * 4;
    erased[place..].fill(0xff);
    assert_eq!(Scanner::scan(&erased).fault, Some(Fault { at: place as u64, word: u32::MAX }));
}

#[test]
fn swapped_orders_are_told_and_read() {
    let straight = bytes(&words());
    let expected = Scanner::scan(&straight);
    let swap = |by: usize, bits: bool| -> Vec<u8> {
        let swapped = straight.chunks(by).flat_map(|chunk| chunk.iter().rev().copied());
        swapped.map(|byte| if bits { byte.reverse_bits() } else { byte }).collect()
    };
    for (file, order) in [
        (swap(1, true), Order::BitsSwapped),
        (swap(4, false), Order::BytesSwapped),
        (swap(2, false), Order::HalvesSwapped),
        (swap(4, true), Order::BitsAndBytesSwapped),
    ] {
        assert_eq!(Scanner::scan(&file), Scan { order: Some(order), ..expected.clone() });
    }
}

#[test]
fn dies_are_nested() {
    let die = |idcode: u32, inner: Vec<u32>| {
        let mut words = vec![u32::MAX; 4];
        words.push(0xaa99_5566);
        words.extend(write(IDCODE, idcode));
        words.extend([0x3000_0000 | FDRI << 13, 0x5000_0000 | 3, 1, 2, 3]);
        if !inner.is_empty() {
            words.extend([0x3000_0000 | 30 << 13, 0x5000_0000 | u32::try_from(inner.len()).unwrap()]);
            words.extend(inner);
        }
        words.extend(write(CMD, 13));
        words
    };
    let words = die(0x14b3_7093, die(0x14b3_7093, die(0x14b3_7093, Vec::new())));
    let scan = Scanner::scan(&bytes(&words));
    assert_eq!((scan.dies.len(), scan.frame_words(), scan.part()), (3, 9, Some("XCU200")));
    assert!(scan.is_whole(), "{scan:?}");
}

#[test]
fn what_is_encrypted_is_not_read_and_what_is_no_bitstream_is_told() {
    let mut words = words();
    words.splice(14..14, [0x3000_0000 | 11 << 13 | 4, 1, 2, 3, 4, u32::MAX]);
    let scan = Scanner::scan(&bytes(&words));
    assert!(scan.encrypted && scan.fault.is_none() && scan.dies[0].frame_words == 0, "{scan:?}");
    for other in [&b""[..], b"\x7fELF", &[0xff; 100], &[0; 100]] {
        assert_eq!(Scanner::scan(other).sync, None);
    }
}

#[test]
fn a_header_that_is_none_is_an_error() {
    let file = bit("7a200t", &[]);
    for length in 13..file.len() {
        let error = Bitstream::read(&file[..length]).unwrap_err();
        assert!(matches!(error, HeaderError::Short(_)), "{length}: {error}");
    }
    assert_eq!(Bitstream::read(&file).unwrap().scan.sync, None);
    let mut wrong = file;
    wrong[13] = b'x';
    let error = Bitstream::read(&wrong).unwrap_err().to_string();
    assert!(error.contains("0x78 at 0xd, where field a (the design)"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_have_a_result(mut bytes: Vec<u8>, synced: bool, bit: bool) {
        if synced {
            bytes.splice(0..0, 0xaa99_5566_u32.to_be_bytes());
        }
        if bit {
            bytes.splice(0..0, [0x00, 0x09, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x0f, 0xf0, 0x00, 0x00, 0x01, b'a']);
        }
        if let Ok(own) = Bitstream::read(&bytes) {
            prop_assert!(own.data.end <= bytes.len());
            prop_assert!(own.scan.end.is_none_or(|end| end <= bytes.len() as u64));
        }
    }

    #[test]
    fn any_packets_have_a_result(words in prop::collection::vec(prop_oneof![any::<u32>(), 0x3000_0000_u32..0x3004_0010, 0x5000_0000_u32..0x5000_0020, Just(0xaa99_5566)], 0..200)) {
        let mut all = vec![0xaa99_5566];
        all.extend(words);
        let data = bytes(&all);
        let scan = Scanner::scan(&data);
        prop_assert!(scan.sync == Some(0) && scan.dies.len() <= 16);
    }

    /// However it is cut up.
    #[test]
    fn pieces_come_to_the_same(pieces in prop::collection::vec(8_usize..300, 1..8)) {
        let data = bytes(&words());
        let mut scanner = Scanner::default();
        let mut pieces = pieces.into_iter().cycle();
        while let Some(offset) = scanner.wants() {
            let start = usize::try_from(offset).unwrap();
            if start >= data.len() {
                break;
            }
            let end = data.len().min(start + pieces.next().unwrap());
            if !scanner.feed(&data[start..end]) {
                break;
            }
        }
        prop_assert_eq!(scanner.finish(data.len() as u64), Scanner::scan(&data));
    }
}
