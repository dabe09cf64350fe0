//! Wills as their owner carries them out, on an engine that takes its time to stop.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_vfio::{
    Card, ErrorKind, FakeBar, FakeCard, FakeHost, LeaseRequest, RunningWill, Will, WillProgress, WillStep,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const RUN: u64 = 0;
const BUSY: u64 = 4;
const OTHER: u64 = 8;

/// An engine that is busy for as many looks as it was given once it was told to stop.
#[derive(Default)]
struct Engine {
    running: AtomicU32,
    busy: AtomicU32,
    written: Mutex<Vec<(u64, u32)>>,
}

impl FakeBar for Engine {
    fn read32(&self, offset: u64) -> u32 {
        if offset == BUSY && self.running.load(Ordering::Relaxed) == 0 {
            let left = self.busy.load(Ordering::Relaxed);
            self.busy.store(left.saturating_sub(1), Ordering::Relaxed);
            return u32::from(left > 0) | 0x100;
        }
        0x101
    }

    fn write32(&self, offset: u64, value: u32) {
        self.written.lock().unwrap().push((offset, value));
        if offset == RUN {
            self.running.store(value, Ordering::Relaxed);
        }
    }
}

/// An engine that runs, and is busy for so many looks after it was stopped.
fn engine(busy: u32) -> Arc<Engine> {
    Arc::new(Engine { running: 1.into(), busy: busy.into(), ..Engine::default() })
}

fn builder(host: &FakeHost, engine: &Arc<Engine>) -> jitney_vfio::FakeBuilder {
    FakeCard::builder(host, 0x10ee, 0x7011).bar(0, 0x1000, Arc::clone(engine))
}

fn until_idle(within_ms: u32) -> WillStep {
    WillStep::WaitUntil { bar: 0, offset: BUSY, mask: 1, value: 0, within_ms }
}

#[test]
fn only_a_will_that_waits_has_seen_its_engine_quiet() {
    let stop = WillStep::Write { bar: 0, offset: 0, value: 0 };
    assert!(!Will::none().waits());
    assert!(!Will(vec![stop]).waits());
    assert!(Will(vec![stop, until_idle(0)]).waits());
    assert!(Will(vec![until_idle(10), stop]).waits());
}

#[test]
fn a_will_waits_for_its_engine_and_then_goes_on() {
    let engine = engine(3);
    let card = builder(&FakeHost::new(), &engine).open().unwrap();
    let steps = vec![WillStep::write(0, RUN, 0), until_idle(4000), WillStep::write(0, OTHER, 7)];
    let mut will = RunningWill::new([Will(steps)]);
    for _ in 0..3 {
        assert!(matches!(will.step(&card), WillProgress::Waits));
        assert_eq!(*engine.written.lock().unwrap(), [(RUN, 0)]);
    }
    assert!(matches!(will.step(&card), WillProgress::Ended(Ok(()))));
    assert_eq!(*engine.written.lock().unwrap(), [(RUN, 0), (OTHER, 7)]);
}

#[test]
fn all_steps_are_carried_out_and_the_first_failure_is_told() {
    let engine = engine(u32::MAX);
    let card = builder(&FakeHost::new(), &engine).open().unwrap();
    let first = Will(vec![WillStep::write(0, 2, 0), WillStep::write(0, RUN, 0), until_idle(5)]);
    let second = Will(vec![WillStep::write(1, 0, 0), WillStep::write(0, OTHER, 1)]);
    let error = RunningWill::new([first, second]).finish(&card).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(*engine.written.lock().unwrap(), [(RUN, 0), (OTHER, 1)]);

    let error = RunningWill::new([Will(vec![until_idle(5)])]).finish(&card).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

/// Whoever waits for a dead client's card waits for all of its wills together no longer than one may take.
#[test]
fn many_wills_wait_together_as_long_as_one_may() {
    let engine = engine(u32::MAX);
    let card = builder(&FakeHost::new(), &engine).open().unwrap();
    let will =
        |value| Will(vec![WillStep::write(0, RUN, 0), until_idle(4000), WillStep::write(0, OTHER, value)]);
    let since = Instant::now();
    let error = RunningWill::new((0..64).map(will)).finish(&card).unwrap_err();
    let took = since.elapsed();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(took >= Will::MAX_WAIT && took < Will::MAX_WAIT + Duration::from_secs(1), "{took:?}");
    let written = engine.written.lock().unwrap();
    let others: Vec<u32> = written.iter().filter(|(at, _)| *at == OTHER).map(|(_, value)| *value).collect();
    assert_eq!(others, (0..64).collect::<Vec<_>>(), "what does not wait is carried out all the same");
}

#[test]
fn a_long_will_lets_others_have_their_turn() {
    let engine = engine(0);
    let card = builder(&FakeHost::new(), &engine).open().unwrap();
    let mut will = RunningWill::new([Will(vec![WillStep::write(0, OTHER, 1); 80])]);
    for written in [32, 64] {
        assert!(matches!(will.step(&card), WillProgress::Waits));
        assert_eq!(engine.written.lock().unwrap().len(), written);
    }
    assert!(matches!(will.step(&card), WillProgress::Ended(Ok(()))));
    assert_eq!(engine.written.lock().unwrap().len(), 80);
}

/// All ones mean that no card is there, unless one is.
#[test]
fn a_register_may_hold_all_ones() {
    struct Ones;
    impl FakeBar for Ones {
        fn read32(&self, _: u64) -> u32 {
            u32::MAX
        }

        fn write32(&self, _: u64, _: u32) {}
    }
    let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7011).bar(0, 0x1000, Ones).open().unwrap();
    let all_ones = WillStep::WaitUntil { bar: 0, offset: 0, mask: u32::MAX, value: u32::MAX, within_ms: 5 };
    RunningWill::new([Will(vec![all_ones])]).finish(&card).unwrap();
}

#[test]
fn a_card_that_does_not_answer_is_not_quiet() {
    let (host, engine) = (FakeHost::new(), engine(0));
    let card = builder(&host, &engine).open().unwrap();
    host.set_link(false);
    let all_ones = WillStep::WaitUntil { bar: 0, offset: BUSY, mask: 1, value: 1, within_ms: 5 };
    let error = RunningWill::new([Will(vec![all_ones])]).finish(&card).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let error = RunningWill::new([Will(vec![WillStep::write(0, RUN, 0)])]).finish(&card).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LinkDown, "{error}");
}

/// Any client of a card can switch that off, and then die.
#[test]
fn a_card_whose_memory_is_off_answers_again_when_its_owner_has_switched_it_on() {
    let (host, engine) = (FakeHost::new(), engine(0));
    let card = builder(&host, &engine).open().unwrap();
    card.set_memory_decode(false).unwrap();
    let will = || RunningWill::new([Will(vec![WillStep::write(0, RUN, 0), until_idle(4000)])]);
    let error = will().finish(&card).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LinkDown, "{error}");
    assert!(card.link_is_up().unwrap() && !host.memory_decode());
    card.set_memory_decode(true).unwrap();
    will().finish(&card).unwrap();
    assert_eq!(*engine.written.lock().unwrap(), [(RUN, 0)]);
}

/// A program that owns its card alone: unwinding drops the lease, and the engine still runs.
#[test]
fn a_panic_is_no_goodbye() {
    for panics in [false, true] {
        let (host, engine) = (FakeHost::new(), engine(2));
        let card = builder(&host, &engine).build().unwrap();
        let will = Will(vec![WillStep::write(0, RUN, 0), until_idle(4000)]);
        let request = LeaseRequest::exclusive("engine".parse().unwrap()).with_will(will);
        let lease = card.lease(request.clone()).unwrap();
        let ended = std::thread::spawn(move || {
            let _lease = lease;
            assert!(!panics, "the driver has a defect");
        });
        assert_eq!(ended.join().is_err(), panics);
        assert_eq!(engine.running.load(Ordering::Relaxed), u32::from(!panics));
        assert_eq!(engine.busy.load(Ordering::Relaxed), if panics { 0 } else { 2 });
        card.lease(request).unwrap();
    }
}
