//! Memory for which no huge pages were reserved, on large pages all the same.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

use jitney_memory::{Access, Mapping, Memfd, PageSize};
use rustix::io::Errno;

const LARGE: u64 = 2 << 20;

/// Two large pages and a normal one.
const SIZE: u64 = 2 * LARGE + 4096;

fn memory(size: u64) -> Memfd {
    Memfd::create("large-pages-test", size, PageSize::Normal).unwrap()
}

fn all_of(memory: &Memfd) -> Mapping {
    Mapping::shared(memory, 0, usize::try_from(memory.size()).unwrap(), Access::ReadWrite).unwrap()
}

/// Kibibytes of memory that are there.
fn taken(memory: &Memfd) -> i64 {
    rustix::fs::fstat(memory).unwrap().st_blocks / 2
}

/// Settles all of it. Where this kernel or its memory has no large pages, the test says so and ends.
fn settled(memory: &Memfd) -> bool {
    match memory.settle(0, memory.size(), None) {
        Ok(()) => true,
        Err(error) => {
            let errno = error.errno();
            assert!(
                matches!(errno, Some(Errno::INVAL | Errno::NOMEM | Errno::AGAIN | Errno::BUSY)),
                "{error}"
            );
            eprintln!("skipped: {error}");
            false
        }
    }
}

#[test]
fn whole_large_pages_are_taken_and_nothing_else() {
    let memory = memory(SIZE);
    assert_eq!(memory.on_large_pages().unwrap(), 0);
    assert_eq!(taken(&memory), 0, "looking takes nothing");
    if settled(&memory) {
        assert_eq!(taken(&memory), 4096);
        assert_eq!(memory.on_large_pages().unwrap(), 0, "a page of it is not there yet");
        all_of(&memory).store8(SIZE - 1, 7).unwrap();
        assert_eq!(memory.on_large_pages().unwrap(), 2 * LARGE);
        // Once more does no harm, and neither does a part.
        memory.settle(0, SIZE, None).unwrap();
        memory.settle(4096, LARGE, None).unwrap();
        assert_eq!(memory.on_large_pages().unwrap(), 2 * LARGE);
    }
}

#[test]
fn what_is_in_memory_stays() {
    let memory = memory(SIZE);
    let view = all_of(&memory);
    let bytes: Vec<u8> = (0..=250).cycle().take(usize::try_from(SIZE).unwrap()).collect();
    view.write(0, &bytes).unwrap();
    settled(&memory);
    let mut found = vec![0; bytes.len()];
    view.read(0, &mut found).unwrap();
    assert!(found == bytes);
}

#[test]
fn less_than_a_large_page_is_left_alone() {
    let memory = memory(SIZE);
    memory.settle(4096, LARGE, None).unwrap();
    memory.settle(0, 4096, None).unwrap();
    assert_eq!(taken(&memory), 0);
    for (offset, size) in [(0, 0), (0, SIZE + 1), (SIZE, 1), (u64::MAX, 2)] {
        let error = memory.settle(offset, size, None).unwrap_err();
        assert!(error.to_string().contains("descriptor refused"), "{error}");
    }
}

#[test]
fn views_begin_where_their_large_pages_do() {
    let memory = memory(4 * LARGE);
    for offset in [0, LARGE, 4096, LARGE - 4096] {
        let view = Mapping::shared(&memory, offset, 2 << 20, Access::ReadOnly).unwrap();
        assert_eq!((view.address().wrapping_sub(offset)) % LARGE, 0);
        assert_eq!(view.load8((2 << 20) - 1).unwrap(), 0);
    }
}

#[test]
fn a_node_that_is_not_there_is_an_error_that_changes_nothing() {
    let memory = memory(SIZE);
    for node in [1023, 1024, u32::MAX] {
        let error = memory.settle(0, 4096, Some(node)).unwrap_err();
        assert!(error.to_string().contains("mbind"), "{error}");
    }
    // Every machine has node 0. A kernel without NUMA has no such call.
    match memory.settle(0, 4096, Some(0)) {
        Ok(()) => {}
        Err(error) => assert!(matches!(error.errno(), Some(Errno::NOSYS | Errno::PERM)), "{error}"),
    }
    all_of(&memory).store8(0, 1).unwrap();
}
