//! Waiting as a task of Tokio's, by interrupt and by polling.

use crate::interrupts::{c2h, h2c};
use crate::model::{Bench, Fault};
use crate::transfers::{SHORT, contents, patterned, works};
use jitney_xdma::{Error, H2c, Pending, Xdma};
use std::sync::Arc;
use std::time::Duration;

fn polled(bench: &Bench) -> H2c {
    Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap().with_timeout(SHORT)
}

/// Lets channel 0 go on in a while.
fn later(bench: &Bench) -> std::thread::JoinHandle<()> {
    let model = Arc::clone(&bench.model);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        model.go_on(0);
    })
}

/// The runtime that is the least: I/O, no timer, one thread.
fn run<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(task)
}

#[test]
fn a_task_waits_for_the_interrupt_and_for_the_write_back() {
    for by_interrupt in [true, false] {
        let bench = Bench::new();
        let h2c = if by_interrupt { h2c(&bench) } else { polled(&bench) };
        let mut h2c = h2c.with_timeout(Duration::from_secs(60));
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Hang { after: 0 });
        let pending = h2c.start(&buffer, 0..4096, 0).unwrap();
        let other = later(&bench);
        let done = run(pending.finished()).unwrap();
        assert!(done.bytes == 4096 && done.duration >= Duration::from_millis(20), "{done:?}");
        other.join().unwrap();
        assert_eq!(bench.model.state().memory[..4096], contents(&buffer));
        works(&bench, &mut h2c);
    }
}

#[test]
fn a_lost_interrupt_a_hung_engine_and_a_dead_link_end_the_wait() {
    let bench = Bench::new();
    let mut h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let mut outcome = |fault| {
        bench.model.set(fault);
        run(h2c.start(&buffer, 0..4096, 0).unwrap().finished())
    };
    bench.model.state().irq.lose = 1;
    assert!(outcome(Fault::None).unwrap().duration >= Duration::from_millis(50));
    assert!(matches!(outcome(Fault::Hang { after: 0 }), Err(Error::TimedOut { .. })));
    assert!(matches!(outcome(Fault::LinkDown), Err(Error::LinkDown(_))));
}

#[tokio::test]
async fn two_transfers_are_awaited_at_once() {
    let bench = Bench::new();
    let (mut h2c, mut c2h) = (h2c(&bench).descriptors_of_at_most(8), c2h(&bench).descriptors_of_at_most(8));
    let (source, target) = (patterned(&bench, 4096), bench.card().dma_buffer(4096.into()).unwrap());
    for _ in 0..20 {
        let (write, read) =
            (h2c.start(&source, 0..4096, 0).unwrap(), c2h.start(&target, 0..4096, 0).unwrap());
        let (written, read) = tokio::join!(write.finished(), read.finished());
        assert_eq!((written.unwrap().descriptors, read.unwrap().descriptors), (512, 512));
    }
    assert_eq!(contents(&source), contents(&target));
}

#[tokio::test]
async fn a_wait_that_is_given_up_stops_the_engine() {
    let bench = Bench::new();
    let mut h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = h2c.start(&buffer, 0..4096, 0).unwrap();
    tokio::time::timeout(Duration::from_millis(80), pending.finished()).await.unwrap_err();
    assert_eq!(bench.model.state().channels[0].control & 1, 0);
    works(&bench, &mut h2c);
}

#[test]
fn a_wait_can_move_between_threads() {
    fn is_send(_: impl Send) {}
    let bench = Bench::new();
    let (mut h2c, buffer) = (h2c(&bench), patterned(&bench, 4096));
    let pending: Pending<'_> = h2c.start(&buffer, 0..4096, 0).unwrap();
    is_send(pending.finished());
}
