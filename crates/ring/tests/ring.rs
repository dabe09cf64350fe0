//! A ring in memory: what readers get, what they lose, and what a writer that is broken can do to them, which is nothing.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_memory::{Memfd, PageSize, for_others};
use jitney_ring::{End, Error, Lost, Next, Published, Reader, Shape, Writer};
use jitney_vfio::{DmaBuffer, DmaPlace, DmaView, Handed, Keeper, Result as Vfio};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);

/// What a broker knows of the writer.
#[derive(Debug, Default)]
struct Broker {
    gone: AtomicBool,
}

impl Keeper for Broker {
    fn take_back(&self, _: Handed) -> Vfio<()> {
        Ok(())
    }

    fn is_offered(&self, _: u64) -> Vfio<bool> {
        Ok(!self.gone.load(Ordering::Relaxed))
    }
}

/// Memory that is shared, as its maker has it.
struct Shared {
    buffer: DmaBuffer,
    broker: Arc<Broker>,
}

impl Shared {
    fn new(shape: Shape) -> Self {
        let broker = Arc::new(Broker::default());
        let size = shape.request().rounded_size().unwrap();
        let memory = Memfd::create("ring", size, PageSize::Normal).unwrap();
        let buffer = DmaBuffer::new(memory, DmaPlace { iova: 0, size }, Arc::clone(&broker) as _).unwrap();
        Self { buffer, broker }
    }

    fn view(&self) -> DmaView {
        // As it comes by a broker: open for reading alone.
        let memory = for_others(self.buffer.memory(), jitney_memory::Access::ReadOnly).unwrap();
        let place = DmaPlace { iova: 0, size: self.buffer.size() };
        DmaView::new(&memory, place, 0, Arc::clone(&self.broker) as _).unwrap()
    }

    fn reader(&self) -> Reader {
        Reader::new(self.view()).unwrap()
    }
}

/// What block `number` has in these tests.
fn data(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect()
}

/// Takes the next block, which is there; its number and what was lost.
fn take(reader: &mut Reader) -> (u64, Lost) {
    let Next::Block(mut block) = reader.next(NOW).unwrap() else { panic!("there is no block") };
    let mut bytes = vec![0; block.len()];
    block.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, data(block.number(), block.len()));
    (block.number(), block.lost())
}

#[test]
fn what_is_put_is_read_by_all_and_who_comes_late_begins_late() {
    let shape = Shape::new(8, 128).unwrap();
    let shared = Shared::new(shape);
    let mut writer = Writer::new(&shared.buffer, shape).unwrap();
    let mut early = [shared.reader(), shared.reader()];
    for number in 0..3 {
        writer.put(&data(number, 100), number == 1).unwrap();
    }
    let mut late = shared.reader();
    writer.put(&data(3, 128), true).unwrap();
    for reader in &mut early {
        for number in 0..4 {
            assert_eq!(take(reader), (number, Lost::default()));
        }
        assert!(matches!(reader.next(NOW).unwrap(), Next::Nothing));
    }
    let Next::Block(block) = late.next(NOW).unwrap() else { panic!() };
    assert_eq!((block.number(), block.position(), block.ends_packet()), (3, 300, true));
    assert!(matches!(writer.put(&[0; 129], false), Err(Error::TooLong { .. })));
    drop(writer);
    for reader in &mut early {
        assert!(matches!(reader.next(SOON).unwrap(), Next::Ended(End::Closed)));
    }
}

#[test]
fn who_is_too_slow_is_told_exactly_how_much_it_lost() {
    let shape = Shape::new(8, 64).unwrap();
    let shared = Shared::new(shape);
    let mut writer = Writer::new(&shared.buffer, shape).unwrap();
    let mut reader = shared.reader();
    writer.put(&data(0, 10), true).unwrap();
    take(&mut reader);
    let lengths = |number: u64| usize::try_from(number % 64).unwrap();
    for number in 1..30 {
        writer.put(&data(number, lengths(number)), number % 3 == 0).unwrap();
    }
    let (next, lost) = take(&mut reader);
    assert_eq!(next, 26, "in the middle of what there is");
    let bytes: usize = (1..26).map(lengths).sum();
    assert_eq!(lost, Lost { blocks: 25, bytes: bytes as u64, packets: 8 });
    assert_eq!(reader.lost(), lost);
    // One that is overwritten in one's hands.
    let Next::Block(mut block) = reader.next(NOW).unwrap() else { panic!() };
    assert_eq!(block.number(), 27);
    block.read(0, &mut [0; 4]).unwrap();
    for number in 30..36 {
        writer.put(&data(number, 64), true).unwrap();
    }
    let error = block.read(4, &mut [0; 4]).unwrap_err();
    assert!(error.is_overrun(), "{error}");
    assert!(matches!(block.read(60, &mut [0; 5]).unwrap_err(), Error::OutOfBlock { .. }));
    let (next, again) = take(&mut reader);
    assert_eq!((next, again.blocks), (32, 5), "it is among the lost");
    assert_eq!(reader.lost().blocks, 30);
}

#[test]
fn readers_sleep_until_something_comes_and_hear_when_the_writer_is_gone() {
    let shape = Shape::new(4, 64).unwrap();
    let shared = Shared::new(shape);
    let mut writer = Writer::new(&shared.buffer, shape).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = shared.reader();
                scope.spawn(move || {
                    assert_eq!(
                        match reader.next(SOON).unwrap() {
                            Next::Block(block) => block.number(),
                            other => panic!("{other:?}"),
                        },
                        0
                    );
                    matches!(reader.next(SOON).unwrap(), Next::Ended(End::Gone))
                })
            })
            .collect();
        writer.put(&[1], false).unwrap();
        // It is killed: nobody closes the ring.
        std::mem::forget(writer);
        shared.broker.gone.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    });
}

/// Readers beside a writer that waits for nobody: whatever they take for good is.
#[test]
fn nothing_torn_is_ever_taken_for_whole_and_everything_is_got_or_lost() {
    const BLOCKS: u64 = 40_000;
    let shape = Shape::new(8, 256).unwrap();
    let shared = Shared::new(shape);
    let mut writer = Writer::new(&shared.buffer, shape).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = shared.reader();
            scope.spawn(move || {
                let (mut got, mut bytes, mut packets) = (0, 0, 0);
                loop {
                    match reader.next(SOON).unwrap() {
                        Next::Block(mut block) => {
                            let mut seen = vec![0; block.len()];
                            match block.read(0, &mut seen) {
                                Ok(()) => {
                                    assert_eq!(seen, data(block.number(), block.len()));
                                    got += 1;
                                    bytes += block.len() as u64;
                                    packets += u64::from(block.ends_packet());
                                }
                                Err(error) => assert!(error.is_overrun(), "{error}"),
                            }
                        }
                        Next::Ended(End::Closed) => break,
                        other => panic!("{other:?}"),
                    }
                }
                let lost = reader.lost();
                let all: u64 = (0..BLOCKS).map(|number| number % 257).sum();
                assert_eq!((got + lost.blocks, bytes + lost.bytes), (BLOCKS, all));
                assert_eq!(packets + lost.packets, BLOCKS.div_ceil(5));
            });
        }
        for number in 0..BLOCKS {
            writer.put(&data(number, usize::try_from(number % 257).unwrap()), number % 5 == 0).unwrap();
        }
        drop(writer);
    });
}

#[test]
fn what_is_no_ring_is_refused() {
    for (blocks, bytes) in
        [(3, 64), (1024, 64), (4, 0), (4, 63), (4, 65), (4, (8 << 20) + 64), (u32::MAX, u32::MAX)]
    {
        assert!(matches!(Shape::new(blocks, bytes), Err(Error::Shape { .. })), "{blocks} {bytes}");
    }
    let (small, large) = (Shape::new(4, 64).unwrap(), Shape::new(64, 4096).unwrap());
    let shared = Shared::new(small);
    assert!(matches!(Writer::new(&shared.buffer, large), Err(Error::Size { .. })));
    assert!(matches!(Reader::new(shared.view()), Err(Error::NoRing(_))));
    drop(Writer::new(&shared.buffer, small).unwrap());
    shared.reader();
    shared.buffer.write(8, &64u32.to_le_bytes()).unwrap();
    shared.buffer.write(12, &4096u32.to_le_bytes()).unwrap();
    assert!(matches!(Reader::new(shared.view()), Err(Error::Size { .. })));
    shared.buffer.write(4, &[9]).unwrap();
    assert!(Reader::new(shared.view()).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn numbers_that_cannot_be_are_an_error() {
    let shape = Shape::new(4, 64).unwrap();
    for (offset, value) in
        [(24_u64, 1_u64), (64 + 2 * 64 + 32, 65), (64 + 2 * 64 + 16, 3), (64 + 2 * 64 + 16, u64::MAX)]
    {
        let shared = Shared::new(shape);
        let mut writer = Writer::new(&shared.buffer, shape).unwrap();
        let mut reader = shared.reader();
        for number in 0..2 {
            writer.put(&data(number, 10), true).unwrap();
            take(&mut reader);
        }
        writer.put(&data(2, 10), true).unwrap();
        shared.buffer.write(offset, &value.to_le_bytes()).unwrap();
        assert!(matches!(reader.next(NOW), Err(Error::Broken(_))), "{value} at {offset}");
    }
}

/// What happens in a ring, and what is done to its header.
#[derive(Debug, Clone)]
enum Step {
    Put(usize),
    Read(usize),
    Spoil(u64, u64),
}

fn steps(spoil: bool) -> impl Strategy<Value = Vec<Step>> {
    let put = (0..65_usize).prop_map(Step::Put).boxed();
    let read = (0..3_usize).prop_map(Step::Read).boxed();
    let value = prop_oneof![0..80_u64, any::<u64>(), Just(u64::MAX), Just(u64::MAX - 1)];
    let spoilt = (0..48_u64, value).prop_map(|(word, value)| Step::Spoil(word * 8, value)).boxed();
    let kinds = if spoil { vec![put, read, spoilt] } else { vec![put, read] };
    proptest::collection::vec(proptest::strategy::Union::new(kinds), 0..80)
}

proptest! {
    #[test]
    fn every_reader_gets_or_loses_all_and_knows_which(steps in steps(false)) {
        let shape = Shape::new(5, 64).unwrap();
        let shared = Shared::new(shape);
        let mut writer = Writer::new(&shared.buffer, shape).unwrap();
        let mut readers: Vec<_> = (0..3).map(|_| (shared.reader(), 0_u64, 0_u64)).collect();
        let mut number = 0;
        for step in &steps {
            match *step {
                Step::Put(length) => {
                    writer.put(&data(number, length), length % 2 == 0).unwrap();
                    number += 1;
                }
                Step::Read(which) => {
                    let (reader, got, bytes) = &mut readers[which];
                    if let Next::Block(mut block) = reader.next(NOW).unwrap() {
                        let mut seen = vec![0; block.len()];
                        block.read(0, &mut seen).unwrap();
                        prop_assert_eq!(&seen, &data(block.number(), block.len()));
                        *got += 1;
                        *bytes += block.len() as u64;
                    }
                }
                Step::Spoil(..) => {}
            }
        }
        let Published { blocks, bytes: all, .. } = writer.published();
        drop(writer);
        for (reader, got, bytes) in &mut readers {
            while let Next::Block(block) = reader.next(NOW).unwrap() {
                *got += 1;
                *bytes += block.len() as u64;
            }
            prop_assert_eq!((*got + reader.lost().blocks, *bytes + reader.lost().bytes), (blocks, all));
        }
    }

    /// Whatever is written into the header: a reader gets something or an error, and never more than a block has.
    #[test]
    fn nothing_in_the_memory_makes_a_reader_panic(steps in steps(true)) {
        let shape = Shape::new(4, 64).unwrap();
        let shared = Shared::new(shape);
        let mut writer = Writer::new(&shared.buffer, shape).unwrap();
        let mut readers: Vec<_> = (0..3).map(|_| shared.reader()).collect();
        for step in steps {
            match step {
                Step::Put(length) => writer.put(&data(0, length), true).unwrap(),
                Step::Read(which) => {
                    if let Ok(Next::Block(mut block)) = readers[which].next(NOW) {
                        let mut seen = vec![0; block.len()];
                        prop_assert!(seen.len() <= 64);
                        let _ = block.read(0, &mut seen);
                    }
                }
                Step::Spoil(offset, value) => {
                    shared.buffer.write(offset, &value.to_le_bytes()).unwrap();
                    if let Ok(reader) = Reader::new(shared.view()) {
                        readers[0] = reader;
                    }
                }
            }
        }
    }
}
