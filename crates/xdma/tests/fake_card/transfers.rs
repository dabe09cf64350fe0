//! Transfers and their failures.

use crate::model::{Bench, Fault};
use jitney_vfio::{Card, DmaBuffer, ErrorKind, Will, WillStep};
use jitney_xdma::{C2h, Error, Failure, H2c, PlanError, Xdma};
use std::time::{Duration, Instant};

pub(crate) const SHORT: Duration = Duration::from_millis(120);

pub(crate) fn h2c(bench: &Bench) -> H2c {
    Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap().with_timeout(SHORT)
}

fn c2h(bench: &Bench) -> C2h {
    Xdma::identify(bench.card(), 2).unwrap().c2h(0).unwrap().with_timeout(SHORT)
}

/// A buffer in which every byte tells its place.
pub(crate) fn patterned(bench: &Bench, size: u64) -> DmaBuffer {
    let buffer = bench.fake.dma_buffer(size.into()).unwrap();
    let bytes: Vec<u8> = (0..buffer.size()).map(pattern).collect();
    buffer.write(0, &bytes).unwrap();
    buffer
}

fn pattern(place: u64) -> u8 {
    u8::try_from(place % 251).unwrap()
}

pub(crate) fn contents(buffer: &DmaBuffer) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(buffer.size()).unwrap()];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// That the channel works: what it writes arrives.
pub(crate) fn works(bench: &Bench, h2c: &H2c) {
    bench.model.set(Fault::None);
    bench.model.state().memory.fill(0xee);
    let buffer = patterned(bench, 4096);
    assert_eq!(h2c.write(&buffer, 0x100).unwrap().bytes, 4096);
    assert_eq!(bench.model.state().memory[0x100..0x1100], contents(&buffer));
}

#[test]
fn what_is_written_can_be_read_back() {
    let bench = Bench::new();
    let source = patterned(&bench, 0x8000);
    let done = h2c(&bench).write_range(&source, 3..0x5004, 0x21).unwrap();
    assert_eq!((done.bytes, done.descriptors), (0x5001, 1));
    assert_eq!(bench.model.state().memory[0x20..0x23], [0, pattern(3), pattern(4)]);

    let target = bench.fake.dma_buffer(0x8000.into()).unwrap();
    c2h(&bench).read_range(&target, 0x1000..0x6001, 0x21).unwrap();
    let (source, target) = (contents(&source), contents(&target));
    assert_eq!(target[0x1000..0x6001], source[3..0x5004]);
    assert!(target[..0x1000].iter().chain(&target[0x6001..]).all(|&byte| byte == 0));
}

#[test]
fn a_transfer_of_more_descriptors_than_the_ring_holds_is_given_in_several_batches() {
    let bench = Bench::new();
    for (bytes, batches) in [(125 * 64, 1), (125 * 64 + 1, 2), (300 * 64, 3)] {
        let buffer = patterned(&bench, bytes);
        (bench.model.state().channels[0].runs, bench.model.state().channels[0].batches) = (0, 0);
        let done = h2c(&bench).descriptors_of_at_most(64).write_range(&buffer, 0..bytes, 0).unwrap();
        assert_eq!((done.bytes, done.descriptors), (bytes, bytes.div_ceil(64)));
        let state = bench.model.state();
        assert_eq!((state.channels[0].runs, state.channels[0].batches), (1, batches));
        let bytes = usize::try_from(bytes).unwrap();
        assert_eq!(state.memory[..bytes], contents(&buffer)[..bytes]);
    }
}

#[test]
fn the_registers_are_written_as_a_polling_driver_does() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(1024);
    let buffer = patterned(&bench, 4096);
    bench.model.state().writes.clear();
    h2c.write(&buffer, 0).unwrap();
    let writes = bench.model.state().writes.clone();
    assert_eq!(writes, [(0x0004, 0x04ff_fe39), (0x408c, 4)]);
    // What each further one costs: an access of a real card's takes about a microsecond.
    bench.model.state().writes.clear();
    bench.model.state().reads.clear();
    h2c.write(&buffer, 0).unwrap();
    assert_eq!(bench.model.state().writes, [(0x408c, 4)]);
    assert_eq!(bench.model.state().reads, [0; 0]);
    let channel = bench.model.state().channels[0];
    assert!(channel.writeback.is_multiple_of(64) && channel.writeback - channel.first == 4096 - 64);
    drop(h2c);
    bench.model.state().writes.clear();
    c2h(&bench).read(&buffer, 0).unwrap();
    assert!(bench.model.state().writes.contains(&(0x1004, 0x04f8_3e39)));
}

#[test]
fn a_descriptor_lasts_no_longer_than_50_ms_on_the_slowest_link_unless_asked() {
    let bench = Bench::new();
    let buffer = bench.fake.dma_buffer((1_u64 << 30).into()).unwrap();
    let lengths = |h2c: &H2c| {
        let mut lengths: Vec<u32> =
            h2c.plan(&buffer, 0..buffer.size(), 0).unwrap().map(|chunk| chunk.length).collect();
        lengths.dedup();
        lengths
    };
    let h2c = h2c(&bench);
    assert_eq!(lengths(&h2c), [8 << 20]);
    let h2c = h2c.aligned(4096);
    assert_eq!(lengths(&h2c), [8 << 20]);
    let h2c = h2c.aligned(16 << 20);
    assert_eq!(lengths(&h2c), [16 << 20], "as long as it has to be");
    let h2c = h2c.aligned(1).descriptors_of_at_most(u32::MAX);
    assert_eq!(lengths(&h2c), [0x0fff_ffff, 4]);
    let h2c = h2c.aligned(4096);
    assert_eq!(lengths(&h2c), [0x0fff_f000, 0x4000], "in whichever order it is asked");
}

#[test]
fn descriptors_lie_in_blocks_of_what_the_card_reads_at_once() {
    // Code of the largest read request, or nothing that could be one: 512 bytes then.
    for (code, block) in [(0, 4), (2, 16), (5, 64), (7, 16), (u32::MAX, 16)] {
        let bench = Bench::new();
        bench.model.state().overrides.push((0x300c, code));
        let h2c = h2c(&bench).descriptors_of_at_most(64).with_adjacent_descriptors().unwrap();
        h2c.write(&patterned(&bench, 0x2000), 0).unwrap();
        let state = bench.model.state();
        let adjacent: Vec<u32> = state.ran.iter().map(|(flags, _)| flags >> 8 & 0x3f).collect();
        // Each tells of what follows the next, in the batch that they were given in: 125, and 3 when they were done.
        let expected = |batch: u32, from: u32| {
            (1..batch).map(move |at| (block - 1 - (from + at) % block).min(batch - 1 - at)).chain([0])
        };
        let last: Vec<u32> = expected(125, 0).collect();
        assert_eq!(adjacent[..125], last, "{block}");
        assert!(state.writes.iter().all(|write| write.0 != 0x4088 || write.1 == 0), "the first comes alone");
    }
}

#[test]
fn descriptors_are_fetched_one_by_one_unless_asked() {
    let bench = Bench::new();
    h2c(&bench).descriptors_of_at_most(64).write(&patterned(&bench, 0x2000), 0).unwrap();
    assert!(bench.model.state().ran.iter().all(|(flags, _)| flags >> 8 & 0x3f == 0));
}

#[test]
fn a_channel_is_leased_with_a_will_that_stops_it_and_all_goes_back() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let c2h = c2h(&bench);
    let leases = bench.fake.leases();
    assert_eq!(leases.iter().map(|lease| lease.part.name()).collect::<Vec<_>>(), ["h2c0", "c2h0"]);
    // Stop, silence, wait for idle as long as the longest descriptor may take, and leave credit mode.
    let will = |writes: [(u64, u32); 3], status: u64, own: u32| {
        let idle = WillStep::WaitUntil { bar: 2, offset: status, mask: 1, value: 0, within_ms: 3685 };
        let writes = writes.map(|(offset, value)| WillStep::write(2, offset, value));
        // The next driver may know nothing of credits.
        Will(writes.into_iter().chain([idle, WillStep::write(2, 0x6028, own)]).collect())
    };
    assert_eq!(leases[0].will, will([(0x000c, 0x0400_0001), (0x0098, 0x00f8_fe3e), (0x2018, 1)], 0x0040, 1));
    assert_eq!(
        leases[1].will,
        will([(0x100c, 0x0400_0001), (0x1098, 0x00f8_063e), (0x2018, 2)], 0x1040, 1 << 16)
    );
    let second = Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap_err();
    assert!(matches!(&second, Error::Card(error) if error.kind() == ErrorKind::Held), "{second:?}");
    drop((h2c, c2h));
    assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty());
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    bench.model.state().writes.clear();
    let refused = |range, card| h2c.write_range(&buffer, range, card).unwrap_err();
    for range in [0..4097, 4096..4097, u64::MAX - 1..u64::MAX] {
        assert!(matches!(refused(range, 0), Error::Range { size: 4096, .. }));
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let backwards = refused(8..4, 0);
    assert!(matches!(backwards, Error::Range { .. }), "{backwards}");
    assert!(matches!(refused(0..0, 0), Error::Plan { why: PlanError::Empty, .. }));
    assert!(matches!(refused(0..2, u64::MAX), Error::Plan { why: PlanError::Beyond { .. }, .. }));
    let misaligned = h2c.aligned(12).write(&buffer, 0).unwrap_err().to_string();
    assert!(misaligned.contains("h2c0 of fake") && misaligned.contains("power of two"), "{misaligned}");
    let written: Vec<u64> = bench.model.state().writes.iter().map(|(offset, _)| *offset).collect();
    assert!(!written.contains(&0x0004), "nothing was started: {written:x?}");
}

#[test]
fn an_error_of_the_engine_is_described_and_the_channel_goes_on() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(1000);
    let buffer = patterned(&bench, 4096);
    for fault in
        [Fault::Error { after: 2, status: 1 << 14 }, Fault::ReportedError { after: 2, status: 1 << 14 }]
    {
        bench.model.set(fault);
        let started = Instant::now();
        let error = h2c.write(&buffer, 0).unwrap_err();
        assert!(started.elapsed() < Duration::from_millis(500));
        let Error::Engine(failure) = &error else { panic!("{error:?}") };
        let Failure { descriptors_done: 2, descriptors_started: 5, bytes_done: 2000, bytes: 4096, .. } =
            **failure
        else {
            panic!("{failure:?}")
        };
        assert!(failure.usable);
        assert_eq!(failure.writeback.error(), matches!(fault, Fault::ReportedError { .. }));
        assert!(error.to_string().contains("write: decode error"), "{error}");
        assert_eq!(bench.model.state().channels[0].status, 0, "cleared");
        works(&bench, &h2c);
    }
}

#[test]
fn a_ring_that_the_card_cannot_fetch_is_an_error_and_not_a_time_out() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    bench.model.set(Fault::Error { after: 0, status: 0x0008_0010 });
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err().to_string();
    assert!(error.contains("0x00080010 (descriptor fetch: unsupported request; bad magic)"), "{error}");
}

#[test]
fn a_hung_engine_times_out_and_can_be_used_again() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(16);
    let buffer = patterned(&bench, 4096);
    // It hangs in the second batch, which it is given as soon as it has said that it has done 124 of the first.
    bench.model.set(Fault::Hang { after: 130 });
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    assert!(pending.poll().unwrap().is_none());
    let error = pending.wait().unwrap_err();
    let Error::TimedOut { after, failure } = &error else { panic!("{error:?}") };
    assert!(*after >= SHORT && *after < SHORT * 5);
    assert_eq!((failure.descriptors_done, failure.descriptors_started), (130, 249));
    assert_eq!((failure.bytes_done, failure.bytes), (130 * 16, 4096));
    assert!(failure.usable && error.to_string().contains("(busy)"), "{error}");
    works(&bench, &h2c);
}

#[test]
fn progress_postpones_the_time_out() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(512);
    bench.model.set(Fault::Creep);
    let done = h2c.write(&patterned(&bench, 4096), 0).unwrap();
    assert_eq!(done.descriptors, 8);
    assert!(done.duration > SHORT * 2, "each look lets the model do one: {:?}", done.duration);
}

#[test]
fn a_write_back_that_cannot_be_right_is_an_error_at_once() {
    for word in [5, 0x0100_0001, 0x7f00_0000, 0x0080_0000, 0x00ff_ffff, 0x8000_0004] {
        let bench = Bench::new();
        let h2c = h2c(&bench).descriptors_of_at_most(1024).with_timeout(Duration::from_secs(60));
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Writeback(word));
        let started = Instant::now();
        let error = h2c.write(&buffer, 0).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(
            matches!(&error, Error::Engine(failure) if failure.usable && failure.given == 4),
            "{error:?}"
        );
        let says = match word >> 31 {
            0 => format!("write-back {word:#010x} (it cannot be: 4 descriptors were given), 0 of 4"),
            _ => format!("write-back {word:#010x} (error), 4 of 4"),
        };
        assert!(error.to_string().contains(&says), "{error}");
        works(&bench, &h2c);
    }
}

#[test]
fn a_write_back_that_comes_with_the_last_look_is_in_time() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_timeout(Duration::from_millis(1));
    let buffer = patterned(&bench, 4096);
    // The first look sees progress, the second finds that there was none since.
    bench.model.set(Fault::LateWriteback(1));
    assert_eq!(h2c.write(&buffer, 0).unwrap().bytes, 4096);
    bench.model.set(Fault::LateWriteback(3));
    let error = h2c.write(&buffer, 0).unwrap_err();
    assert!(matches!(error, Error::Engine(_)), "{error:?}");
}

#[test]
fn a_completed_count_that_cannot_be_is_no_progress() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(1024);
    let buffer = patterned(&bench, 4096);
    let restless = [[1, 2], [5, 6], [0, u32::MAX]].map(|counts| Fault::Restless { counts });
    for fault in restless.into_iter().chain([Fault::Climb]) {
        bench.model.set(fault);
        let started = Instant::now();
        let error = h2c.write(&buffer, 0).unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{fault:?}");
        works(&bench, &h2c);
    }
}

#[test]
fn a_lost_writeback_times_out_with_everything_done() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    bench.model.set(Fault::NoWriteback);
    let error = h2c.write(&patterned(&bench, 4096), 0).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }) && error.to_string().contains("1 of 1 descriptors"));
    works(&bench, &h2c);
}

#[test]
fn polling_does_not_wait_and_remembers_the_end() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    let done = pending.poll().unwrap().unwrap();
    assert_eq!(done.bytes, 4096);
    assert_eq!(pending.poll().unwrap(), Some(done));
    drop(pending);
    works(&bench, &h2c);
}
