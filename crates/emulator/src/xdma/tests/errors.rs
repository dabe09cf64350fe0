//! What goes wrong, and what a driver then sees.

use super::rig::*;
use crate::axi::Peripheral;
use jitney_xdma_spec::{Alignments, ChannelControl, Descriptor, Direction, channel};

const OUT: u64 = BASE + (1 << 20);
const IN: u64 = BASE + (8 << 20);
const WRITEBACK: u64 = BASE + 0x8000;
const NOWHERE: u64 = 0x1000;

const ALIGN_MISMATCH: u32 = 1 << 3;
const BAD_MAGIC: u32 = 1 << 4;
const INVALID_LENGTH: u32 = 1 << 5;
const READ_ERROR_0: u32 = 1 << 9;
const READ_ERROR_1: u32 = 1 << 10;
const WRITE_ERROR_0: u32 = 1 << 14;
const FETCH_ERROR: u32 = 0x0008_0010;

fn count(rig: &Rig, of: Channel) -> u32 {
    rig.get(of, channel::COMPLETED_COUNT)
}

#[test]
fn a_descriptor_that_cannot_be_fetched_is_seen_in_the_status_alone() {
    let rig = Rig::new();
    for of in [H2C0, C2H0] {
        rig.start(of, NOWHERE, WRITEBACK);
        assert_eq!(u32::from(rig.wait_idle(of)), FETCH_ERROR);
        assert_eq!((rig.host.word(WRITEBACK), count(&rig, of)), (0, 0));
        rig.clear_run(of);
    }
    // A channel is usable again without a reset.
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16)]), 0);
}

#[test]
fn a_list_that_leads_nowhere_counts_what_was_done() {
    let rig = Rig::new();
    rig.list(BASE, &[(OUT, 0, 16); 3]);
    let mut second = Descriptor::from_bytes(rig.host.bytes(BASE + 32, 32)[..].try_into().unwrap());
    second.next = NOWHERE;
    rig.host.set_bytes(BASE + 32, &second.to_bytes());
    rig.start(H2C0, BASE, WRITEBACK);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), FETCH_ERROR);
    assert_eq!(count(&rig, H2C0), 2);
}

#[test]
fn errors_after_the_fetch_are_written_back() {
    let rig = Rig::new();
    rig.start(H2C0, BASE + 0x4000, WRITEBACK);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), BAD_MAGIC);
    assert_eq!(rig.host.word(WRITEBACK), 0x8000_0000);
    rig.clear_run(H2C0);

    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16), (OUT, 0, 0)]), INVALID_LENGTH);
    assert_eq!(rig.host.word(WRITEBACK), 0x8000_0001);
}

#[test]
fn data_that_the_host_refuses_is_an_error_of_the_source_or_of_the_bus() {
    let rig = Rig::new();
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16), (NOWHERE, 0, 16), (OUT, 0, 16)]), READ_ERROR_0);
    assert_eq!((count(&rig, H2C0), rig.host.word(WRITEBACK)), (1, 0x8000_0001));
    assert_eq!(rig.run(C2H0, &[(0, NOWHERE, 16)]), READ_ERROR_1);
    assert_eq!(rig.run(C2H0, &[(0, u64::MAX - 3, 16)]), READ_ERROR_1, "beyond the end of all addresses");
    assert_eq!(rig.run(H2C0, &[(u64::MAX, 0, 16)]), READ_ERROR_0);
}

#[test]
fn card_addresses_without_memory_are_decode_errors() {
    let rig = Rig::new();
    let data = pattern(9, 64);
    rig.host.set_bytes(OUT, &data);
    assert_eq!(rig.run(H2C0, &[(OUT, CARD - 32, 64)]), WRITE_ERROR_0);
    assert_eq!(rig.run(H2C0, &[(OUT, CARD, 1)]), WRITE_ERROR_0);
    assert_eq!(rig.run(H2C0, &[(OUT, u64::MAX, 0x0fff_ffff)]), WRITE_ERROR_0);
    assert_eq!(rig.run(C2H0, &[(CARD - 32, IN, 64)]), READ_ERROR_0);
    assert_eq!(rig.host.bytes(IN, 32), data[..32], "what is inside was moved");
    assert_eq!(rig.host.bytes(IN + 32, 32), [0; 32]);
    assert_eq!(rig.run(C2H0, &[(1 << 40, IN, 64)]), READ_ERROR_0);
}

#[test]
fn channels_that_ask_for_alignment_get_it() {
    let alignments =
        Alignments::new().with_address_alignment(16).with_length_granularity(4).with_address_bits(64);
    let rig = Rig::with(|config| config.alignments = alignments);
    assert_eq!(rig.run(H2C0, &[(OUT + 1, 0, 16)]), ALIGN_MISMATCH);
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 18)]), INVALID_LENGTH);
    assert_eq!(rig.run(H2C0, &[(OUT + 3, 0x13, 16)]), ALIGN_MISMATCH, "to each other alone is not enough");
    assert_eq!(rig.run(C2H0, &[(0x20, IN + 8, 16)]), ALIGN_MISMATCH);
    assert_eq!(rig.run(C2H0, &[(0x20, IN, 16)]), 0);
}

#[test]
fn errors_are_only_logged_if_control_asks_for_it() {
    let rig = Rig::new();
    let run = ChannelControl::new().with_run(true).with_poll_mode_writeback(true);
    rig.set_addresses(H2C0, BASE + 0x4000, WRITEBACK);
    rig.set(H2C0, channel::CONTROL, run);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), 0, "bad magic stops the engine all the same");
    assert_eq!(rig.host.word(WRITEBACK), 0);
    rig.clear_run(H2C0);

    // "ie_read_error: … to stop the engine if the error is detected": without it, the engine goes on.
    rig.list(BASE, &[(NOWHERE, 0, 16), (OUT, 0, 16)]);
    rig.set_addresses(H2C0, BASE, WRITEBACK);
    rig.set(H2C0, channel::CONTROL, run);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), 0);
    assert_eq!(rig.host.word(WRITEBACK), 2);
}

#[test]
fn errors_stay_until_they_are_cleared_or_run_rises() {
    let rig = Rig::new();
    assert_eq!(rig.run(H2C0, &[(NOWHERE, 0, 16)]), READ_ERROR_0);
    assert_eq!(rig.status(H2C0), READ_ERROR_0);
    rig.write(H2C0.register(channel::STATUS), BAD_MAGIC);
    assert_eq!(rig.status(H2C0), READ_ERROR_0);
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16)]), 0);
    assert_eq!(rig.run(H2C0, &[(NOWHERE, 0, 16)]), READ_ERROR_0);
    rig.write(H2C0.register(channel::STATUS), READ_ERROR_0);
    assert_eq!(rig.status(H2C0), 0);
}

#[test]
fn a_write_back_that_is_refused_is_lost_and_nothing_else() {
    let rig = Rig::new();
    rig.list(BASE, &[(OUT, 0, 16); 2]);
    rig.start(H2C0, BASE, NOWHERE);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), 0);
    assert_eq!(count(&rig, H2C0), 2);
}

#[test]
fn faults_come_when_they_were_asked_for() {
    let rig = Rig::new();
    rig.faults.inject("descriptor-fetch:h2c0@3".parse().unwrap());
    assert_eq!(rig.run(C2H0, &[(0, IN, 16); 5]), 0);
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16); 5]), FETCH_ERROR);
    assert_eq!(count(&rig, H2C0), 2);
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16); 5]), 0, "once");
    rig.faults.inject("data-fault".parse().unwrap());
    assert_eq!(rig.run(C2H0, &[(0, IN, 16)]), READ_ERROR_0);
    rig.faults.inject("data-fault@2".parse().unwrap());
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16); 5]), READ_ERROR_0);
}

#[test]
fn a_channel_that_hangs_stays_busy_until_a_reset() {
    let rig = Rig::new();
    rig.faults.inject("hang:h2c0@2".parse().unwrap());
    rig.list(BASE, &[(OUT, 0, 16); 4]);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_until("counted", || (count(&rig, H2C0) == 1).then_some(()));
    rig.clear_run(H2C0);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!((rig.status(H2C0), rig.host.word(WRITEBACK)), (1, 0));
    rig.set(H2C0, channel::CONTROL_SET, ChannelControl::new().with_run(true));
    assert_eq!(rig.status(H2C0), 1);
    assert_eq!(rig.run(C2H0, &[(0, IN, 16)]), 0, "the other one lives");
    rig.core.reset();
    assert_eq!(rig.status(H2C0), 0);
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 16); 4]), 0);
}

#[test]
fn a_link_that_goes_down_takes_the_engines_along() {
    let rig = Rig::new();
    rig.faults.inject("link-down@2".parse().unwrap());
    rig.list(BASE, &[(OUT, 0, 16); 4]);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_until("down", || rig.faults.link_down().then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!((count(&rig, H2C0), rig.host.word(WRITEBACK)), (1, 0));
    let control = ChannelControl::polled(Direction::CardToHost).with_run(true);
    rig.set(C2H0, channel::CONTROL, control);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(count(&rig, C2H0), 0);
}
