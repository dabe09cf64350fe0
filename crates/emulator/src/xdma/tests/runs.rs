//! How runs begin, wait and end.

use super::rig::*;
use crate::axi::Peripheral;
use jitney_xdma_spec::{ChannelControl, Descriptor, DescriptorControl, channel};
use std::time::{Duration, Instant};

const OUT: u64 = BASE + (1 << 20);
const WRITEBACK: u64 = BASE + 0x8000;
const CREDITS: u64 = 0x408c;

/// A ring of `count` descriptors without STOP; each has COMPLETED.
fn ring(rig: &Rig, count: u64, length: u32) {
    for index in 0..count {
        let next = BASE + 32 * ((index + 1) % count);
        let control = DescriptorControl::new().with_completed(true);
        let descriptor = Descriptor { control, length, source: OUT, destination: 0, next };
        rig.host.set_bytes(BASE + 32 * index, &descriptor.to_bytes());
    }
}

fn count(rig: &Rig) -> u32 {
    rig.get(H2C0, channel::COMPLETED_COUNT)
}

fn settles_at(rig: &Rig, expected: u32) {
    rig.wait_until("at the count", || (count(rig) == expected).then_some(()));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(count(rig), expected);
}

#[test]
fn one_descriptor_for_each_credit_across_additions() {
    let rig = Rig::new();
    ring(&rig, 3, 64);
    rig.write(0x6024, 1);
    rig.start(H2C0, BASE, WRITEBACK);
    settles_at(&rig, 0);
    assert_eq!(rig.status(H2C0), 0, "nothing to do");
    rig.write(CREDITS, 4);
    settles_at(&rig, 4);
    rig.write(CREDITS, 1);
    settles_at(&rig, 5);
    assert_eq!((rig.read(CREDITS), rig.status(H2C0)), (0, 0));
    // The position was kept: two more, and the ring is at its start for the third time.
    rig.host.set_bytes(BASE + 64, &[0; 32]);
    rig.write(CREDITS, 1);
    rig.wait_until("bad magic", || (rig.status(H2C0) == 1 << 4).then_some(()));
    assert_eq!(count(&rig), 5);
}

#[test]
fn an_endless_ring_ends_when_run_is_cleared() {
    let rig = Rig::new();
    ring(&rig, 4, 4096);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_until("running", || (count(&rig) > 1000).then_some(()));
    assert_eq!(rig.status(H2C0), 1);
    rig.clear_run(H2C0);
    rig.wait_idle(H2C0);
    let end = count(&rig);
    assert_eq!(rig.host.word(WRITEBACK), end);
    settles_at(&rig, end);

    rig.host.close_gate();
    rig.set(H2C0, channel::CONTROL_SET, ChannelControl::new().with_run(true));
    rig.host.wait_for_copy();
    assert_eq!(count(&rig), 0, "the count starts again");
    rig.host.open_gate();
    rig.clear_run(H2C0);
    rig.wait_idle(H2C0);
}

#[test]
fn registers_answer_at_once_while_every_descriptor_is_written_back() {
    let rig = Rig::new();
    ring(&rig, 4, 16);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_until("running", || (count(&rig) > 0).then_some(()));
    let before = Instant::now();
    for _ in 0..500 {
        assert_eq!(rig.status(H2C0), 1);
    }
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    rig.clear_run(H2C0);
    rig.wait_idle(H2C0);
}

#[test]
fn clearing_run_lets_the_descriptor_finish() {
    let rig = Rig::new();
    ring(&rig, 2, 4096);
    rig.host.close_gate();
    rig.start(H2C0, BASE, WRITEBACK);
    rig.host.wait_for_copy();
    rig.clear_run(H2C0);
    assert_eq!(rig.status(H2C0), 1);
    rig.host.open_gate();
    rig.wait_idle(H2C0);
    assert_eq!((count(&rig), rig.host.word(WRITEBACK)), (1, 1));
}

#[test]
fn a_run_that_begins_before_the_last_descriptor_ended_counts_its_own() {
    let rig = Rig::new();
    ring(&rig, 2, 4096);
    rig.host.close_gate();
    rig.start(H2C0, BASE, WRITEBACK);
    rig.host.wait_for_copy();
    rig.clear_run(H2C0);
    rig.list(BASE + 0x1000, &[(OUT, 0, 16)]);
    rig.start(H2C0, BASE + 0x1000, WRITEBACK);
    assert_eq!(rig.status(H2C0), 1);
    rig.host.open_gate();
    rig.wait_idle(H2C0);
    assert_eq!((count(&rig), rig.host.word(WRITEBACK)), (1, 1));
}

#[test]
fn a_halted_channel_fetches_nothing_until_it_is_released() {
    let rig = Rig::new();
    rig.list(BASE, &[(OUT, 0, 16); 3]);
    rig.write(0x6014, 1);
    rig.start(H2C0, BASE, WRITEBACK);
    settles_at(&rig, 0);
    assert_eq!(rig.status(H2C0), 1);
    rig.write(0x6018, 1);
    rig.wait_idle(H2C0);
    assert_eq!(count(&rig), 3);
}

#[test]
fn descriptors_are_read_anew_in_every_run() {
    let rig = Rig::new();
    for length in [16, 32, 48] {
        rig.host.set_bytes(OUT, &pattern(length, length as usize));
        assert_eq!(rig.run(H2C0, &[(OUT, 0, length)]), 0);
        assert_eq!(rig.run(C2H0, &[(0, OUT + 4096, length)]), 0);
        assert_eq!(rig.host.bytes(OUT + 4096, length as usize), pattern(length, length as usize));
    }
}

#[test]
fn a_reset_stops_an_engine_in_the_middle_of_data() {
    let rig = Rig::new();
    ring(&rig, 1, 0x10_0000);
    rig.host.close_gate();
    rig.start(H2C0, BASE, WRITEBACK);
    rig.host.wait_for_copy();
    let before = Instant::now();
    rig.core.reset();
    assert!(before.elapsed() < Duration::from_secs(1), "a reset does not wait for the host");
    assert_eq!((rig.status(H2C0), count(&rig)), (0, 0));
    rig.host.open_gate();

    // The next run has nothing of the last one.
    rig.list(BASE, &[(OUT, 0, 16)]);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_idle(H2C0);
    settles_at(&rig, 1);
    assert_eq!(rig.host.word(WRITEBACK), 1);
    // The piece that waited, and the new run's: three more of the old descriptor were not copied.
    assert_eq!(rig.host.copies(), 2);
}

#[test]
fn a_core_that_is_dropped_ends_its_engines() {
    let rig = Rig::new();
    ring(&rig, 4, 0x10_0000);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_until("running", || (count(&rig) > 0).then_some(()));
    let Rig { core, host, .. } = rig;
    drop(core);
    assert_eq!(std::sync::Arc::strong_count(&host), 1, "no thread is left");
}

#[test]
fn the_written_count_wraps_at_24_bits() {
    use crate::xdma::state::{Outcome, State};
    use jitney_xdma_spec::{Alignments, ChannelStatus, Direction};

    let mut state = State::new(Direction::HostToCard, 0, false, Alignments::ANY, 125_000_000);
    state.write_channel(0x04, 0x0400_0001, u32::MAX);
    state.completed = 0x00ff_fffe;
    let words: Vec<u32> = (0..3)
        .map(|_| {
            let job = state.start().unwrap();
            let errors = ChannelStatus::new();
            let done = Outcome::Executed {
                beats: 1,
                stop: false,
                completed: true,
                next: 0,
                next_adjacent: 0,
                errors,
            };
            state.finish(&job, done).unwrap().word.into()
        })
        .collect();
    assert_eq!(words, [0x00ff_ffff, 0, 1]);
    assert_eq!(state.read_channel(0x48), 0x0100_0001);
}
