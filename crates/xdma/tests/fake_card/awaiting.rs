//! Waiting as a task: of Tokio's, and of an executor that knows nothing of I/O.

use crate::interrupts::{c2h, h2c};
use crate::model::{Bench, Fault};
use crate::transfers::{SHORT, contents, patterned, works};
use jitney_xdma::{Error, H2c, Pending, Xdma};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

fn polled(bench: &Bench) -> H2c {
    Xdma::identify(bench.card(), 2).unwrap().h2c(0).unwrap().with_timeout(SHORT)
}

fn adaptive(bench: &Bench) -> H2c {
    polled(bench).adaptive().unwrap()
}

/// Lets channel 0 go on in a while.
fn later(bench: &Bench) -> std::thread::JoinHandle<()> {
    let model = Arc::clone(&bench.model);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        model.set(Fault::None);
        model.go_on(0);
    })
}

/// An executor that is the least: one thread, which sleeps until it is woken.
pub(crate) fn run<T>(task: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut task = pin!(task);
    loop {
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_task_waits_for_the_interrupt_and_for_the_write_back() {
    for way in [h2c, polled, adaptive] {
        let bench = Bench::new();
        let h2c = way(&bench).with_timeout(Duration::from_secs(60));
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Hang { after: 0 });
        let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
        let other = later(&bench);
        let done = run(pending.into_future()).unwrap();
        assert!(done.bytes == 4096 && done.duration >= Duration::from_millis(20), "{done:?}");
        other.join().unwrap();
        assert_eq!(bench.model.state().memory[..4096], contents(&buffer));
        works(&bench, &h2c);
    }
}

#[test]
fn a_lost_interrupt_a_hung_engine_and_a_dead_link_end_the_wait() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    let submit = |fault| {
        bench.model.set(fault);
        h2c.submit(&buffer, 0..4096, 0).unwrap().into_future()
    };
    bench.model.state().irq.lose = u32::MAX;
    let waiting = submit(Fault::Hang { after: 0 });
    let other = later(&bench);
    assert!(run(waiting).unwrap().duration >= Duration::from_millis(50));
    other.join().unwrap();
    bench.model.state().irq.lose = 0;
    assert!(matches!(run(submit(Fault::Hang { after: 0 })), Err(Error::TimedOut { .. })));
    assert!(matches!(run(submit(Fault::LinkDown)), Err(Error::LinkDown(_))));
}

#[tokio::test]
async fn two_channels_are_awaited_at_once() {
    let bench = Bench::new();
    let (h2c, c2h) = (h2c(&bench).descriptors_of_at_most(8), c2h(&bench).descriptors_of_at_most(8));
    let (source, target) = (patterned(&bench, 4096), bench.card().dma_buffer(4096.into()).unwrap());
    for _ in 0..20 {
        let (write, read) =
            (h2c.submit(&source, 0..4096, 0).unwrap(), c2h.submit(&target, 0..4096, 0).unwrap());
        let (written, read) = tokio::join!(write.into_future(), read.into_future());
        assert_eq!((written.unwrap().descriptors, read.unwrap().descriptors), (512, 512));
    }
    assert_eq!(contents(&source), contents(&target));
}

#[tokio::test]
async fn many_tasks_await_one_channel_and_each_is_woken() {
    for way in [h2c, polled, adaptive] {
        let bench = Bench::new();
        let h2c = way(&bench).with_timeout(Duration::from_secs(60));
        let buffer = patterned(&bench, 4096);
        bench.model.set(Fault::Hang { after: 0 });
        let tasks: Vec<_> = (0..20_u64)
            .map(|number| h2c.submit(&buffer, 0..64 * (number + 1), number * 0x1000).unwrap())
            .map(|pending| tokio::spawn(pending.into_future()))
            .collect();
        // One of those that the interrupt could wake waits no more.
        tokio::task::yield_now().await;
        tasks[19].abort();
        let other = later(&bench);
        for (number, task) in (0..19_u64).zip(tasks) {
            let done = task.await.unwrap().unwrap();
            assert_eq!(done.bytes, 64 * (number + 1));
        }
        other.join().unwrap();
        works(&bench, &h2c);
    }
}

#[tokio::test]
async fn a_transfer_whose_wait_is_given_up_goes_on() {
    let bench = Bench::new();
    let h2c = h2c(&bench).with_timeout(Duration::from_secs(60));
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    tokio::time::timeout(Duration::from_millis(80), pending.into_future()).await.unwrap_err();
    assert_eq!(bench.model.state().channels[0].control & 1, 1);
    bench.model.set(Fault::None);
    bench.model.go_on(0);
    assert_eq!(bench.model.state().memory[..4096], contents(&buffer));
    works(&bench, &h2c);
}

#[test]
fn a_wait_can_move_between_threads() {
    fn is_send(_: impl Send) {}
    let bench = Bench::new();
    let (h2c, buffer) = (h2c(&bench), patterned(&bench, 4096));
    let pending: Pending = h2c.submit(&buffer, 0..4096, 0).unwrap();
    is_send(pending.into_future());
}

#[tokio::test]
async fn a_transfer_whose_wait_was_given_up_can_be_cancelled_and_awaited_again() {
    let bench = Bench::new();
    let h2c = h2c(&bench);
    let buffer = patterned(&bench, 4096);
    bench.model.set(Fault::Hang { after: 0 });
    let pending = Arc::new(h2c.submit(&buffer, 0..4096, 0).unwrap());
    tokio::time::timeout(Duration::from_millis(20), Arc::clone(&pending).awaited()).await.unwrap_err();
    assert_eq!(pending.cancel().unwrap(), None);
    assert!(matches!(pending.awaited().await, Err(Error::Cancelled { .. })));
}
