//! Several channels and user interrupts on one vector, of a card that has too few.

use crate::interrupts::{c2h, h2c, is_readable};
use crate::model::{Bench, Fault};
use crate::transfers::{patterned, works};
use jitney_vfio::{Card, DmaBuffer, ErrorKind, LeaseRequest, Part};
use jitney_xdma::{C2h, Channel, Completed, Error, H2c, Pending, UserInterrupt, Xdma};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// No transfer here takes as long.
const LONG: Duration = Duration::from_secs(60);
const NOW: Option<Duration> = Some(Duration::ZERO);
const SOON: Option<Duration> = Some(LONG);

/// Counts what a thread warns of: an interrupt that was lost, above all.
#[derive(Default)]
struct Warnings(Arc<AtomicU32>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What comes of `task`, and how often it warns.
pub(crate) fn with_warnings<T>(task: impl FnOnce() -> T) -> (T, u32) {
    let warnings = Arc::default();
    let outcome = tracing::subscriber::with_default(Warnings(Arc::clone(&warnings)), task);
    (outcome, warnings.load(Relaxed))
}

/// Runs `task`, which may not warn.
fn without_warnings<T>(task: impl FnOnce() -> T) -> T {
    let (outcome, warnings) = with_warnings(task);
    assert_eq!(warnings, 0, "interrupts were lost");
    outcome
}

/// Numbers that look random, the same for a seed.
struct Dice(u64);

impl Dice {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64*, as Vigna has it.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

fn bench(merged: bool) -> Bench {
    let bench = Bench::with_vectors(1);
    bench.model.state().irq.merged = merged;
    bench
}

fn names(bench: &Bench) -> Vec<String> {
    bench.fake.leases().iter().map(|lease| lease.part.name().to_owned()).collect()
}

fn vectors_and_enable(bench: &Bench) -> (u32, u32) {
    let state = bench.model.state();
    (state.irq.vectors[0], state.irq.enable)
}

/// Both channels, each with a transfer that the card goes on with when it is told to.
fn two_waiting(bench: &Bench) -> ((H2c, Pending), (C2h, Pending)) {
    let (h2c, c2h) = (h2c(bench).with_timeout(LONG), c2h(bench).with_timeout(LONG));
    let buffer = patterned(bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let write = h2c.submit(&buffer, 0..4096, 0).unwrap();
    let read = c2h.submit(&buffer, 0..4096, 0x8000).unwrap();
    ((h2c, write), (c2h, read))
}

#[test]
fn the_second_channel_joins_the_first_and_the_last_gives_the_vector_back() {
    let bench = bench(false);
    let (h2c, c2h) = (h2c(&bench), c2h(&bench));
    assert_eq!(names(&bench), ["h2c0", "irq0", "c2h0"]);
    assert_eq!(vectors_and_enable(&bench), (0, 3));
    drop(h2c);
    assert_eq!(names(&bench), ["irq0", "c2h0"]);
    assert_eq!(bench.model.state().irq.enable, 2);
    let h2c = crate::interrupts::h2c(&bench);
    works(&bench, &h2c);
    drop((h2c, c2h));
    assert_eq!(names(&bench), [""; 0]);
    assert!(!bench.host.fire(0), "and it is silent");
}

#[test]
fn each_is_told_of_its_own_end_whoever_hears_the_vector() {
    for merged in [false, true] {
        let bench = bench(merged);
        let ((h2c, write), (_c2h, read)) = two_waiting(&bench);
        bench.model.go_on(1);
        assert!(is_readable(&write) && is_readable(&read), "nobody knows whose it is");
        assert!(write.poll().unwrap().is_none());
        assert!(!is_readable(&write) && is_readable(&read), "now they know");
        assert_eq!(bench.model.state().irq.enable, 1, "nothing keeps the vector up meanwhile");
        bench.model.go_on(0);
        assert!(is_readable(&write));
        assert!(write.poll().unwrap().is_some());
        assert!(read.poll().unwrap().is_some());
        assert!(!is_readable(&read));
        assert_eq!(bench.model.state().irq.enable, 3);
        works(&bench, &h2c);
    }
}

#[test]
fn one_that_rises_while_it_is_asked_who_requests_is_not_missed() {
    for merged in [false, true] {
        let bench = bench(merged);
        let ((h2c, write), (_c2h, read)) = two_waiting(&bench);
        bench.model.go_on(0);
        bench.model.state().go_on_then = Some(1);
        assert!(write.poll().unwrap().is_some());
        assert!(is_readable(&read), "{merged}");
        assert!(read.poll().unwrap().is_some());
        let buffer = patterned(&bench, 64);
        bench.model.set(Fault::Hang { after: 0 });
        let write = h2c.submit(&buffer, 0..64, 0).unwrap();
        bench.model.go_on(0);
        assert!(is_readable(&write) && write.poll().unwrap().is_some());
    }
}

#[test]
fn who_waits_sleeps_on_through_the_ends_of_others() {
    for merged in [false, true] {
        let bench = bench(merged);
        let ((_h2c, write), (c2h, read)) = two_waiting(&bench);
        let buffer = bench.card().dma_buffer(4096.into()).unwrap();
        let other = std::thread::scope(|scope| {
            scope.spawn(|| {
                bench.model.go_on(1);
                for _ in 0..20 {
                    std::thread::sleep(Duration::from_millis(1));
                    drop(c2h.submit(&buffer, 0..64, 0).unwrap());
                    bench.model.go_on(1);
                }
            });
            let asked = Instant::now();
            assert!(write.wait_for(Duration::from_millis(30)).unwrap().is_none());
            asked.elapsed()
        });
        assert!(other >= Duration::from_millis(30), "{other:?}");
        without_warnings(|| read.wait().unwrap());
        bench.model.go_on(0);
        without_warnings(|| write.wait().unwrap());
    }
}

#[test]
fn a_channel_that_is_dropped_leaves_the_waits_of_others_intact() {
    for merged in [false, true] {
        let bench = bench(merged);
        let ((_h2c, write), (c2h, read)) = two_waiting(&bench);
        // What the one has requested when it goes is nobody's any more.
        bench.model.go_on(1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| without_warnings(|| write.wait().unwrap()));
            std::thread::sleep(Duration::from_millis(10));
            drop((c2h, read));
            assert_eq!(names(&bench), ["h2c0", "irq0"]);
            bench.model.go_on(0);
            assert_eq!(waiting.join().unwrap().bytes, 4096);
        });
    }
}

#[test]
fn a_channel_that_moves_to_another_vector_is_that_ones_to_silence() {
    let bench = Bench::with_vectors(2);
    let h2c = h2c(&bench).by_vector(1).unwrap();
    let c2h = c2h(&bench).with_timeout(LONG);
    assert_eq!(names(&bench), ["h2c0", "irq1", "c2h0"]);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let old = c2h.submit(&buffer, 0..64, 0).unwrap();
    let c2h = c2h.by_vector(0).unwrap();
    let read = c2h.submit(&buffer, 64..128, 0).unwrap();
    let write = h2c.submit(&buffer, 0..64, 0).unwrap();
    bench.model.go_on(1);
    bench.model.go_on(0);
    assert!(write.poll().unwrap().is_some());
    assert_eq!(bench.model.state().irq.enable, 3);
    assert!(is_readable(&read) && read.poll().unwrap().is_some() && old.poll().unwrap().is_some());
}

#[test]
fn an_interrupt_that_was_lost_keeps_none_behind_it_from_coming() {
    for (vectors, merged) in [(2, false), (1, false), (1, true)] {
        let bench = Bench::with_vectors(vectors);
        bench.model.state().irq.merged = merged;
        let ((h2c, write), (c2h, read)) = two_waiting(&bench);
        // Of merged ones the second is never sent.
        bench.model.state().irq.lose = if merged { 1 } else { 2 };
        bench.model.go_on(0);
        bench.model.go_on(1);
        let done = write.wait().unwrap();
        assert_eq!(done.bytes, 4096);
        let buffer = patterned(&bench, 4096);
        // Of the one that nobody waits for, too.
        std::thread::sleep(Duration::from_millis(60));
        for _ in 0..3 {
            let write = h2c.submit(&buffer, 0..64, 0).unwrap();
            assert!(write.wait_for(Duration::from_millis(60)).unwrap().is_none());
            bench.model.go_on(0);
            assert!(is_readable(&write), "{vectors} {merged}");
            assert!(write.poll().unwrap().is_some());
        }
        read.wait().unwrap();
        bench.model.state().irq.lose = 0;
        let read = c2h.submit(&buffer, 0..64, 0).unwrap();
        assert!(read.wait_for(Duration::from_millis(60)).unwrap().is_none());
        bench.model.go_on(1);
        assert!(is_readable(&read) && read.poll().unwrap().is_some());
    }
}

#[test]
fn a_vector_of_another_process_is_left_to_it() {
    let taken = |vector| LeaseRequest::exclusive(Part::interrupt(vector));
    let one = bench(false);
    let other = one.fake.lease(taken(0)).unwrap();
    let xdma = Xdma::identify(one.card(), 2).unwrap();
    let error = xdma.c2h(0).unwrap().by_interrupt().unwrap_err();
    assert!(matches!(&error, Error::Card(error) if error.kind() == ErrorKind::Held), "{error:?}");
    for text in ["c2h0 of fake", "\"irq0\"", "of one process share a vector", "wait without an interrupt"] {
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = xdma.user_interrupt(2).unwrap_err().to_string();
    assert!(error.contains("user interrupt 2 of fake") && error.contains("of one process"), "{error}");
    drop(other);
    works(&one, &h2c(&one));

    let two = Bench::with_vectors(2);
    let other = two.fake.lease(taken(0)).unwrap();
    let (h2c, c2h) = (h2c(&two), c2h(&two));
    assert_eq!(vectors_and_enable(&two), (0x0101, 3));
    works(&two, &h2c);
    drop((h2c, c2h, other));
}

#[test]
fn a_dead_link_ends_the_waits_of_all() {
    let bench = bench(false);
    let ((_h2c, write), (_c2h, read)) = two_waiting(&bench);
    let mut line = Xdma::identify(bench.card(), 2).unwrap().user_interrupt(0).unwrap();
    assert!(!line.wait(NOW).unwrap());
    // The one message that still came.
    bench.host.fire(0);
    bench.host.set_link(false);
    assert!(matches!(line.has_fired(), Err(Error::LinkDown(_))));
    assert!(matches!(write.wait(), Err(Error::LinkDown(_))));
    assert!(matches!(read.wait(), Err(Error::LinkDown(_))));
}

#[test]
fn a_card_that_requests_for_ever_keeps_nobody_for_ever() {
    let bench = bench(false);
    let ((h2c, write), (_c2h, read)) = two_waiting(&bench);
    bench.model.state().overrides.push((0x2044, 3));
    bench.host.fire(0);
    for _ in 0..3 {
        assert!(write.poll().unwrap().is_none() && read.poll().unwrap().is_none());
        assert!(write.wait_for(Duration::from_millis(5)).unwrap().is_none());
    }
    bench.model.go_on(0);
    write.wait().unwrap();
    bench.model.state().overrides.clear();
    bench.model.go_on(1);
    read.wait().unwrap();
    works(&bench, &h2c);
}

#[test]
fn user_interrupts_share_with_each_other_and_with_channels() {
    for merged in [false, true] {
        let bench = bench(merged);
        let xdma = Xdma::identify(bench.card(), 2).unwrap();
        let ((_h2c, write), (_c2h, read)) = two_waiting(&bench);
        let mut lines = [3, 9].map(|line| xdma.user_interrupt(line).unwrap());
        assert_eq!(names(&bench), ["h2c0", "irq0", "c2h0", "user-irq3", "user-irq9"]);
        lines.iter_mut().for_each(|line| line.arm().unwrap());
        bench.model.set_user_line(9, true);
        assert!(!lines[0].has_fired().unwrap(), "another's");
        assert!(write.poll().unwrap().is_none());
        bench.model.go_on(0);
        bench.model.set_user_line(3, true);
        assert!(lines[0].has_fired().unwrap() && lines[1].has_fired().unwrap());
        assert!(is_readable(&write) && write.poll().unwrap().is_some());
        assert!(lines[1].wait(SOON).unwrap(), "nobody has told the logic");
        bench.model.set_user_line(9, false);
        assert!(!lines[1].wait(NOW).unwrap());
        bench.model.go_on(1);
        assert!(!lines[1].wait(Some(Duration::from_millis(5))).unwrap());
        assert!(is_readable(&read) && read.poll().unwrap().is_some());
    }
}

/// Waits in one of the ways that there are.
fn wait(dice: &mut Dice, pending: Pending) -> Completed {
    match dice.below(if cfg!(feature = "async") { 4 } else { 3 }) {
        0 => pending.wait().unwrap(),
        1 => loop {
            if let Some(done) = pending.wait_for(Duration::from_micros(dice.below(300))).unwrap() {
                return done;
            }
        },
        2 => loop {
            if let Some(done) = pending.poll().unwrap() {
                return done;
            }
            // Not the wait of the driver's own: a loss would be waited for until the test is ended.
            let event = pending.event().unwrap();
            let left = Timespec::try_from(LONG).unwrap();
            assert_eq!(poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&left)).unwrap(), 1, "lost");
        },
        _ => awaited(pending),
    }
}

#[cfg(feature = "async")]
fn awaited(pending: Pending) -> Completed {
    let since = Instant::now();
    let done = crate::awaiting::run(pending.into_future()).unwrap();
    assert!(since.elapsed() < LONG, "lost");
    done
}

#[cfg(not(feature = "async"))]
fn awaited(pending: Pending) -> Completed {
    pending.wait().unwrap()
}

/// Some transfers of a channel, a few at a time.
fn transfer<D>(mut dice: Dice, channel: &Channel<D>, buffer: &DmaBuffer, transfers: u32) {
    for _ in 0..transfers {
        let count = 1 + dice.below(3);
        let waiting: Vec<_> = (0..count).map(|_| channel.submit(buffer, 0..64, 0x100).unwrap()).collect();
        waiting.into_iter().for_each(|pending| assert_eq!(wait(&mut dice, pending).bytes, 64));
    }
}

fn hear(bench: &Bench, mut line: UserInterrupt, times: u32) {
    for _ in 0..times {
        assert!(line.wait(SOON).unwrap(), "lost");
        assert!(line.is_raised().unwrap(), "another's");
        bench.model.set_user_line(line.line(), false);
    }
}

#[test]
fn all_at_once_and_none_is_lost() {
    const TIMES: u32 = 300;
    for seed in 1..=6 {
        let bench = bench(seed % 2 == 0);
        let adaptive = seed % 3 == 0;
        let xdma = Xdma::identify(bench.card(), 2).unwrap();
        bench.model.set(Fault::Hang { after: 0 });
        // Where a loop waits for an event, one has to come for each: not so of an adaptive channel.
        let (h2c, c2h) = match adaptive {
            true => (xdma.h2c(0).unwrap().adaptive().unwrap(), c2h(&bench)),
            false => (h2c(&bench), c2h(&bench)),
        };
        let (h2c, c2h) = (h2c.with_timeout(LONG), c2h.with_timeout(LONG));
        let line = xdma.user_interrupt(5).unwrap();
        let (source, target) = (patterned(&bench, 64), bench.card().dma_buffer(64.into()).unwrap());
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let card = scope.spawn(|| {
                let mut dice = Dice(seed);
                while !over.load(Relaxed) {
                    match dice.below(4) {
                        0 => bench.model.go_on(0),
                        1 => bench.model.go_on(1),
                        2 => bench.model.set_user_line(5, true),
                        _ if dice.below(4) == 0 => std::thread::sleep(Duration::from_micros(dice.below(200))),
                        _ => std::thread::yield_now(),
                    }
                }
            });
            let users = [
                scope.spawn(|| {
                    without_warnings(|| match adaptive {
                        true => (0..TIMES).for_each(|_| {
                            h2c.write(&source, 0x100).unwrap();
                        }),
                        false => transfer(Dice(seed + 100), &h2c, &source, TIMES),
                    });
                }),
                scope.spawn(|| without_warnings(|| transfer(Dice(seed + 200), &c2h, &target, TIMES))),
                scope.spawn(|| without_warnings(|| hear(&bench, line, TIMES))),
            ];
            let failed = users.map(|user| user.join().is_err());
            over.store(true, Relaxed);
            card.join().unwrap();
            assert_eq!(failed, [false; 3], "seed {seed}");
        });
    }
}

#[cfg(feature = "async")]
#[tokio::test]
async fn both_are_awaited_at_once() {
    for merged in [false, true] {
        let bench = bench(merged);
        let (h2c, c2h) = (h2c(&bench).with_timeout(LONG), c2h(&bench).with_timeout(LONG));
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Hang { after: 0 });
        for round in 0..20 {
            let write = h2c.submit(&buffer, 0..64, 0).unwrap().into_future();
            let read = c2h.submit(&buffer, 64..128, 0).unwrap().into_future();
            let model = Arc::clone(&bench.model);
            let card = std::thread::spawn(move || {
                for channel in [round % 2, 1 - round % 2] {
                    std::thread::sleep(Duration::from_millis(2));
                    model.go_on(channel);
                }
            });
            let (written, read) = tokio::join!(write, read);
            // Neither by a look at the registers.
            let longest = written.unwrap().duration.max(read.unwrap().duration);
            assert!(longest < Duration::from_millis(45), "{longest:?}");
            card.join().unwrap();
        }
    }
}
