//! Mappings: what is shared, what is checked, what is refused.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicBool, Ordering};

use jitney_memory::{Access, AccessError, Error, Mapping, Memfd, PageSize, Registers};
use proptest::prelude::*;
use rustix::io::Errno;

fn pair(len: usize) -> (Mapping, Mapping) {
    let memory = Memfd::create("pair", len as u64, PageSize::Normal).unwrap();
    let map = |access| Mapping::shared(&memory, 0, len, access).unwrap();
    (map(Access::ReadWrite), map(Access::ReadOnly))
}

/// Memory of this process that is resident, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PageSize::Normal.bytes()
}

#[test]
fn two_mappings_of_one_file_see_each_other() {
    let (mine, theirs) = pair(0x2000);
    mine.write(0xFFE, &[1, 2, 3, 4]).unwrap();
    let mut seen = [0; 4];
    theirs.read(0xFFE, &mut seen).unwrap();
    assert_eq!(seen, [1, 2, 3, 4]);
    mine.fill(0x1000, 0x1000, 0xA5).unwrap();
    assert_eq!(theirs.load32(0x1FFC), Ok(0xA5A5_A5A5));
    mine.store8(1, 0x12).unwrap();
    mine.store16(2, 0x3456).unwrap();
    assert_eq!(theirs.load8(1), Ok(0x12));
    assert_eq!(theirs.load16(2), Ok(0x3456));
    mine.store_release32(4, 0x789A_BCDE).unwrap();
    assert_eq!(theirs.load_acquire32(4), Ok(0x789A_BCDE));
}

#[test]
fn registers_are_what_is_mapped_there() {
    let memory = Memfd::create("registers", 0x1000, PageSize::Normal).unwrap();
    let registers = Registers::map(&memory, 0, 0x100).unwrap();
    let seen = Mapping::shared(&memory, 0, 0x100, Access::ReadOnly).unwrap();
    assert_eq!(registers.len(), 0x100);
    registers.store32(4, 0x789A_BCDE).unwrap();
    registers.store16(8, 0x1234).unwrap();
    registers.store8(11, 0x56).unwrap();
    assert_eq!((seen.load32(4), seen.load32(8)), (Ok(0x789A_BCDE), Ok(0x5600_1234)));
    assert_eq!((registers.load32(4), registers.load16(6)), (Ok(0x789A_BCDE), Ok(0x789A)));
    let cell = registers.cell32(8).unwrap();
    cell.write(0x1020_3040);
    assert_eq!((cell.read(), registers.load8(8)), (0x1020_3040, Ok(0x40)));
}

#[test]
fn a_later_part_of_a_file_can_be_mapped() {
    let memory = Memfd::create("parts", 0x3000, PageSize::Normal).unwrap();
    let whole = Mapping::shared(&memory, 0, 0x3000, Access::ReadWrite).unwrap();
    let part = Mapping::shared(&memory, 0x2000, 0x10, Access::ReadWrite).unwrap();
    part.store32(0xC, 9).unwrap();
    assert_eq!(whole.load32(0x200C), Ok(9));
    assert_eq!(part.load32(0x10), Err(AccessError::OutOfBounds { offset: 0x10, len: 4, size: 0x10 }));
}

#[test]
fn what_a_file_does_not_hold_is_not_mapped() {
    let memory = Memfd::create("short", 0x1000, PageSize::Normal).unwrap();
    for (offset, len) in [(0, 0x1001), (0x1000, 1), (u64::MAX, 1), (0, usize::MAX), (u64::MAX, usize::MAX)] {
        let error = Mapping::shared(&memory, offset, len, Access::ReadWrite).unwrap_err();
        assert!(matches!(error, Error::Descriptor { .. }), "{offset:#x}, {len:#x}: {error}");
    }
    assert!(matches!(Mapping::shared(&memory, 0, 0, Access::ReadWrite), Err(Error::Size { .. })));
    let misaligned = Mapping::shared(&memory, 4, 4, Access::ReadWrite).unwrap_err();
    assert_eq!(misaligned.errno(), Some(Errno::INVAL));
    assert!(misaligned.to_string().ends_with("must be a multiple of the page size"), "{misaligned}");
    assert!(matches!(Mapping::anonymous(0), Err(Error::Size { .. })));
    assert!(matches!(Mapping::anonymous(usize::MAX), Err(Error::Size { .. })));
    let vast = Mapping::anonymous(1 << 60).unwrap_err();
    assert!(vast.to_string().contains("mmap of 1152921504606846976 bytes"), "{vast}");
    assert!(vast.to_string().contains("ENOMEM (Cannot allocate memory)"), "{vast}");
}

#[test]
fn a_read_only_mapping_refuses_every_store() {
    let (_, theirs) = pair(0x1000);
    let refused = Err(AccessError::ReadOnly { offset: 8 });
    assert_eq!(theirs.access(), Access::ReadOnly);
    assert_eq!(theirs.write(8, &[1]), refused);
    assert_eq!(theirs.fill(8, 1, 1), refused);
    assert_eq!(theirs.store8(8, 1), refused);
    assert_eq!(theirs.store16(8, 1), refused);
    assert_eq!(theirs.store32(8, 1), refused);
    assert_eq!(theirs.store_release32(8, 1), refused);
    assert_eq!(theirs.copy_to(0, &theirs, 8, 1), refused);
}

#[test]
fn untouched_anonymous_memory_costs_nothing_even_when_read() {
    const LEN: usize = 1 << 30;
    let memory = Mapping::anonymous(LEN).unwrap();
    let before = resident();
    let mut buffer = vec![1; 1 << 20];
    for offset in (0..LEN as u64).step_by(1 << 20) {
        memory.read(offset, &mut buffer).unwrap();
        assert!(buffer.iter().all(|&byte| byte == 0));
    }
    let cost = resident().saturating_sub(before);
    assert!(cost < 64 << 20, "{cost} bytes became resident");
}

#[test]
fn a_released_word_publishes_what_was_written_before() {
    let (mine, theirs) = pair(0x2000);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while seen < 1000 {
                let word = theirs.load_acquire32(0).unwrap();
                if word != seen {
                    let data = theirs.load32(0x1000).unwrap();
                    failed.fetch_or(data < word, Ordering::Relaxed);
                    seen = word;
                }
            }
        });
        for round in 1..=1000 {
            mine.write(0x1000, &u32::to_ne_bytes(round)).unwrap();
            mine.store_release32(0, round).unwrap();
        }
    });
    assert!(!failed.into_inner());
}

/// Offsets that matter: around the start, around the end, and around the ends of the number ranges.
fn offsets() -> impl Strategy<Value = u64> {
    prop_oneof![0..0x2010_u64, u64::MAX - 0x10..=u64::MAX, Just(1 << 32), Just(i64::MAX as u64), any::<u64>()]
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![0..0x2010_usize, usize::MAX - 0x10..=usize::MAX, Just(isize::MAX as usize), any::<usize>()]
}

proptest! {
    #[test]
    fn accesses_are_refused_exactly_when_out_of_bounds_or_misaligned(offset in offsets(), len in lengths()) {
        const SIZE: usize = 0x2000;
        let memory = Mapping::anonymous(SIZE).unwrap();
        let fits = |len: usize| u128::from(offset) + len as u128 <= SIZE as u128;

        prop_assert_eq!(memory.fill(offset, len, 1).is_ok(), fits(len));
        prop_assert_eq!(memory.copy_to(offset, &memory, 0, len).is_ok(), fits(len));
        prop_assert_eq!(memory.copy_to(0, &memory, offset, len).is_ok(), fits(len));
        if len <= 0x2010 {
            let mut buffer = vec![0; len];
            prop_assert_eq!(memory.read(offset, &mut buffer).is_ok(), fits(len));
            prop_assert_eq!(memory.write(offset, &buffer).is_ok(), fits(len));
        }
        prop_assert_eq!(memory.load8(offset).is_ok(), fits(1));
        prop_assert_eq!(memory.store8(offset, 1).is_ok(), fits(1));
        let word16 = fits(2) && offset.is_multiple_of(2);
        prop_assert_eq!(memory.load16(offset).is_ok(), word16);
        prop_assert_eq!(memory.store16(offset, 1).is_ok(), word16);
        let word32 = fits(4) && offset.is_multiple_of(4);
        prop_assert_eq!(memory.load32(offset).is_ok(), word32);
        prop_assert_eq!(memory.store32(offset, 1).is_ok(), word32);
        prop_assert_eq!(memory.load_acquire32(offset).is_ok(), word32);
        prop_assert_eq!(memory.store_release32(offset, 1).is_ok(), word32);

        let file = Memfd::create("registers", SIZE as u64, PageSize::Normal).unwrap();
        let registers = Registers::map(&file, 0, SIZE).unwrap();
        prop_assert_eq!(registers.load8(offset).is_ok(), fits(1));
        prop_assert_eq!(registers.store8(offset, 1).is_ok(), fits(1));
        prop_assert_eq!(registers.load16(offset).is_ok(), word16);
        prop_assert_eq!(registers.store16(offset, 1).is_ok(), word16);
        prop_assert_eq!(registers.load32(offset).is_ok(), word32);
        prop_assert_eq!(registers.store32(offset, 1).is_ok(), word32);
        prop_assert_eq!(registers.cell32(offset).is_ok(), word32);
    }

    #[test]
    fn copies_within_one_mapping_may_overlap(from in 0..64_usize, to in 0..64_usize, len in 0..64_usize) {
        let memory = Mapping::anonymous(128).unwrap();
        let mut model: Vec<u8> = (0..128).collect();
        memory.write(0, &model).unwrap();
        memory.copy_to(from as u64, &memory, to as u64, len).unwrap();
        model.copy_within(from..from + len, to);
        let mut bytes = vec![0; 128];
        memory.read(0, &mut bytes).unwrap();
        prop_assert_eq!(bytes, model);
    }
}

#[test]
fn who_sleeps_on_a_word_that_it_may_only_read_is_woken() {
    let memory = Memfd::create("word", 4096, PageSize::Normal).unwrap();
    let writer = Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap();
    let reader = Mapping::shared(&memory, 0, 4096, Access::ReadOnly).unwrap();
    let long = std::time::Duration::from_secs(3600);
    // It has another value already, and it does not change in time.
    assert!(reader.wait32(8, 1, long).unwrap());
    assert!(!reader.wait32(8, 0, std::time::Duration::from_millis(1)).unwrap());
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| reader.wait32(8, 0, long));
        // Whether it sleeps yet is not to be seen: it is woken until it was.
        while !sleeper.is_finished() {
            writer.wake32(8).unwrap();
            std::thread::yield_now();
        }
        assert!(sleeper.join().unwrap().unwrap());
    });
    assert!(reader.wake32(8).is_err() && writer.wake32(6).is_err() && writer.wait32(4096, 0, long).is_err());
}

#[test]
fn words_of_64_bits_are_whole_and_within_bounds() {
    let memory = Memfd::create("word", 4096, PageSize::Normal).unwrap();
    let writer = Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap();
    let reader = Mapping::shared(&memory, 0, 4096, Access::ReadOnly).unwrap();
    writer.store_release64(4088, u64::MAX - 1).unwrap();
    assert_eq!(reader.load_acquire64(4088), Ok(u64::MAX - 1));
    for offset in [4089, 4096, 4, u64::MAX] {
        assert!(writer.store_release64(offset, 0).is_err() && reader.load_acquire64(offset).is_err());
    }
    assert!(reader.store_release64(0, 1).is_err());
}
