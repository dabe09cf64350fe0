//! Many transfers in flight: their order, their cost, and what becomes of each when one fails or is given up.

use crate::model::{Bench, Fault};
use crate::transfers::{SHORT, contents, h2c, patterned, works};
use jitney_xdma::{Completed, Error, H2c, Pending, Piece, PlanError, Xdma};
use std::time::Duration;

/// Queues the page of `buffer` with each number for the same page of the card.
fn submit(h2c: &H2c, buffer: &jitney_vfio::DmaBuffer, pages: impl IntoIterator<Item = u64>) -> Vec<Pending> {
    let page = |number: u64| h2c.submit(buffer, number * 4096..(number + 1) * 4096, number * 4096);
    pages.into_iter().map(|number| page(number).unwrap()).collect()
}

fn wait(pending: Vec<Pending>) -> Vec<Result<Completed, Error>> {
    pending.into_iter().map(Pending::wait).collect()
}

/// The accesses since the last call: how many reads, and the writes.
fn accesses(bench: &Bench) -> (usize, Vec<(u64, u32)>) {
    let mut state = bench.model.state();
    (std::mem::take(&mut state.reads).len(), std::mem::take(&mut state.writes))
}

#[test]
fn a_transfer_costs_one_register_write_and_a_batch_no_more() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 64 * 4096);
    h2c.write_range(&buffer, 0..4096, 0).unwrap();
    accesses(&bench);
    h2c.write_range(&buffer, 0..4096, 0).unwrap();
    assert_eq!(accesses(&bench), (0, vec![(0x408c, 1)]));
    let pages = (0..64).map(|page| Piece::new(&buffer, page * 4096..(page + 1) * 4096, page * 4096));
    assert_eq!(h2c.submit_pieces(pages.clone()).unwrap().wait().unwrap().bytes, 64 * 4096);
    assert_eq!(accesses(&bench), (0, vec![(0x408c, 64)]), "in one transfer");
    let batch = h2c.submit_batch(pages).unwrap();
    assert!(batch.len() == 64 && wait(batch).into_iter().all(|outcome| outcome.unwrap().bytes == 4096));
    assert_eq!(accesses(&bench), (0, vec![(0x408c, 64)]), "in one call");
    let wrong = [Piece::new(&buffer, 0..4096, 0), Piece::new(&buffer, 0..0, 0)];
    assert!(matches!(h2c.submit_batch(wrong), Err(Error::Plan { .. })));
    assert_eq!(accesses(&bench), (0, vec![]));

    // While the engine is at the first, the others queue up behind a ring that is full; then all go at once.
    let h2c = h2c.with_depth(64).unwrap();
    bench.model.set(Fault::Hang { after: 0 });
    let first = submit(&h2c, &buffer, (0..64).chain(0..64));
    bench.model.set(Fault::None);
    bench.model.go_on(0);
    accesses(&bench);
    assert!(wait(first).into_iter().all(|outcome| outcome.is_ok()));
    assert_eq!(accesses(&bench), (0, vec![(0x408c, 64)]), "one after the other");
    assert_eq!(bench.model.state().memory[..64 * 4096], contents(&buffer));
}

#[test]
fn transfers_are_carried_out_in_order_and_may_be_waited_for_in_any() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_depth(3).unwrap();
    let buffer = patterned(&bench, 40 * 4096);
    let mut pending = submit(&h2c, &buffer, 0..40);
    let last = pending.pop().unwrap().wait().unwrap();
    assert_eq!((last.bytes, last.descriptors), (4096, 1));
    for pending in pending.into_iter().rev() {
        assert_eq!(pending.poll().unwrap().unwrap().bytes, 4096, "all those before it had ended");
    }
    assert_eq!(bench.model.state().memory[..40 * 4096], contents(&buffer));
}

#[test]
fn pieces_are_gathered_and_scattered() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let (one, other) = (patterned(&bench, 4096), patterned(&bench, 8192));
    let pieces = [
        Piece::new(&one, 100..200, 0x9000),
        Piece::new(&other, 5000..5001, 0x9064),
        Piece::new(&one, 0..50, 0x1_0000),
    ];
    let done = h2c.submit_pieces(pieces.clone()).unwrap().wait().unwrap();
    assert_eq!((done.bytes, done.descriptors), (151, 3));
    let state = bench.model.state();
    assert_eq!(state.memory[0x9000..0x9064], contents(&one)[100..200]);
    assert_eq!(state.memory[0x9064], contents(&other)[5000]);
    assert_eq!(state.memory[0x1_0000..0x1_0032], contents(&one)[..50]);
    drop(state);

    let c2h = Xdma::identify(bench.card(), 2).unwrap().c2h(0).unwrap();
    let target = bench.card().dma_buffer(4096.into()).unwrap();
    let pieces = [Piece::new(&target, 7..57, 0x1_0000), Piece::new(&target, 1000..1100, 0x9000)];
    c2h.submit_pieces(pieces).unwrap().wait().unwrap();
    assert_eq!(contents(&target)[7..57], contents(&one)[..50]);
    assert_eq!(contents(&target)[1000..1100], contents(&one)[100..200]);

    let none = h2c.submit_pieces([]).unwrap_err();
    assert!(matches!(none, Error::Plan { why: PlanError::Empty, .. }), "{none}");
    let wrong = h2c.submit_pieces([Piece::new(&one, 0..10, 0), Piece::new(&one, 0..4097, 0)]);
    assert!(matches!(wrong, Err(Error::Range { .. })));
}

#[test]
fn one_that_fails_takes_those_behind_it_along_and_none_before_it() {
    for reported in [true, false] {
        let bench = Bench::new();
        let h2c = h2c(&bench).with_depth(8).unwrap();
        let buffer = patterned(&bench, 20 * 4096);
        let (after, status) = (3, 1 << 14);
        bench.model.set(Fault::Hang { after: 0 });
        let pending = submit(&h2c, &buffer, 0..20);
        bench.model.set(Fault::None);
        bench.model.fail(0, after, status, reported);
        let outcomes = wait(pending);
        assert!(outcomes[..3].iter().all(Result::is_ok), "{outcomes:?}");
        let Err(Error::Engine(failure)) = &outcomes[3] else { panic!("{:?}", outcomes[3]) };
        assert_eq!((failure.descriptors_done, failure.descriptors_started), (0, 1));
        for outcome in &outcomes[4..] {
            let error = outcome.as_ref().unwrap_err();
            assert!(matches!(error, Error::Behind { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("h2c0 of fake") && text.contains("write: decode error"), "{text}");
            assert!(text.contains("submit it again"), "{text}");
        }
        works(&bench, &h2c);
    }
}

#[test]
fn one_is_cancelled_and_the_others_go_on() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_depth(4).unwrap().with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 10 * 4096);
    bench.model.set(Fault::Hang { after: 2 });
    let mut pending = submit(&h2c, &buffer, 0..10);
    // The ninth was not given to the engine, the third was, and the first is over.
    assert_eq!(pending.remove(8).cancel().unwrap(), None);
    assert_eq!(bench.model.state().channels[0].runs, 1, "nothing was stopped for it");
    assert_eq!(pending.remove(0).cancel().unwrap().unwrap().bytes, 4096);
    bench.model.set(Fault::None);
    assert_eq!(pending.remove(1).cancel().unwrap(), None);
    assert_eq!(bench.model.state().channels[0].runs, 2);
    assert!(wait(pending).into_iter().all(|outcome| outcome.unwrap().bytes == 4096));
    let (state, bytes) = (bench.model.state(), contents(&buffer));
    for page in 0..10 {
        let range = page * 4096..(page + 1) * 4096;
        let there = state.memory[range.clone()] == bytes[range];
        assert_eq!(there, page != 2 && page != 8, "{page}");
    }
}

#[test]
fn one_behind_another_that_nobody_waits_for_is_cancelled_and_no_other() {
    for behind in [false, true] {
        let bench = Bench::new();
        let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
        let buffer = patterned(&bench, 3 * 4096);
        bench.model.set(Fault::Hang { after: 0 });
        let mut pending = submit(&h2c, &buffer, if behind { 0..3 } else { 0..2 });
        // The first ends while the engine is told to stop, and nobody wants it.
        drop(pending.remove(0));
        bench.model.set(Fault::EndsWhenStopped);
        assert_eq!(pending.remove(0).cancel().unwrap(), None);
        bench.model.set(Fault::None);
        if behind {
            bench.model.go_on(0);
            assert_eq!(pending.remove(0).wait().unwrap().bytes, 4096);
        }
        works(&bench, &h2c);
    }
}

#[test]
fn a_ring_is_kept_while_an_engine_is_stuck() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    bench.model.set(Fault::Stuck);
    let buffer = patterned(&bench, 4096);
    assert!(h2c.write(&buffer, 0).is_err());
    let ring = bench.model.state().channels[0].first;
    let error = h2c.with_depth(64).unwrap_err();
    assert!(matches!(error, Error::StillBusy { .. }), "{error}");
    assert!(bench.host.mapped().iter().any(|place| place.iova == ring), "the engine may be at it");
    bench.model.unstick();
}

#[test]
fn what_an_engine_said_before_somebody_slept_is_not_forgotten() {
    let bench = Bench::new();
    let h2c = h2c(&bench).adaptive().unwrap().with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    // Without a word and an interrupt.
    bench.model.set(Fault::Error { after: 0, status: 0x0008_0010 });
    let error = h2c.write(&buffer, 0).unwrap_err();
    assert!(matches!(error, Error::Engine(_)), "{error}");
    works(&bench, &h2c);
    // Nor when it is another that is given up.
    bench.model.set(Fault::Error { after: 0, status: 1 << 14 });
    let mut pending = submit(&h2c, &buffer, 0..1);
    pending.extend(submit(&h2c, &buffer, 0..1));
    bench.model.set(Fault::None);
    let second = pending.pop().unwrap().cancel();
    assert!(matches!(second, Err(Error::Engine(_) | Error::Behind { .. })), "{second:?}");
    assert!(matches!(pending.remove(0).wait(), Err(Error::Engine(_))));
    works(&bench, &h2c);
}

#[test]
fn a_long_one_goes_on_where_it_was_when_another_is_cancelled() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(64).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 300 * 64);
    bench.model.set(Fault::Hang { after: 77 });
    let long = h2c.submit(&buffer, 0..300 * 64, 0).unwrap();
    let other = h2c.submit(&buffer, 0..64, 0xf_0000).unwrap();
    bench.model.set(Fault::None);
    other.cancel().unwrap();
    let done = long.wait().unwrap();
    assert_eq!((done.bytes, done.descriptors), (300 * 64, 300));
    let state = bench.model.state();
    assert_eq!(state.ran.len(), 300, "and nothing twice");
    assert_eq!(state.memory[..300 * 64], contents(&buffer)[..300 * 64]);
}

#[test]
fn all_are_cancelled_and_say_what_they_had_done() {
    let bench = Bench::new();
    let h2c = h2c(&bench).descriptors_of_at_most(1024).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 8192);
    bench.model.set(Fault::Hang { after: 6 });
    let pending = submit(&h2c, &buffer, 0..2);
    h2c.cancel_all().unwrap();
    let outcomes = wait(pending);
    assert!(outcomes[0].is_ok());
    let Err(Error::Cancelled { bytes_done, bytes, .. }) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!((*bytes_done, *bytes), (2048, 4096));
    works(&bench, &h2c);
}

#[test]
fn handles_channel_and_card_may_be_dropped_in_any_order() {
    for order in 0..6 {
        let bench = Bench::new();
        let (xdma, buffer) = (Xdma::identify(bench.card(), 2).unwrap(), patterned(&bench, 8192));
        let h2c = xdma.h2c(0).unwrap().with_timeout(SHORT);
        bench.model.set(Fault::Hang { after: 0 });
        let mut pending = submit(&h2c, &buffer, 0..2);
        let (first, second) = (pending.remove(0), pending.remove(0));
        match order {
            0 => drop((h2c, first, second, xdma)),
            1 => drop((first, h2c, xdma, second)),
            2 => drop((second, first, h2c, xdma)),
            3 => drop((xdma, second, h2c, first)),
            4 => {
                // The channel is gone and the transfer goes on.
                drop((h2c, xdma, first));
                bench.model.set(Fault::None);
                bench.model.go_on(0);
                assert_eq!(second.wait().unwrap().bytes, 4096);
            }
            _ => {
                drop((h2c, xdma));
                bench.model.set(Fault::Stuck);
                let error = first.wait().unwrap_err();
                assert!(matches!(&error, Error::TimedOut { failure, .. } if !failure.usable), "{error}");
                let buffers = bench.host.mapped().len();
                drop((second, buffer));
                assert_eq!(bench.host.mapped().len(), buffers, "a stuck engine keeps what it was given");
                continue;
            }
        }
        assert_eq!(bench.model.state().channels[0].control & 1, 0, "{order}");
        drop(buffer);
        assert!(bench.fake.leases().is_empty() && bench.host.mapped().is_empty(), "{order}");
    }
}

#[test]
fn many_threads_wait_for_transfers_of_one_channel() {
    for by_interrupt in [true, false] {
        let bench = Bench::new();
        let h2c = h2c(&bench).with_depth(5).unwrap().with_timeout(Duration::from_secs(60));
        let h2c = if by_interrupt { h2c.by_interrupt().unwrap() } else { h2c };
        let buffer = patterned(&bench, 8 * 4096);
        std::thread::scope(|scope| {
            for page in 0..8_u64 {
                let (h2c, buffer) = (&h2c, &buffer);
                scope.spawn(move || {
                    let range = page * 4096..(page + 1) * 4096;
                    for _ in 0..50 {
                        let pending = h2c.submit(buffer, range.clone(), range.start).unwrap();
                        assert_eq!(pending.wait().unwrap().bytes, 4096);
                    }
                });
            }
        });
        assert_eq!(bench.model.state().memory[..8 * 4096], contents(&buffer));
    }
}

#[test]
fn a_wait_may_have_an_end() {
    for by_interrupt in [true, false] {
        let bench = Bench::new();
        let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
        let h2c = if by_interrupt { h2c.by_interrupt().unwrap() } else { h2c };
        bench.model.set(Fault::Hang { after: 0 });
        let pending = submit(&h2c, &patterned(&bench, 4096), 0..1).remove(0);
        assert_eq!(pending.wait_for(Duration::from_millis(20)).unwrap(), None);
        bench.model.set(Fault::None);
        bench.model.go_on(0);
        assert_eq!(pending.wait_for(Duration::from_secs(60)).unwrap().unwrap().bytes, 4096);
    }
}
