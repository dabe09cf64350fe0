//! The flashes as a programmer sees them.

use super::*;
use std::thread::sleep;

/// A transaction: what comes back for `send` and then `receive` more bytes.
fn talk(flash: &mut NorFlash, send: &[u8], receive: usize) -> Vec<u8> {
    flash.selected();
    for byte in send {
        flash.exchange(*byte);
    }
    let answer = (0..receive).map(|_| flash.exchange(0)).collect();
    flash.deselected(true);
    answer
}

fn status(flash: &mut NorFlash) -> u8 {
    talk(flash, &[0x05], 1)[0]
}

fn wait(flash: &mut NorFlash) {
    while status(flash) & BUSY != 0 && !flash.has_stuck() {
        sleep(Duration::from_micros(50));
    }
}

/// Write enable, the command, and until it is done.
fn write(flash: &mut NorFlash, send: &[u8]) {
    talk(flash, &[0x06], 0);
    talk(flash, send, 0);
    wait(flash);
}

#[test]
fn every_part_says_who_it_is() {
    for (part, id) in [
        (Flash::S25fl256s, [0x01, 0x02, 0x19, 0x4D]),
        (Flash::N25q256a, [0x20, 0xBB, 0x19, 0x10]),
        (Flash::Mt25qu256, [0x20, 0xBB, 0x19, 0x10]),
        (Flash::Mt25qu01g, [0x20, 0xBB, 0x21, 0x10]),
        (Flash::Mx25l12835f, [0xC2, 0x20, 0x18, 0xC2]),
    ] {
        let mut flash = NorFlash::new(part);
        assert_eq!(talk(&mut flash, &[0x9F], 4), id, "{part}");
        let sfdp = talk(&mut flash, &[0x5A, 0, 0, 0, 0], 4);
        let expected = if part == Flash::S25fl256s { [0xFF; 4] } else { *b"SFDP" };
        assert_eq!(sfdp, expected, "{part}");
        assert_eq!(talk(&mut flash, &[0x00], 2), [0xFF; 2], "no command");
    }
}

#[test]
fn a_page_is_programmed_round_and_only_to_zero() {
    let mut flash = NorFlash::new(Flash::N25q256a);
    write(&mut flash, &[0x02, 0x00, 0x01, 0xFE, 0x11, 0x22, 0x33, 0x44]);
    // The last two went to the start of the page.
    assert_eq!(talk(&mut flash, &[0x03, 0x00, 0x01, 0xFE], 3), [0x11, 0x22, 0xFF]);
    assert_eq!(talk(&mut flash, &[0x0B, 0x00, 0x01, 0x00, 0x00], 3), [0x33, 0x44, 0xFF]);
    write(&mut flash, &[0x02, 0x00, 0x01, 0x00, 0xF1, 0xFF]);
    assert_eq!(talk(&mut flash, &[0x03, 0x00, 0x01, 0x00], 2), [0x31, 0x44]);
    // More than a page: the last 256 bytes count.
    let mut long = vec![0x02, 0x00, 0x02, 0x00];
    long.extend((0..300_u16).map(|byte| u8::try_from(byte % 251).unwrap()));
    write(&mut flash, &long);
    let page = talk(&mut flash, &[0x03, 0x00, 0x02, 0x00], 256);
    assert_eq!((page[0], page[43], page[44], page[255]), (5, 48, 44, 4));
    write(&mut flash, &[0x20, 0x00, 0x01, 0x80]);
    assert_eq!(talk(&mut flash, &[0x03, 0x00, 0x01, 0x00], 1), [0xFF]);
}

#[test]
fn nothing_is_written_without_a_write_enable_or_while_it_is_busy() {
    let mut flash = NorFlash::new(Flash::Mx25l12835f);
    talk(&mut flash, &[0x02, 0, 0, 0, 0x00], 0);
    assert_eq!(talk(&mut flash, &[0x03, 0, 0, 0], 1), [0xFF]);

    talk(&mut flash, &[0x06], 0);
    assert_eq!(status(&mut flash), WRITE_ENABLED | QUAD_ENABLED);
    talk(&mut flash, &[0xD8, 0, 0, 0], 0);
    assert_eq!(status(&mut flash), BUSY | WRITE_ENABLED | QUAD_ENABLED);
    // Neither a read nor an ID is heeded now.
    assert_eq!(talk(&mut flash, &[0x9F], 3), [0xFF; 3]);
    wait(&mut flash);
    assert_eq!(status(&mut flash), QUAD_ENABLED, "it has cleared its latch");
    assert_eq!(talk(&mut flash, &[0x9F], 3), [0xC2, 0x20, 0x18]);

    // In the middle of a byte it is no command.
    talk(&mut flash, &[0x06], 0);
    flash.selected();
    for byte in [0x02, 0, 0, 0, 0x00] {
        flash.exchange(byte);
    }
    flash.deselected(false);
    assert_eq!(status(&mut flash), WRITE_ENABLED | QUAD_ENABLED);
    talk(&mut flash, &[0x04], 0);
    assert_eq!(status(&mut flash), QUAD_ENABLED);
    // An erase with a byte too many is none, either.
    write(&mut flash, &[0x02, 0, 0, 0, 0x00]);
    write(&mut flash, &[0xD8, 0, 0, 0, 0]);
    assert_eq!(talk(&mut flash, &[0x03, 0, 0, 0], 1), [0x00]);
}

#[test]
fn four_byte_addresses_reach_all_of_a_large_one() {
    let high = [0x01, 0x80, 0x00, 0x00];
    let mut micron = NorFlash::new(Flash::N25q256a);
    talk(&mut micron, &[0xB7], 0);
    assert_eq!(talk(&mut micron, &[0x70], 1), [0x80], "it needs a write enable for that");
    write(&mut micron, &[0xB7]);
    assert_eq!(talk(&mut micron, &[0x70], 1), [0x81]);
    write(&mut micron, &[&[0x02][..], &high, &[0x5A]].concat());
    assert_eq!(talk(&mut micron, &[&[0x03][..], &high].concat(), 1), [0x5A]);
    write(&mut micron, &[0xE9]);
    assert_eq!(talk(&mut micron, &[0x03, 0x80, 0x00, 0x00], 1), [0xFF]);
    assert_eq!(talk(&mut micron, &[&[0x13][..], &high].concat(), 1), [0x5A]);
    assert_eq!(talk(&mut micron, &[&[0x0C][..], &high, &[0]].concat(), 1), [0x5A]);
    // By the extended address register, too, which a reset clears.
    write(&mut micron, &[0xC5, 0x01]);
    assert_eq!(talk(&mut micron, &[0x03, 0x80, 0x00, 0x00], 1), [0x5A]);
    talk(&mut micron, &[0x99], 0);
    assert_eq!(talk(&mut micron, &[0xC8], 1), [0x01], "a reset has to be enabled");
    talk(&mut micron, &[0x66], 0);
    talk(&mut micron, &[0x99], 0);
    assert_eq!(talk(&mut micron, &[0xC8], 1), [0x00]);

    let mut spansion = NorFlash::new(Flash::S25fl256s);
    write(&mut spansion, &[&[0x12][..], &high, &[0xA5]].concat());
    assert_eq!(talk(&mut spansion, &[&[0x13][..], &high].concat(), 1), [0xA5]);
    write(&mut spansion, &[&[0xDC][..], &high].concat());
    assert_eq!(talk(&mut spansion, &[&[0x13][..], &high].concat(), 1), [0xFF]);
}

#[test]
fn a_read_stays_within_its_die() {
    let mut flash = NorFlash::new(Flash::Mt25qu01g);
    write(&mut flash, &[0x02, 0x00, 0x00, 0x00, 0x77]);
    assert_eq!(talk(&mut flash, &[0x13, 0x03, 0xFF, 0xFF, 0xFF], 2), [0xFF, 0x77]);
    assert_eq!(talk(&mut flash, &[0x13, 0x07, 0xFF, 0xFF, 0xFF], 2), [0xFF, 0xFF]);
}

#[test]
fn protected_blocks_are_not_written_and_each_maker_says_so_in_its_way() {
    for part in [Flash::S25fl256s, Flash::N25q256a, Flash::Mx25l12835f] {
        let mut flash = NorFlash::new(part);
        let quad = if part == Flash::Mx25l12835f { QUAD_ENABLED } else { 0 };
        let all = flash.part.protection() | quad;
        write(&mut flash, &[0x01, all]);
        assert_eq!(status(&mut flash), all, "{part}");
        write(&mut flash, &[0x02, 0, 0, 0, 0x00]);
        match part {
            Flash::S25fl256s => {
                assert_eq!(status(&mut flash), all | BUSY | WRITE_ENABLED | PROGRAM_FAILED);
                assert_eq!(talk(&mut flash, &[0x9F], 1), [0xFF], "it waits to be cleared");
                talk(&mut flash, &[0x30], 0);
            }
            Flash::N25q256a => {
                assert_eq!(talk(&mut flash, &[0x70], 1), [0b1001_0010]);
                talk(&mut flash, &[0x50], 0);
                assert_eq!(talk(&mut flash, &[0x70], 1), [0x80]);
            }
            _ => assert_eq!(talk(&mut flash, &[0x2B], 1), [1 << 5]),
        }
        assert_eq!(status(&mut flash), all, "{part}");
        assert_eq!(talk(&mut flash, &[0x03, 0, 0, 0], 1), [0xFF], "{part}");
        write(&mut flash, &[0x01, quad]);
        write(&mut flash, &[0x02, 0, 0, 0, 0x00]);
        assert_eq!(talk(&mut flash, &[0x03, 0, 0, 0], 1), [0x00], "{part}");
    }
}

#[test]
fn a_sleeping_one_heeds_its_alarm_alone() {
    let mut flash = NorFlash::new(Flash::Mt25qu256);
    talk(&mut flash, &[0xB9], 0);
    assert_eq!(talk(&mut flash, &[0x9F], 1), [0xFF]);
    talk(&mut flash, &[0xAB], 0);
    assert_eq!(talk(&mut flash, &[0x9F], 1), [0x20]);
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    /// Bytes with which something happens more often than with others.
    fn byte() -> impl Strategy<Value = u8> {
        let commands = vec![
            0x01, 0x02, 0x03, 0x05, 0x06, 0x0B, 0x0C, 0x12, 0x13, 0x17, 0x20, 0x2B, 0x30, 0x5A, 0x66, 0x70,
            0x99, 0x9F, 0xB7, 0xB9, 0xAB, 0xC5, 0xC7, 0xD8, 0xDC, 0xE9, 0xF0,
        ];
        prop_oneof![prop::sample::select(commands), any::<u8>()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is sent, it goes on, and a reset gets it to say who it is.
        #[test]
        fn any_bytes_are_taken(
            part in prop::sample::select(Flash::ALL.to_vec()),
            transactions in prop::collection::vec((prop::collection::vec(byte(), 0..300), any::<bool>()), 0..20),
        ) {
            let mut flash = NorFlash::new(part);
            let id = talk(&mut flash, &[0x9F], 6);
            for (bytes, at_byte) in transactions {
                flash.selected();
                for byte in bytes {
                    flash.exchange(byte);
                }
                flash.deselected(at_byte);
            }
            flash.heed_time();
            flash.busy = None;
            for command in [0xAB, 0x30, 0x66, 0x99, 0xF0] {
                talk(&mut flash, &[command], 0);
            }
            prop_assert_eq!(talk(&mut flash, &[0x9F], 6), id);
        }
    }
}
