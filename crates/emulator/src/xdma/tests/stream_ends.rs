//! How streams end early: by resets, by time, by faults.

use super::rig::*;
use super::streams::*;
use crate::axi::Peripheral;
use crate::stream::{Fifo, StreamSink};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

#[test]
fn a_reset_ends_who_waits_and_empties_what_was_on_its_way() {
    let rig = loopback();
    rig.host.set_bytes(OUT, &[9; 64]);
    for _ in 0..20 {
        send(&rig, H2C0, &[(2 * Fifo::DEFAULT_CAPACITY as u32, true)]);
        rig.core.reset();
        assert_eq!(rig.status(H2C0), 0);
        arm(&rig, C2H0, &[4096]);
        assert_eq!(rig.status(C2H0), 1);
        assert_eq!(slot(&rig, 0), None, "nothing is left from before");
        rig.core.reset();
    }
    arm(&rig, C2H0, &[4096]);
    send(&rig, H2C0, &[(64, true)]);
    rig.wait_idle(C2H0);
    assert_eq!(slot(&rig, 0), Some((64, true)));
}

#[test]
fn a_core_that_is_dropped_ends_channels_that_wait() {
    let rig = loopback();
    arm(&rig, C2H0, &[4096]);
    send(&rig, H2C0, &[(2 * Fifo::DEFAULT_CAPACITY as u32 * 2, false)]);
    let Rig { core, host, .. } = rig;
    drop(core);
    assert_eq!(Arc::strong_count(&host), 1, "no thread is left");
}

/// A port that is slow to answer, and notes what it was asked.
#[derive(Default)]
struct Slow(std::sync::Mutex<Vec<&'static str>>);

impl Slow {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

impl StreamSink for Slow {
    fn poll_send(&self, _: &mut Context<'_>, data: &[u8], _: bool) -> Poll<usize> {
        self.note("asked");
        std::thread::sleep(Duration::from_millis(50));
        self.note("answered");
        Poll::Ready(data.len())
    }

    fn reset(&self) {
        self.note("reset");
    }
}

#[test]
fn a_port_is_asked_for_nothing_after_its_reset() {
    let port = Arc::new(Slow::default());
    let rig = Rig::streams(vec![port.clone()], vec![]);
    send(&rig, H2C0, &[(1 << 20, true)]);
    rig.wait_until("asked", || (!port.0.lock().unwrap().is_empty()).then_some(()));
    rig.core.reset();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(*port.0.lock().unwrap(), ["asked", "answered", "reset"]);
}

#[test]
fn a_descriptor_that_has_begun_is_closed_after_the_flush_timeout() {
    let rig = loopback();
    rig.host.set_bytes(OUT, &[3; 96]);
    // 2^20 cycles of 8 ns.
    rig.write(0x3060, 20);
    arm(&rig, C2H0, &[4096, 4096]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(settled(&rig, C2H0), (1, 0), "nothing has begun");
    let start = std::time::Instant::now();
    send(&rig, H2C0, &[(32, false)]);
    rig.wait_until("closed", || slot(&rig, 0));
    assert!(start.elapsed() >= Duration::from_millis(8), "{:?}", start.elapsed());
    assert_eq!(slot(&rig, 0), Some((32, false)));
    rig.clear_run(H2C0);
    send(&rig, H2C0, &[(64, true)]);
    rig.wait_idle(C2H0);
    assert_eq!(slot(&rig, 1), Some((64, true)), "the rest of the packet");
}

/// Sends three packets of 64, 128 and 32 bytes into four descriptors; waits until their slots are these.
fn with_fault(fault: &str, expected: [Option<(u32, bool)>; 4]) {
    let rig = loopback();
    rig.faults.inject(fault.parse().unwrap());
    rig.host.set_bytes(OUT, &pattern(1, 224));
    arm(&rig, C2H0, &[4096; 4]);
    send(&rig, H2C0, &[(64, true), (128, true), (32, true)]);
    rig.wait_idle(H2C0);
    rig.wait_until(fault, || ([0, 1, 2, 3].map(|index| slot(&rig, index)) == expected).then_some(()));
    assert_eq!(rig.status(C2H0), 1, "one buffer is left");
}

#[test]
fn packets_get_lost_in_part_or_whole_on_request() {
    with_fault("short-packet:c2h0@2", [Some((64, true)), Some((64, true)), Some((32, true)), None]);
    with_fault("overrun@1", [Some((128, true)), Some((32, true)), None, None]);
    with_fault("overrun@3", [Some((64, true)), Some((128, true)), None, None]);
    with_fault("lost-eop@2", [Some((64, true)), Some((160, true)), None, None]);
    with_fault("lost-eop", [Some((192, true)), Some((32, true)), None, None]);
}

#[test]
fn a_sink_that_stalls_keeps_its_channel_busy_until_a_reset() {
    let rig = loopback();
    rig.faults.inject("stall@2".parse().unwrap());
    rig.host.set_bytes(OUT, &pattern(1, 128));
    arm(&rig, C2H0, &[64, 64, 64]);
    send(&rig, H2C0, &[(64, true), (64, true)]);
    rig.wait_until("half of the second", || {
        (rig.host.bytes(IN + (1 << 20), 32) == pattern(1, 128)[64..96]).then_some(())
    });
    rig.clear_run(H2C0);
    assert_eq!((settled(&rig, H2C0), slot(&rig, 1)), ((1, 1), None));
    assert_eq!(rig.host.bytes(IN + (1 << 20) + 32, 32), [0; 32], "the other half does not come");
    rig.core.reset();
    arm(&rig, C2H0, &[4096]);
    send(&rig, H2C0, &[(64, true)]);
    rig.wait_idle(H2C0);
    rig.wait_idle(C2H0);
    assert_eq!(slot(&rig, 0), Some((64, true)));
}
