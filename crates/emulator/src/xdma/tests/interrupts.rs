//! From a channel's status to a vector of the host.

use super::rig::*;
use crate::axi::Peripheral;
use crate::function::InterruptKind;
use crate::xdma::PeriodicInterrupt;
use jitney_xdma_spec::{ChannelControl, Direction, channel};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const OUT: u64 = BASE + (1 << 20);
const DONE: u32 = 0b110;
const CHANNEL_ENABLE: u64 = 0x2010;
const CHANNEL_ENABLE_SET: u64 = 0x2014;
const CHANNEL_ENABLE_CLEAR: u64 = 0x2018;
const CHANNEL_REQUEST: u64 = 0x2044;
const CHANNEL_PENDING: u64 = 0x204c;
const CHANNEL_VECTORS: u64 = 0x20a0;

/// Runs one descriptor as an interrupt-driven driver does, and waits for its end.
fn run_reporting(rig: &Rig, of: Channel) {
    let iova_first = of.0 == Direction::HostToCard;
    rig.list(BASE, &[if iova_first { (OUT, 0, 64) } else { (0, OUT, 64) }]);
    rig.set_addresses(of, BASE, 0);
    rig.set(of, channel::INTERRUPT_ENABLE, DONE.into());
    let control = ChannelControl::report_errors(of.0)
        .with_report_descriptor_stopped(true)
        .with_report_descriptor_completed(true);
    rig.set(of, channel::CONTROL, control.with_run(true));
    rig.wait_idle(of);
    rig.set(of, channel::CONTROL, control);
}

fn acknowledge(rig: &Rig, of: Channel) -> u32 {
    rig.get(of, channel::STATUS_READ_CLEAR).into()
}

#[test]
fn channels_raise_the_vectors_they_were_given() {
    let rig = Rig::channels(1, 2);
    rig.write(CHANNEL_ENABLE, 0b111);
    rig.write(CHANNEL_VECTORS, 0x0003_0705);
    for (of, vector, bit) in
        [(H2C0, 5, 0b001), (C2H0, 7, 0b010), (Channel(Direction::CardToHost, 1), 3, 0b100)]
    {
        run_reporting(&rig, of);
        assert_eq!((rig.read(CHANNEL_REQUEST), rig.read(CHANNEL_PENDING)), (bit, bit));
        assert_eq!(rig.host.take_interrupts(), [(vector, true)]);
        assert_eq!(acknowledge(&rig, of), DONE);
        assert_eq!(rig.host.take_interrupts(), [(vector, false)]);
        assert_eq!(rig.read(CHANNEL_PENDING), 0);
    }
}

#[test]
fn a_request_behind_the_mask_fires_when_it_is_lifted() {
    let rig = Rig::new();
    run_reporting(&rig, H2C0);
    assert_eq!((rig.read(CHANNEL_REQUEST), rig.read(CHANNEL_PENDING)), (0, 1));
    assert_eq!(rig.host.take_interrupts(), []);
    rig.write(CHANNEL_ENABLE_SET, 1);
    assert_eq!(rig.host.take_interrupts(), [(0, true)]);

    // Between a driver's look at the status and its lifting of the mask.
    rig.write(CHANNEL_ENABLE_CLEAR, 1);
    acknowledge(&rig, H2C0);
    run_reporting(&rig, H2C0);
    assert_eq!(rig.host.take_interrupts(), [(0, false)]);
    rig.write(CHANNEL_ENABLE_SET, 1);
    assert_eq!(rig.host.take_interrupts(), [(0, true)]);
}

#[test]
fn the_channel_s_own_mask_is_a_level_too() {
    let rig = Rig::new();
    rig.write(CHANNEL_ENABLE, 1);
    run_reporting(&rig, H2C0);
    rig.host.take_interrupts();
    rig.set(H2C0, channel::INTERRUPT_ENABLE_CLEAR, DONE.into());
    assert_eq!(rig.host.take_interrupts(), [(0, false)]);
    rig.set(H2C0, channel::INTERRUPT_ENABLE_SET, 0b010u32.into());
    assert_eq!(rig.host.take_interrupts(), [(0, true)]);
    rig.set(H2C0, channel::STATUS, 0b010u32.into());
    assert_eq!(rig.host.take_interrupts(), [(0, false)]);
}

#[test]
fn each_source_sends_its_own_message_on_a_shared_vector() {
    let rig = Rig::new();
    rig.write(CHANNEL_ENABLE, 0b11);
    run_reporting(&rig, H2C0);
    run_reporting(&rig, C2H0);
    assert_eq!(rig.host.take_interrupts(), [(0, true), (0, false), (0, true)]);
    acknowledge(&rig, H2C0);
    assert_eq!(rig.host.take_interrupts(), [], "the other one still requests it");
    acknowledge(&rig, C2H0);
    assert_eq!(rig.host.take_interrupts(), [(0, false)]);
}

#[test]
fn a_request_moves_with_its_vector() {
    let rig = Rig::new();
    rig.write(CHANNEL_ENABLE, 1);
    run_reporting(&rig, H2C0);
    rig.host.take_interrupts();
    rig.write(CHANNEL_VECTORS, 9);
    assert_eq!(rig.host.take_interrupts(), [(0, false), (9, true)]);
}

#[test]
fn the_interrupt_follows_the_write_back() {
    let rig = Rig::new();
    rig.write(CHANNEL_ENABLE, 1);
    rig.list(BASE, &[(OUT, 0, 64)]);
    rig.set(H2C0, channel::INTERRUPT_ENABLE, DONE.into());
    rig.set_addresses(H2C0, BASE, BASE + 0x8000);
    let control = ChannelControl::polled(Direction::HostToCard).with_report_descriptor_stopped(true);
    rig.set(H2C0, channel::CONTROL, control.with_run(true));
    rig.wait_until("interrupted", || rig.host.take_interrupts().pop());
    assert_eq!(*rig.host.log.lock().unwrap(), ["write-back", "interrupt"]);
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn user_interrupts_are_lines_of_the_design() {
    let rig = Rig::new();
    let line = rig.core.user_interrupt(13).unwrap();
    line.set(true);
    assert_eq!((rig.read(0x2048), rig.read(0x2040)), (1 << 13, 0));
    rig.write(0x208c, 0x0000_1100);
    rig.write(0x2004, 0xffff);
    assert_eq!(rig.host.take_interrupts(), [(17, true)]);
    assert_eq!(rig.read(0x2040), 1 << 13, "it is held until the logic lowers it");
    line.set(false);
    assert_eq!(rig.host.take_interrupts(), [(17, false)]);
    assert!(rig.core.user_interrupt(16).is_none());
}

#[test]
fn a_pulse_falls_when_its_message_was_sent() {
    let rig = Rig::new();
    let line = rig.core.user_interrupt(2).unwrap();
    line.pulse(Duration::ZERO);
    assert_eq!((rig.read(0x2048), rig.host.take_interrupts()), (1 << 2, vec![]), "nobody enabled it");
    rig.write(0x2080, 9 << 16);
    rig.write(0x2008, 1 << 2);
    assert_eq!(rig.host.take_interrupts(), [(9, true), (9, false)]);
    assert_eq!(rig.read(0x2048), 0);

    // The host holds it back, as behind the mask of its vector.
    rig.host.holds_messages.store(true, SeqCst);
    line.pulse(Duration::ZERO);
    line.pulse(Duration::ZERO);
    assert_eq!((rig.read(0x2040), rig.host.take_interrupts()), (1 << 2, vec![(9, true)]));
    rig.host.holds_messages.store(false, SeqCst);
    assert_eq!((rig.read(0x2040), rig.host.take_interrupts()), (0, vec![(9, false)]));
    // A reset of the card resets what makes the pulse.
    rig.host.holds_messages.store(true, SeqCst);
    line.pulse(Duration::ZERO);
    rig.core.reset();
    assert_eq!(rig.read(0x2048), 0);
}

#[test]
fn with_a_line_a_pulse_falls_when_software_has_seen_it() {
    let rig = Rig::new();
    *rig.host.kind.lock().unwrap() = InterruptKind::Intx;
    rig.write(0x2004, 0b11);
    let lines = [0, 1].map(|number| rig.core.user_interrupt(number).unwrap());
    lines.iter().for_each(|line| line.pulse(Duration::ZERO));
    rig.write(0x200c, 0b01);
    assert_eq!((rig.read(0x2040), rig.read(0x2048)), (0b10, 0));
    // However often it is read, as long as the logic holds it.
    lines[1].pulse(HOUR);
    assert_eq!([0x2040, 0x2048, 0x2040].map(|at| rig.read(at)), [0b10; 3]);
    rig.write(0x200c, 0b10);
    assert_eq!(rig.read(0x2048), 0);
}

#[test]
fn a_handler_finds_a_pulse_raised() {
    let rig = Rig::new();
    let line = rig.core.user_interrupt(2).unwrap();
    rig.write(0x2008, 1 << 2);
    line.pulse(HOUR);
    assert_eq!(rig.host.take_interrupts(), [(0, true)]);
    assert_eq!([0x2040, 0x2048, 0x2040].map(|at| rig.read(at)), [1 << 2; 3]);
    rig.write(0x200c, 1 << 2);
    assert_eq!((rig.read(0x2048), rig.host.take_interrupts()), (0, vec![(0, false)]));
    // One that was not told of yet, with an earlier one's mask still on.
    line.pulse(HOUR);
    rig.write(0x2008, 1 << 2);
    assert_eq!((rig.read(0x2040), rig.host.take_interrupts()), (1 << 2, vec![(0, true)]));
}

#[test]
fn a_design_has_as_many_user_interrupts_as_it_says() {
    let rig = Rig::with(|config| config.user_lines = 4);
    rig.write(0x2004, u32::MAX);
    assert_eq!(rig.read(0x2004), 0xf);
}

#[test]
fn periodic_interrupts_come_until_the_core_is_gone() {
    let period = std::time::Duration::from_millis(2);
    let rig = Rig::with(|config| config.user_interrupts = vec![PeriodicInterrupt { number: 5, period }]);
    rig.write(0x2004, 1 << 5);
    let mut rises = 0;
    rig.wait_until("interrupted five times", || {
        rises += rig.host.take_interrupts().iter().filter(|of| **of == (0, true)).count();
        (rises >= 5).then_some(())
    });
    let host = rig.host.clone();
    drop(rig);
    host.take_interrupts();
    std::thread::sleep(5 * period);
    assert_eq!(host.take_interrupts(), []);
}

#[test]
fn a_reset_takes_requests_back() {
    let rig = Rig::new();
    rig.write(CHANNEL_ENABLE, 1);
    run_reporting(&rig, H2C0);
    rig.host.take_interrupts();
    rig.core.reset();
    assert_eq!(rig.host.take_interrupts(), [(0, false)]);
}

#[test]
fn an_interrupt_can_be_lost() {
    let rig = Rig::new();
    rig.write(CHANNEL_ENABLE, 1);
    rig.faults.inject("lost-interrupt@2".parse().unwrap());
    let mut seen = Vec::new();
    for _ in 0..3 {
        run_reporting(&rig, H2C0);
        seen.push(rig.host.take_interrupts().contains(&(0, true)));
        acknowledge(&rig, H2C0);
        rig.host.take_interrupts();
    }
    assert_eq!(seen, [true, false, true]);
}
