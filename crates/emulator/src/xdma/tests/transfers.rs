//! Data that arrives where it should.

use super::rig::*;
use crate::axi::Peripheral;
use crate::xdma::LinkLimit;
use jitney_xdma_spec::{
    ChannelControl, ChannelStatus, Descriptor, DescriptorControl, Direction, channel, sgdma,
};

use std::sync::atomic::Ordering;

const OUT: u64 = BASE + (1 << 20);
const IN: u64 = BASE + (8 << 20);
const WRITEBACK: u64 = BASE + 0x8000;

#[test]
fn all_of_the_card_goes_there_and_back() {
    let rig = Rig::new();
    let data = pattern(1, CARD as usize);
    rig.host.set_bytes(OUT, &data);
    assert_eq!(rig.run(H2C0, &[(OUT, 0, CARD as u32)]), 0);
    assert_eq!(rig.run(C2H0, &[(0, IN, CARD as u32)]), 0);
    assert!(rig.host.bytes(IN, CARD as usize) == data);
}

#[test]
fn lists_of_any_alignment_arrive_in_order_and_are_counted() {
    let rig = Rig::new();
    let mut out = Vec::new();
    let mut back = Vec::new();
    let data = pattern(2, 300_000);
    rig.host.set_bytes(OUT + 3, &data);
    let mut at = 0;
    for index in 0.. {
        let length = 1 + index * 37 % 4099;
        if at + length > 300_000 {
            break;
        }
        out.push((OUT + 3 + at, 7 + at, length as u32));
        at += length;
    }
    // Back in other pieces.
    for start in (0..at).step_by(10_000) {
        back.push((7 + start, IN + 1 + start, (at - start).min(10_000) as u32));
    }
    assert_eq!(rig.run(H2C0, &out), 0);
    assert_eq!(rig.get(H2C0, channel::COMPLETED_COUNT), out.len() as u32, "kept when RUN falls");
    assert_eq!(rig.host.word(WRITEBACK), out.len() as u32, "all descriptors, not only those with COMPLETED");
    assert_eq!(rig.run(C2H0, &back), 0);
    assert!(rig.host.bytes(IN + 1, at as usize) == data[..at as usize]);
    assert_eq!(rig.host.bytes(IN + 1 + at, 16), [0; 16], "and not a byte more");
}

#[test]
fn count_and_status_are_final_when_the_write_back_is_seen() {
    let rig = Rig::new();
    for round in 1..300 {
        rig.host.set_bytes(WRITEBACK, &[0; 4]);
        rig.list(BASE, &[(OUT, 0, 64), (OUT, 64, 64)]);
        rig.start(H2C0, BASE, WRITEBACK);
        rig.wait_until("written back", || (rig.host.word(WRITEBACK) != 0).then_some(()));
        assert_eq!(rig.status(H2C0), 0, "round {round}");
        assert_eq!((rig.host.word(WRITEBACK), rig.get(H2C0, channel::COMPLETED_COUNT)), (2, 2));
        rig.clear_run(H2C0);
    }
}

#[test]
fn the_write_back_is_done_when_busy_is_seen_clear() {
    let rig = Rig::new();
    for round in 1..300 {
        rig.host.set_bytes(WRITEBACK, &[0; 4]);
        assert_eq!(rig.run(H2C0, &[(OUT, 0, 64)]), 0);
        assert_eq!(rig.host.word(WRITEBACK), 1, "round {round}");
    }
}

#[test]
fn each_completed_descriptor_is_written_back_and_no_other() {
    let rig = Rig::new();
    rig.list(BASE, &[(OUT, 0, 16); 6]);
    for completed in [1, 3] {
        let at = BASE + 32 * completed;
        let bytes = rig.host.bytes(at, 32);
        let mut descriptor = Descriptor::from_bytes(bytes[..].try_into().unwrap());
        descriptor.control.set_completed(true);
        rig.host.set_bytes(at, &descriptor.to_bytes());
    }
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_idle(H2C0);
    assert_eq!(*rig.host.log.lock().unwrap(), ["write-back"; 3]);
    assert_eq!(rig.host.word(WRITEBACK), 6);
}

#[test]
fn stop_and_completed_are_logged_if_control_asks_for_it() {
    let rig = Rig::new();
    rig.list(BASE, &[(OUT, 0, 16)]);
    rig.set_addresses(H2C0, BASE, WRITEBACK);
    // One full write, as interrupt-driven drivers do.
    let control = ChannelControl::report_errors(Direction::HostToCard)
        .with_report_descriptor_stopped(true)
        .with_report_descriptor_completed(true)
        .with_report_idle_stopped(true);
    rig.set(H2C0, channel::CONTROL, control.with_run(true));
    let status = rig.wait_idle(H2C0);
    assert!(status.descriptor_stopped() && status.descriptor_completed() && !status.idle_stopped());
    assert_eq!(rig.host.word(WRITEBACK), 0, "no write-back without its bit");

    let cleared: ChannelStatus = rig.get(H2C0, channel::STATUS_READ_CLEAR);
    assert_eq!(cleared, status);
    assert_eq!(rig.status(H2C0), 0);
    rig.set(H2C0, channel::CONTROL, control);
    assert_eq!(rig.status(H2C0), 1 << 6, "idle after RUN fell");
    rig.set(H2C0, channel::STATUS, (1u32 << 6).into());
    assert_eq!(rig.status(H2C0), 0);
}

#[test]
fn both_directions_run_at_once() {
    let rig = Rig::channels(2, 2);
    let half = CARD as u32 / 2;
    rig.host.set_bytes(OUT, &pattern(3, half as usize));
    rig.run(H2C0, &[(OUT, 0, half)]);

    rig.host.close_gate();
    let (h2c1, c2h1) = (Channel(Direction::HostToCard, 1), Channel(Direction::CardToHost, 1));
    rig.list(BASE, &[(OUT, half.into(), half)]);
    rig.list(BASE + 0x1000, &[(0, IN, half)]);
    rig.start(h2c1, BASE, WRITEBACK);
    rig.start(c2h1, BASE + 0x1000, WRITEBACK + 4);
    rig.host.wait_for_copy();
    assert_eq!((rig.status(h2c1), rig.status(c2h1), rig.status(H2C0)), (1, 1, 0));
    rig.host.open_gate();
    rig.wait_idle(h2c1);
    rig.wait_idle(c2h1);
    assert_eq!((rig.host.word(WRITEBACK), rig.host.word(WRITEBACK + 4)), (1, 1));
    assert!(rig.host.bytes(IN, half as usize) == pattern(3, half as usize));
    rig.run(C2H0, &[(half.into(), IN, half)]);
    assert!(rig.host.bytes(IN, half as usize) == pattern(3, half as usize));
}

#[test]
fn one_address_takes_every_beat() {
    let rig = Rig::new();
    let data = pattern(4, 40);
    rig.host.set_bytes(OUT, &data);
    rig.list(BASE, &[(OUT, 0x100, 40)]);
    rig.set(H2C0, channel::CONTROL, ChannelControl::new().with_non_incrementing(true));
    rig.set_addresses(H2C0, BASE, 0);
    rig.set(H2C0, channel::CONTROL_SET, ChannelControl::new().with_run(true));
    rig.wait_idle(H2C0);
    rig.run(C2H0, &[(0x100, IN, 32)]);
    let mut expected = data[32..40].to_vec();
    expected.extend(&data[24..32]);
    expected.extend([0; 16]);
    assert_eq!(rig.host.bytes(IN, 32), expected);
}

#[test]
fn performance_counters_count_beats() {
    let rig = Rig::new();
    rig.write(0x00c0, 0b010);
    rig.write(0x00c0, 0b101);
    rig.run(H2C0, &[(OUT, 0, 4096), (OUT, 0, 17)]);
    assert_eq!(rig.read(0x00cc), 256 + 2);
    assert!(rig.read(0x00c4) > 0);
    assert_eq!(rig.read(0x00d4), 0);
}

#[test]
fn a_block_of_adjacent_descriptors_is_fetched_at_once() {
    let rig = Rig::with(|config| config.strict_adjacency = true);
    let fetches = |transfers: usize, block: usize, at: u64| {
        let before = rig.host.fetches();
        rig.adjacent_list(H2C0, at, &vec![(OUT, 0, 16); transfers], block);
        rig.start(H2C0, at, WRITEBACK);
        assert_eq!(u32::from(rig.wait_idle(H2C0)), 0, "{transfers} in blocks of {block}");
        rig.clear_run(H2C0);
        assert_eq!(rig.host.word(WRITEBACK), transfers as u32);
        rig.host.fetches() - before
    };
    // A read request has 512 bytes, as PCs set it, which are 16 descriptors.
    assert_eq!(fetches(16, 16, BASE), 1);
    assert_eq!(fetches(64, 64, BASE), 4);
    assert_eq!(fetches(126, 16, BASE), 8);
    assert_eq!(fetches(5, 1, BASE), 5);
    rig.host.read_request.store(4096, Ordering::SeqCst);
    assert_eq!(fetches(126, 64, BASE), 2);
    rig.host.read_request.store(128, Ordering::SeqCst);
    assert_eq!(fetches(64, 64, BASE), 16);
}

#[test]
fn a_block_may_not_cross_a_page() {
    for strict_adjacency in [false, true] {
        let rig = Rig::with(|config| config.strict_adjacency = strict_adjacency);
        let at = BASE + 0x1000 - 32 * 10;
        rig.adjacent_list(H2C0, at, &[(OUT, 0, 16); 16], 16);
        rig.start(H2C0, at, WRITEBACK);
        assert_eq!(u32::from(rig.wait_idle(H2C0)), 0x10);
        // One read to the end of the page, and none behind it.
        assert_eq!((rig.host.fetches(), rig.host.word(WRITEBACK)), (1, 0x8000_000a));
        rig.clear_run(H2C0);
        // Half a descriptor, in a block of one.
        let at = BASE + 0x1ff0;
        rig.adjacent_list(H2C0, at, &[(OUT, 0, 16)], 1);
        rig.start(H2C0, at, WRITEBACK);
        assert_eq!(u32::from(rig.wait_idle(H2C0)), 0x10);
    }
}

#[test]
fn a_core_with_the_bug_gets_more_than_16_adjacent_descriptors_wrong() {
    let rig = Rig::new();
    rig.faults.inject("adjacent-bug".parse().unwrap());
    let run = |transfers: usize, block: usize| {
        rig.adjacent_list(H2C0, BASE, &vec![(OUT, 0, 16); transfers], block);
        rig.start(H2C0, BASE, WRITEBACK);
        let status = u32::from(rig.wait_idle(H2C0));
        rig.clear_run(H2C0);
        (status, rig.host.word(WRITEBACK))
    };
    assert_eq!(run(40, 16), (0, 40));
    assert_eq!(run(40, 17), (0x10, 0x8000_0010));
    assert_eq!(run(40, 17), (0x10, 0x8000_0010), "for good");
    assert_eq!(run(40, 1), (0, 40));
}

/// As drivers write them that run on cards.
#[test]
fn a_block_is_executed_as_it_lies_there() {
    for strict_adjacency in [false, true] {
        let rig = Rig::with(|config| config.strict_adjacency = strict_adjacency);
        let run = |first_adjacent: u32| {
            rig.write(H2C0.sgdma(sgdma::FIRST_DESCRIPTOR_ADJACENT), first_adjacent);
            rig.start(H2C0, BASE, WRITEBACK);
            let status = u32::from(rig.wait_idle(H2C0));
            rig.clear_run(H2C0);
            (status, rig.host.word(WRITEBACK))
        };
        let expected = if strict_adjacency { (0x10, 0x8000_0000) } else { (0, 100) };
        let change = |index: u64, change: &dyn Fn(&mut Descriptor)| {
            let at = BASE + 32 * index;
            let mut descriptor = Descriptor::from_bytes(rig.host.bytes(at, 32)[..].try_into().unwrap());
            change(&mut descriptor);
            rig.host.set_bytes(at, &descriptor.to_bytes());
        };
        // Linux's own: blocks of 32, in which only the last descriptor says anything of what follows.
        rig.list(BASE, &[(OUT, 0, 16); 100]);
        for index in (0..100).filter(|index| index % 32 != 31) {
            change(index, &|descriptor| descriptor.next = 0xa7a7_a7a7_a7a7_a7a7);
        }
        for (last, adjacent) in [(31, 31), (63, 31), (95, 3)] {
            change(last, &|descriptor| descriptor.control.set_next_adjacent(adjacent));
        }
        assert_eq!(run(31), expected);
        // AMD's before 2020: the most there is, until the end comes near.
        for cap in [15_u8, 63] {
            rig.list(BASE, &[(OUT, 0, 16); 100]);
            for index in 0..99 {
                let left = u8::try_from(98 - index).unwrap();
                change(index, &|descriptor| descriptor.control.set_next_adjacent(left.min(cap)));
            }
            assert_eq!(run(cap.into()), expected, "{cap}");
        }
        // Counting down, as PG195 has it.
        rig.adjacent_list(H2C0, BASE, &[(OUT, 0, 16); 100], 16);
        assert_eq!(run(15), (0, 100));
    }
}

#[test]
fn credits_bound_what_is_fetched() {
    let rig = Rig::new();
    rig.adjacent_list(H2C0, BASE, &[(OUT, 0, 16); 8], 8);
    rig.write(0x6020, 1);
    rig.write(H2C0.sgdma(sgdma::CREDITS), 3);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.wait_until("three", || (rig.get::<u32, _>(H2C0, channel::COMPLETED_COUNT) == 3).then_some(()));
    // What was not allowed to be fetched may still change.
    let control = DescriptorControl::new().with_stop(true).with_completed(true);
    let last = Descriptor { control, length: 16, source: OUT, destination: 0, next: 0 };
    rig.host.set_bytes(BASE + 3 * 32, &last.to_bytes());
    rig.write(H2C0.sgdma(sgdma::CREDITS), 5);
    rig.wait_until("written back", || (rig.host.word(WRITEBACK) != 0).then_some(()));
    assert_eq!(rig.host.word(WRITEBACK), 4);
}

#[test]
fn a_slow_link_takes_its_time_and_a_reset_does_not_wait_for_it() {
    let rig = Rig::with(|config| config.link = Some(LinkLimit::Rate(10 << 20)));
    let start = std::time::Instant::now();
    assert_eq!(rig.run(H2C0, &[(OUT, 0, 1 << 19)]), 0);
    assert!(start.elapsed() >= std::time::Duration::from_millis(49), "{:?}", start.elapsed());
    rig.list(BASE, &[(0, IN, CARD as u32); 100]);
    rig.start(C2H0, BASE, WRITEBACK);
    rig.wait_until("begun", || (rig.host.bytes(IN, 1)[0] == 0 && rig.status(C2H0) == 1).then_some(()));
    rig.core.reset();
    // The next run begins as soon as the engine has given up.
    let start = std::time::Instant::now();
    assert_eq!(rig.run(C2H0, &[(0, IN, 16)]), 0);
    assert!(start.elapsed() < std::time::Duration::from_secs(2));
}

#[test]
fn the_write_back_is_waited_for_when_busy_is_looked_at() {
    let rig = Rig::new();
    rig.host.hold_words();
    rig.list(BASE, &[(OUT, 0, 64)]);
    rig.start(H2C0, BASE, WRITEBACK);
    rig.host.wait_for_word();
    // It does not come, so that only patience ends this.
    let start = std::time::Instant::now();
    let status = rig.status(H2C0);
    let waited = start.elapsed();
    rig.host.let_words_go();
    assert_eq!(status, 0);
    assert!(waited >= std::time::Duration::from_millis(10), "{waited:?}");
    rig.wait_until("written back", || (rig.host.word(WRITEBACK) == 1).then_some(()));
}

#[test]
fn a_pcie_link_is_shared_by_its_channels() {
    let target = std::sync::Arc::new(crate::axi::CardMemory::new(CARD).unwrap());
    let interface = crate::xdma::Interface::MemoryMapped { h2c: 2, c2h: 1, target };
    let rig = Rig::build(interface, |config| config.link = Some("gen2x4".parse().unwrap()));
    let h2c1 = Channel(Direction::HostToCard, 1);
    let start = std::time::Instant::now();
    for (of, at, word) in [(H2C0, BASE, WRITEBACK), (h2c1, BASE + 0x1000, WRITEBACK + 4)] {
        rig.list(at, &[(OUT, 0, CARD as u32); 10]);
        rig.start(of, at, word);
    }
    rig.wait_idle(H2C0);
    rig.wait_idle(h2c1);
    // 24 MB at 1.76 GB/s.
    let expected = std::time::Duration::from_micros(20 * CARD * 10 / 17_630);
    assert!(start.elapsed() >= expected, "{:?}, not {expected:?}", start.elapsed());
}
