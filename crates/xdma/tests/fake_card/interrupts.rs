//! Completion by interrupt: what is programmed, what may come when, and what is given back.

use crate::model::{Bench, Fault};
use crate::sharing::with_warnings;
use crate::transfers::{SHORT, contents, patterned, works};
use jitney_vfio::{Card, ErrorKind, LeaseRequest, Part};
use jitney_xdma::{C2h, Error, H2c, Pending, Xdma};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::time::{Duration, Instant};

/// How often a wait looks at the registers whether or not there was an interrupt.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn h2c(bench: &Bench) -> H2c {
    polled(bench).by_interrupt().unwrap()
}

fn polled(bench: &Bench) -> H2c {
    Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap().with_timeout(SHORT)
}

pub(crate) fn c2h(bench: &Bench) -> C2h {
    polled_c2h(bench).by_interrupt().unwrap()
}

fn polled_c2h(bench: &Bench) -> C2h {
    Xdma::identify(bench.card(), 2).unwrap().c2h(0).unwrap().with_timeout(SHORT)
}

pub(crate) fn is_readable(pending: &Pending) -> bool {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let event = pending.event().unwrap();
    poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&zero)).unwrap() == 1
}

/// The register writes since the last call, without those that set a channel up for polling too.
fn writes(bench: &Bench) -> Vec<(u64, u32)> {
    let set_up = |offset: u64| {
        matches!(offset, 0x0088 | 0x008c | 0x1088 | 0x108c | 0x6018 | 0x6024)
            || matches!(offset & 0xeffb, 0x4080)
            || matches!(offset, 0x4088 | 0x5088)
    };
    let written = std::mem::take(&mut bench.model.state().writes);
    written.into_iter().filter(|(offset, _)| !set_up(*offset)).collect()
}

#[test]
fn the_registers_are_written_as_an_interrupt_driven_driver_does() {
    let bench = Bench::new();
    let h2c = polled(&bench);
    writes(&bench);
    let h2c = h2c.by_interrupt().unwrap();
    assert_eq!(writes(&bench), [(0x0090, 0x00f8_fe3e), (0x2014, 1)], "vector 0 was right already");
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    bench.model.state().reads.clear();
    assert_eq!(writes(&bench), [(0x0004, 0x04ff_fe3f), (0x408c, 1)]);
    bench.model.go_on(0);
    assert!(is_readable(&pending));
    pending.wait().unwrap();
    assert_eq!(bench.model.state().reads, [0; 0], "what has ended when it is waited for costs none");
    works(&bench, &h2c);

    let c2h = c2h(&bench);
    let written = writes(&bench);
    assert!(written.ends_with(&[(0x1090, 0x00f8_063e), (0x20a0, 0x0100), (0x2014, 2)]), "{written:x?}");
    c2h.read(&buffer, 0).unwrap();
    assert_eq!(writes(&bench), [(0x1004, 0x04f8_3e3f), (0x508c, 1)]);
}

#[test]
fn what_is_written_can_be_read_back_in_several_batches() {
    let bench = Bench::new();
    let source = patterned(&bench, 300 * 64);
    let h2c = h2c(&bench).descriptors_of_at_most(64);
    let done = h2c.write(&source, 0x20).unwrap();
    assert_eq!((done.bytes, done.descriptors), (source.size(), source.size().div_ceil(64)));
    let target = bench.card().dma_buffer(source.size().into()).unwrap();
    c2h(&bench).descriptors_of_at_most(64).read(&target, 0x20).unwrap();
    assert_eq!(contents(&source), contents(&target));
}

#[test]
fn the_event_says_when_to_look() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    assert!(!is_readable(&pending) && pending.poll().unwrap().is_none());
    assert!(pending.next_look() <= Instant::now() + LOOK);
    bench.model.go_on(0);
    assert!(is_readable(&pending));
    let done = pending.poll().unwrap().unwrap();
    assert!(!is_readable(&pending));
    assert_eq!(pending.poll().unwrap(), Some(done), "and remembers");
    drop(pending);
    works(&bench, &h2c);
    drop(h2c);
    assert!(polled(&bench).submit(&buffer, 0..4096, 0).unwrap().event().is_none(), "polled");
}

#[test]
fn a_wait_ends_with_the_interrupt() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LOOK * 3);
            bench.model.go_on(0);
        });
        let done = pending.wait().unwrap();
        assert!(done.duration >= LOOK * 3, "{:?}", done.duration);
    });
}

#[test]
fn a_request_behind_the_mask_is_seen_when_it_is_lifted() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let registers = bench.card().bar(2).unwrap();
    registers.write32(0x2018, 1).unwrap();
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    assert_eq!((registers.read32(0x204c).unwrap(), registers.read32(0x2044).unwrap()), (1, 0));
    assert!(!is_readable(&pending));
    registers.write32(0x2014, 1).unwrap();
    assert!(is_readable(&pending));
    assert!(pending.poll().unwrap().is_some());
}

#[test]
fn an_interrupt_without_a_reason_costs_a_look() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    assert!(bench.host.fire(0), "of an earlier transfer, say");
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    assert!(is_readable(&pending) && pending.poll().unwrap().is_none());
    assert!(!is_readable(&pending));
    bench.model.go_on(0);
    assert_eq!(pending.wait().unwrap().bytes, 4096);
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(16);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    bench.model.state().irq.lose = u32::MAX;
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LOOK / 5);
            bench.model.set(Fault::None);
            bench.model.go_on(0);
        });
        pending.wait().unwrap()
    });
    bench.model.state().irq.lose = 0;
    assert_eq!((done.bytes, done.descriptors), (4096, 256));
    assert!(done.duration >= LOOK, "{:?}", done.duration);
    assert_eq!(bench.model.state().memory[..4096], contents(&buffer));
    works(&bench, &h2c);
}

/// As it is when the look that is due comes between what the engine writes to memory and its interrupt.
#[test]
fn an_interrupt_that_is_on_its_way_is_not_lost() {
    for (adaptive, lost) in [(false, false), (true, false), (false, true), (true, true)] {
        let bench = Bench::new();
        let h2c = if adaptive { polled(&bench).adaptive().unwrap() } else { h2c(&bench) };
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Hang { after: 0 });
        let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
        let (done, warnings) = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(LOOK / 5);
                let mut state = bench.model.state();
                (state.irq.slow, state.irq.lose) = (!lost, u32::from(lost));
                drop(state);
                bench.model.set(Fault::None);
                bench.model.go_on(0);
            });
            with_warnings(|| pending.wait().unwrap())
        });
        assert!(done.bytes == 4096 && done.duration >= LOOK, "{done:?}");
        assert_eq!(warnings, u32::from(lost), "adaptive: {adaptive}");
        bench.model.state().irq.slow = false;
        works(&bench, &h2c);
    }
}

#[test]
fn an_error_of_the_engine_is_described_although_looking_clears_it() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(1000);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Error { after: 2, status: 1 << 14 });
    let error = h2c.write(&buffer, 0).unwrap_err();
    let Error::Engine(failure) = &error else { panic!("{error:?}") };
    assert_eq!((failure.descriptors_done, failure.bytes_done, failure.usable), (2, 2000, true));
    assert!(error.to_string().contains("write: decode error"), "{error}");
    works(&bench, &h2c);
}

#[test]
fn an_end_with_too_few_descriptors_is_a_failure() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(1000);
    // As if somebody else had started it over.
    bench.model.set(Fault::Error { after: 3, status: 1 << 1 });
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
    assert!(error.to_string().contains("3 of 5 descriptors"), "{error}");
    works(&bench, &h2c);
}

#[test]
fn a_hung_engine_times_out_and_can_be_used_again() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    bench.model.set(Fault::Hang { after: 0 });
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
    let Error::TimedOut { after, failure } = &error else { panic!("{error:?}") };
    assert!(*after >= SHORT && *after < SHORT * 5 && failure.usable, "{error:?}");
    works(&bench, &h2c);
}

#[test]
fn a_card_that_comes_back_after_its_link_was_down_is_programmed_again() {
    let bench = Bench::new();
    let c2h = c2h(&bench).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::LinkDown);
    let started = Instant::now();
    let error = c2h.read(&buffer, 0).unwrap_err();
    assert!(matches!(error, Error::LinkDown(_)) && started.elapsed() < Duration::from_secs(1), "{error:?}");
    bench.model.reset();
    bench.model.set(Fault::None);
    bench.host.set_link(true);
    c2h.read(&buffer, 0).unwrap();
    let state = bench.model.state();
    assert_eq!((state.irq.enable, state.irq.vectors[0]), (2, 0x0100));
    assert_eq!(state.channels[1].interrupt_enable, 0x00f8_063e);
}

#[test]
fn the_vector_is_leased_and_all_is_silent_afterwards() {
    let bench = Bench::new();
    let (h2c, c2h) = (h2c(&bench), c2h(&bench));
    let names: Vec<String> = bench.fake.leases().iter().map(|lease| lease.part.name().to_owned()).collect();
    assert_eq!(names, ["h2c0", "irq0", "c2h0", "irq1"], "and nothing is kept for the vector numbers");
    drop(c2h);
    let other = bench.fake.interrupt(1).unwrap();
    let error = polled_c2h(&bench).by_vector(1).unwrap_err();
    assert!(matches!(&error, Error::Card(error) if error.kind() == ErrorKind::Held), "{error:?}");
    assert!(error.to_string().contains("irq1"), "{error}");
    works(&bench, &h2c);
    drop(other);

    let h2c = h2c.by_vector(1).unwrap();
    assert_eq!(bench.model.state().irq.vectors[0] & 0xff, 1);
    works(&bench, &h2c);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    drop(h2c.submit(&buffer, 0..4096, 0).unwrap());
    drop((h2c, buffer));
    let state = bench.model.state();
    assert_eq!((state.irq.enable, state.channels.map(|channel| channel.interrupt_enable)), (0, [0, 0]));
    assert!(!bench.host.fire(1) && bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
}

#[test]
fn vector_numbers_are_changed_by_one_at_a_time() {
    let bench = Bench::new();
    let numbers: Part = "irq-vectors".parse().unwrap();
    let other = bench.fake.lease(LeaseRequest::exclusive(numbers.clone())).unwrap();
    // The upper two belong to other channels, of other processes maybe.
    bench.model.state().irq.vectors[0] = 0x0504_0000;
    drop(h2c(&bench));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| c2h(&bench));
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(bench.model.state().irq.vectors[0], 0x0504_0000, "it waits");
        drop(other);
        second.join().unwrap();
    });
    assert_eq!(bench.model.state().irq.vectors[0], 0x0504_0100);
    bench.model.reset();
    let _other = bench.fake.lease(LeaseRequest::exclusive(numbers)).unwrap();
    let c2h = Xdma::identify(bench.card(), 2).unwrap().c2h(0).unwrap();
    let error = c2h.by_interrupt().unwrap_err();
    assert!(error.to_string().contains("\"irq-vectors\" of card fake"), "{error}");
    assert_eq!(bench.fake.leases().len(), 1, "nothing is left of the channel");
}

#[test]
fn a_card_without_the_vector_says_what_it_has() {
    let none = Bench::with_vectors(0);
    let error = polled(&none).by_interrupt().unwrap_err().to_string();
    assert!(error.contains("no interrupts") && error.contains("poll"), "{error}");
    let one = Bench::with_vectors(1);
    let error = polled_c2h(&one).by_vector(1).unwrap_err();
    assert!(error.to_string().contains("no interrupt vector 1; it has 1"), "{error}");
    let many = Bench::with_vectors(300);
    for vector in [32, 256] {
        let error = polled(&many).by_vector(vector).unwrap_err().to_string();
        assert!(error.contains(&format!("vector {vector}; an XDMA has at most 32")), "{error}");
    }
    works(&many, &polled(&many).by_vector(31).unwrap());
}

#[test]
fn two_channels_interrupt_side_by_side() {
    let bench = Bench::new();
    let (h2c, c2h) = (h2c(&bench), c2h(&bench));
    let (source, target) = (patterned(&bench, 4096), bench.card().dma_buffer(4096.into()).unwrap());
    bench.model.state().memory[0x8000..0x9000].copy_from_slice(&contents(&source));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|_| assert_eq!(h2c.write(&source, 0).unwrap().bytes, 4096)));
        scope.spawn(|| (0..200).for_each(|_| assert_eq!(c2h.read(&target, 0x8000).unwrap().bytes, 4096)));
    });
    assert_eq!(contents(&target), contents(&source));
    assert_eq!(bench.model.state().memory[..4096], contents(&source));
}

#[test]
fn who_looks_does_not_take_the_interrupt_from_who_sleeps() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let mut late = 0;
    for _ in 0..30 {
        bench.model.set(Fault::Hang { after: 0 });
        let [first, second] = [(); 2].map(|()| h2c.submit(&buffer, 0..4096, 0).unwrap());
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                first.wait().unwrap();
                Instant::now()
            });
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    second.poll().unwrap();
                }
            });
            std::thread::sleep(Duration::from_millis(5));
            let begun = Instant::now();
            bench.model.go_on(0);
            // Others use this machine, too.
            late += u32::from(sleeper.join().unwrap() > begun + LOOK / 3);
            over.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        second.wait().unwrap();
    }
    assert!(late < 10, "{late} of 30 slept on");
}
