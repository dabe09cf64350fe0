//! Channels with AXI4-Streams: packets, their lengths, and who waits for whom.

use super::rig::*;
use crate::axi::Peripheral;
use crate::stream::{Crc64, Discard, Fifo, FixedData, Switch};
use crate::xdma::{Interface, Xdma};
use jitney_xdma_spec::{
    ChannelControl, Descriptor, DescriptorControl, Direction, StreamSlot, channel, sgdma,
};
use std::sync::Arc;
use std::time::Duration;

pub(super) const OUT: u64 = BASE + (1 << 20);
pub(super) const IN: u64 = BASE + (8 << 20);
const H2C_LIST: u64 = BASE;
pub(super) const C2H_LIST: u64 = BASE + 0x1000;
pub(super) const SLOTS: u64 = BASE + 0x4000;
const H2C_WORD: u64 = BASE + 0x8000;
pub(super) const C2H_WORD: u64 = BASE + 0x8004;
const INVALID_LENGTH: u32 = 1 << 5;

/// One channel each way, the one behind the other.
pub(super) fn loopback() -> Rig {
    let fifo = Arc::new(Fifo::default());
    Rig::streams(vec![fifo.clone()], vec![fifo])
}

/// Sends pieces of memory in a row, each with or without EOP.
pub(super) fn send(rig: &Rig, of: Channel, pieces: &[(u32, bool)]) {
    send_from(rig, of, OUT, pieces);
}

pub(super) fn send_from(rig: &Rig, of: Channel, mut from: u64, pieces: &[(u32, bool)]) {
    let count = pieces.len();
    for (index, &(length, end)) in pieces.iter().enumerate() {
        let at = H2C_LIST + 32 * index as u64;
        let last = index + 1 == count;
        let control = DescriptorControl::new().with_end_of_packet(end).with_stop(last).with_completed(last);
        let descriptor = Descriptor { control, length, source: from, destination: 0, next: at + 32 };
        rig.host.set_bytes(at, &descriptor.to_bytes());
        from += u64::from(length);
    }
    rig.start(of, H2C_LIST, H2C_WORD);
}

/// Arms buffers of these lengths, 1 MiB apart, with a slot each; the last has STOP.
pub(super) fn arm(rig: &Rig, of: Channel, lengths: &[u32]) {
    for (index, &length) in lengths.iter().enumerate() {
        let at = C2H_LIST + 32 * index as u64;
        let control = DescriptorControl::new().with_stop(index + 1 == lengths.len()).with_completed(true);
        let source = SLOTS + 8 * index as u64;
        let destination = IN + ((index as u64) << 20);
        rig.host.set_bytes(source, &[0; 8]);
        rig.host
            .set_bytes(at, &Descriptor { control, length, source, destination, next: at + 32 }.to_bytes());
    }
    rig.start(of, C2H_LIST, C2H_WORD);
}

/// A slot that was written: how many bytes, and whether they end a packet.
pub(super) fn slot(rig: &Rig, index: u64) -> Option<(u32, bool)> {
    let slot = StreamSlot::from_bytes(rig.host.bytes(SLOTS + 8 * index, 8)[..].try_into().unwrap());
    slot.is_valid().then(|| (slot.length, slot.status.end_of_packet()))
}

pub(super) fn settled(rig: &Rig, of: Channel) -> (u32, u32) {
    std::thread::sleep(Duration::from_millis(10));
    (rig.status(of), rig.get(of, channel::COMPLETED_COUNT))
}

#[test]
fn identifiers_say_that_they_are_streams() {
    let fifo = Arc::new(Fifo::default());
    let rig = Rig::streams(vec![fifo.clone(), fifo.clone()], vec![fifo]);
    let read = [0x0000, 0x0100, 0x0200, 0x1000, 0x1100, 0x4100, 0x5000, 0x6000, 0x2000];
    assert_eq!(
        read.map(|offset| rig.read(offset)),
        [0x1fc0_8006, 0x1fc0_8106, 0, 0x1fc1_8006, 0, 0x1fc4_8106, 0x1fc5_8006, 0x1fc6_0006, 0x1fc2_0006]
    );
}

#[test]
fn each_direction_has_one_to_four_channels() {
    let sink = || Arc::new(Discard) as _;
    for (h2c, fits) in [(0, true), (4, true), (5, false)] {
        let interface = Interface::Stream { h2c: (0..h2c).map(|_| sink()).collect(), c2h: vec![] };
        let mut config = None;
        let rig = Rig::with(|of| config = Some(of.clone()));
        let config = crate::xdma::XdmaConfig { interface, ..config.unwrap() };
        let core = Xdma::new(config, rig.host.clone(), rig.faults.clone());
        assert_eq!(core.is_ok(), fits, "{h2c}");
        if let Err(error) = core {
            assert_eq!(error.to_string(), "5 h2c channels: an XDMA has at most 4 in a direction");
        }
    }
}

#[test]
fn a_packet_arrives_with_its_exact_length() {
    let rig = loopback();
    let data = pattern(1, 1000);
    rig.host.set_bytes(OUT, &data);
    arm(&rig, C2H0, &[4096]);
    assert_eq!(settled(&rig, C2H0), (1, 0), "it waits for data");
    send(&rig, H2C0, &[(1000, true)]);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), 0);
    assert_eq!(u32::from(rig.wait_idle(C2H0)), 0);
    assert_eq!(slot(&rig, 0), Some((1000, true)));
    assert_eq!(rig.host.bytes(IN, 1001)[..1000], data);
    assert_eq!(rig.host.bytes(IN, 1001)[1000], 0);
    assert_eq!((rig.host.word(H2C_WORD), rig.host.word(C2H_WORD)), (1, 1));
    let words = rig.host.words.lock().unwrap();
    let place = |at: u64| words.iter().position(|word| *word == at).unwrap();
    assert!(place(SLOTS) < place(C2H_WORD), "the slot before the write-back: {words:x?}");
}

#[test]
fn a_packet_may_go_over_several_descriptors_on_both_sides() {
    let rig = loopback();
    let data = pattern(2, 0x3_0000 + 100);
    rig.host.set_bytes(OUT, &data);
    arm(&rig, C2H0, &[0x1_0000, 0x1_0000, 0x2_0000, 0x1000]);
    send(&rig, H2C0, &[(0x2_8000, false), (0x7000, false), (0x1064, true), (16, true)]);
    rig.wait_idle(C2H0);
    rig.wait_idle(H2C0);
    let slots: Vec<_> = (0..4).map(|index| slot(&rig, index)).collect();
    assert_eq!(
        slots,
        [Some((0x1_0000, false)), Some((0x1_0000, false)), Some((0x1_0064, true)), Some((16, true))]
    );
    for (index, part) in data.chunks(0x1_0000).take(2).enumerate() {
        assert!(rig.host.bytes(IN + ((index as u64) << 20), part.len()) == part);
    }
    assert!(rig.host.bytes(IN + (2 << 20), 0x1_0064) == data[0x2_0000..]);
    assert_eq!(rig.host.word(C2H_WORD), 4);
}

/// What cards were seen to do with a buffer of 0x810204 bytes on a data path of 16.
#[test]
fn a_buffer_of_no_whole_beats_is_written_beyond_its_end() {
    let rig = loopback();
    rig.host.set_bytes(OUT, &[7; 64]);
    arm(&rig, C2H0, &[20, 64]);
    send(&rig, H2C0, &[(64, true)]);
    rig.wait_idle(C2H0);
    assert_eq!((slot(&rig, 0), slot(&rig, 1)), (Some((32, false)), Some((32, true))));
    assert_eq!(rig.host.bytes(IN, 33), [vec![7; 32], vec![0]].concat());
}

#[test]
fn within_a_packet_h2c_takes_whole_beats_only() {
    let rig = loopback();
    send(&rig, H2C0, &[(24, false), (8, true)]);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), INVALID_LENGTH);
    rig.clear_run(H2C0);
    send(&rig, H2C0, &[(32, false), (8, true)]);
    assert_eq!(u32::from(rig.wait_idle(H2C0)), 0);
    arm(&rig, C2H0, &[4096]);
    rig.wait_idle(C2H0);
    assert_eq!(slot(&rig, 0), Some((40, true)), "nothing of the first came through");
}

#[test]
fn data_waits_for_buffers_and_none_is_lost() {
    let rig = loopback();
    let length = 4 * Fifo::DEFAULT_CAPACITY;
    let data = pattern(3, length);
    rig.host.set_bytes(OUT, &data);
    send(&rig, H2C0, &[(length as u32, true)]);
    assert_eq!(settled(&rig, H2C0), (1, 0), "nobody takes it");
    // RUN falls, but the descriptor is finished.
    rig.clear_run(H2C0);
    assert_eq!(settled(&rig, H2C0), (1, 0));
    for run in 0..4 {
        arm(&rig, C2H0, &[Fifo::DEFAULT_CAPACITY as u32]);
        rig.wait_idle(C2H0);
        rig.clear_run(C2H0);
        assert_eq!(slot(&rig, 0), Some((Fifo::DEFAULT_CAPACITY as u32, run == 3)));
        let part = &data[run * Fifo::DEFAULT_CAPACITY..][..Fifo::DEFAULT_CAPACITY];
        assert!(rig.host.bytes(IN, part.len()) == part, "part {run}");
    }
    rig.wait_idle(H2C0);
    assert_eq!(rig.host.word(H2C_WORD), 1);
}

#[test]
fn an_armed_channel_goes_idle_when_run_falls_and_loses_nothing() {
    let rig = loopback();
    arm(&rig, C2H0, &[4096, 4096]);
    assert_eq!(settled(&rig, C2H0), (1, 0));
    rig.clear_run(C2H0);
    assert_eq!(u32::from(rig.wait_idle(C2H0)), 0);
    assert_eq!((slot(&rig, 0), rig.host.word(C2H_WORD)), (None, 0));
    rig.host.set_bytes(OUT, &[5; 48]);
    send(&rig, H2C0, &[(48, true)]);
    rig.wait_idle(H2C0);
    assert_eq!(settled(&rig, C2H0), (0, 0));
    arm(&rig, C2H0, &[4096]);
    rig.wait_idle(C2H0);
    assert_eq!(slot(&rig, 0), Some((48, true)));
    assert_eq!(rig.host.bytes(IN, 48), [5; 48]);
}

/// The end of a packet comes when its beginning is with the host already.
#[test]
fn a_descriptor_that_has_begun_is_closed_when_run_falls() {
    let rig = loopback();
    arm(&rig, C2H0, &[4096, 4096]);
    rig.host.set_bytes(OUT, &[5; 48]);
    send(&rig, H2C0, &[(48, false)]);
    rig.wait_idle(H2C0);
    rig.wait_until("data", || (rig.host.bytes(IN, 48) == [5; 48]).then_some(()));
    assert_eq!(slot(&rig, 0), None, "the packet goes on");
    rig.clear_run(C2H0);
    rig.wait_idle(C2H0);
    assert_eq!((slot(&rig, 0), rig.host.word(C2H_WORD)), (Some((48, false)), 1));
    send(&rig, H2C0, &[(16, true)]);
    rig.wait_idle(H2C0);
    arm(&rig, C2H0, &[4096]);
    rig.wait_idle(C2H0);
    assert_eq!(slot(&rig, 0), Some((16, true)));
}

#[test]
fn credits_are_buffers() {
    let rig = loopback();
    rig.write(0x6020, 1 << 16);
    arm(&rig, C2H0, &[64; 4]);
    send(&rig, H2C0, &[(64, true); 4]);
    assert_eq!(settled(&rig, C2H0), (0, 0), "no credit, no work");
    rig.write(C2H0.sgdma(sgdma::CREDITS), 3);
    rig.wait_until("three", || (rig.get::<u32, _>(C2H0, channel::COMPLETED_COUNT) == 3).then_some(()));
    assert_eq!((settled(&rig, C2H0), slot(&rig, 3)), ((0, 3), None));
    rig.write(C2H0.sgdma(sgdma::CREDITS), 2);
    rig.wait_until("four", || (rig.host.word(C2H_WORD) == 4).then_some(()));
    assert_eq!(rig.read(C2H0.sgdma(sgdma::CREDITS)), 1);
    rig.clear_run(C2H0);
    rig.wait_idle(C2H0);
    assert_eq!(rig.read(C2H0.sgdma(sgdma::CREDITS)), 0);
}

#[test]
fn slots_can_be_done_without() {
    let rig = loopback();
    send(&rig, H2C0, &[(64, true)]);
    rig.set(C2H0, channel::CONTROL, ChannelControl::new());
    arm(&rig, C2H0, &[]);
    rig.clear_run(C2H0);
    rig.list(C2H_LIST, &[(SLOTS, IN, 4096)]);
    rig.host.set_bytes(SLOTS, &[0; 8]);
    let control = ChannelControl::polled(Direction::CardToHost).with_stream_writeback_disable(true);
    rig.set(C2H0, channel::CONTROL, control.with_run(true));
    rig.wait_idle(C2H0);
    assert_eq!((slot(&rig, 0), rig.host.word(C2H_WORD)), (None, 1));
}

#[test]
fn a_switch_routes_while_channels_wait() {
    let switch = Arc::new(Switch::new(2, 2));
    let rig = Rig::streams(switch.slaves(), switch.masters());
    let c2h1 = Channel(Direction::CardToHost, 1);
    rig.host.set_bytes(OUT, &[1; 64]);
    send(&rig, H2C0, &[(64, true)]);
    arm(&rig, c2h1, &[4096]);
    assert_eq!((settled(&rig, H2C0).0, settled(&rig, c2h1).0), (1, 1), "there is no route");
    switch.write(0x44, 0, u32::MAX);
    switch.write(0x00, 2, u32::MAX);
    rig.wait_idle(H2C0);
    rig.wait_idle(c2h1);
    assert_eq!(slot(&rig, 0), Some((64, true)));
    // The card's reset reaches the switch through the core.
    rig.core.reset();
    assert_eq!(switch.read(0x44), 1 << 31);
}

#[test]
fn a_crc_comes_back_for_each_packet() {
    let crc = Arc::new(Crc64::new(16));
    let rig = Rig::streams(vec![crc.clone()], vec![crc]);
    rig.host.set_bytes(OUT, &[0; 96]);
    arm(&rig, C2H0, &[4096; 2]);
    send(&rig, H2C0, &[(16, true), (16, false), (16, true)]);
    rig.wait_idle(C2H0);
    assert_eq!((slot(&rig, 0), slot(&rig, 1)), (Some((8, true)), Some((8, true))));
    assert_eq!(rig.host.bytes(IN, 8), 0x165e_c0e8_0495_dc9c_u64.to_le_bytes());
    assert_eq!(rig.host.bytes(IN + (1 << 20), 8), 0x36a5_079e_832a_ccf3_u64.to_le_bytes());
}

/// A ring without STOP, as software captures that never wants to stop.
#[test]
fn an_endless_ring_captures_until_run_falls() {
    let rig = Rig::streams(vec![Arc::new(Discard)], vec![Arc::new(FixedData::new(&[1, 2, 3, 4], Some(96)))]);
    for index in 0..4 {
        let control = DescriptorControl::new().with_completed(true);
        let (at, next) = (C2H_LIST + 32 * index, C2H_LIST + 32 * ((index + 1) % 4));
        let (source, destination) = (SLOTS + 8 * index, IN + (index << 12));
        let descriptor = Descriptor { control, length: 64, source, destination, next };
        rig.host.set_bytes(at, &descriptor.to_bytes());
    }
    rig.start(C2H0, C2H_LIST, C2H_WORD);
    rig.wait_until("many", || (rig.get::<u32, _>(C2H0, channel::COMPLETED_COUNT) > 1000).then_some(()));
    rig.clear_run(C2H0);
    rig.wait_idle(C2H0);
    let slots: Vec<_> = (0..4).map(|index| slot(&rig, index)).collect();
    assert_eq!(slots, [Some((64, false)), Some((32, true)), Some((64, false)), Some((32, true))]);
    assert_eq!(rig.host.bytes(IN, 8), [1, 2, 3, 4, 1, 2, 3, 4]);
    send(&rig, H2C0, &[(1 << 20, true)]);
    rig.wait_idle(H2C0);
}
