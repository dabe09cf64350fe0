//! The XDMA driver against a card whose every answer is the fuzzer's, for a moment or for good: every operation ends within a
//! bounded number of register accesses, and no memory goes back that a running engine was given, unless the card is gone or
//! its bus mastering is off.
//!
//! The driver's time is virtual here (`wait.rs`): it passes when it is looked at.

#![no_main]

use jitney_fuzz::xdma_card::{BOUND, Fuzzed, Model, Nothing};
use jitney_vfio::{Card, FakeCard, FakeHost, Notice};
use jitney_xdma::{Channel, Error as XdmaError, Pending, Xdma};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::sync::Arc;

#[derive(Debug, Arbitrary)]
struct Input {
    by_interrupt: bool,
    card_to_host: bool,
    longest: u8,
    steps: Vec<Step>,
    /// What the card does at each access, until it has nothing more to say and behaves.
    answers: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Transfer { pages: u8, then: Then },
    Reopen,
    Notice(bool),
}

#[derive(Debug, Arbitrary)]
enum Then {
    Wait,
    PollAndDrop(u8),
    Drop,
    Cancel,
    CancelAll,
    /// It is waited for when the next has been, or at the end.
    Keep,
}

fuzz_target!(|input: Input| {
    thread_local!(static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) });
    BENCH.with_borrow_mut(|kept| {
        let mut bench = kept.take().unwrap_or_else(Bench::new);
        bench.model.begin(input.answers);
        let (by_interrupt, longest) = (input.by_interrupt, input.longest);
        let noticed = match input.card_to_host {
            true => bench.run(input.steps, || channel(bench.xdma.c2h(0)?, by_interrupt, longest)),
            false => bench.run(input.steps, || channel(bench.xdma.h2c(0)?, by_interrupt, longest)),
        };
        // What is kept of an engine that had not stopped goes now, and with it the card's leases.
        bench.model.begin(Vec::new());
        bench.fake.reset().expect("nothing but what is kept has a lease");
        assert!(bench.fake.leases().is_empty(), "leases: {:?}", bench.fake.leases());
        assert!(bench.host.mapped().is_empty(), "mapped: {:?}", bench.host.mapped());
        bench.uses += 1;
        *kept = (bench.uses < 1000 && !noticed).then_some(bench);
    });
});

fn channel<D>(
    channel: Channel<D>,
    by_interrupt: bool,
    longest: u8,
) -> std::result::Result<Channel<D>, XdmaError> {
    let channel = channel.descriptors_of_at_most([32, 64, 512, 4096][usize::from(longest % 4)]);
    let channel = channel.with_timeout(std::time::Duration::from_millis(100));
    if by_interrupt { channel.by_interrupt() } else { Ok(channel) }
}

/// A card and what is around it, for many inputs.
struct Bench {
    host: FakeHost,
    fake: Arc<FakeCard>,
    model: Arc<Model>,
    xdma: Xdma,
    uses: u32,
}

impl Bench {
    fn new() -> Self {
        let host = FakeHost::new();
        let fake =
            FakeCard::builder(&host, 0x10ee, 0x7011).bar(2, 0x1_0000, Nothing).vectors(2).build().unwrap();
        let model = Arc::new(Model::new(&host));
        let card = Arc::new(Fuzzed { fake: Arc::clone(&fake), model: Arc::clone(&model) });
        let xdma = Xdma::identify(card, 2).unwrap();
        Self { host, fake, model, xdma, uses: 0 }
    }

    /// Returns whether something was said of the card that is never taken back.
    fn run<D>(
        &self,
        steps: Vec<Step>,
        open: impl Fn() -> std::result::Result<Channel<D>, XdmaError>,
    ) -> bool {
        let mut noticed = false;
        let mut channel = None;
        let mut kept = Vec::new();
        for step in steps.into_iter().take(8) {
            self.model.begin_operation();
            match step {
                Step::Reopen => channel = None,
                Step::Notice(failed) => {
                    noticed = true;
                    self.host.notify(if failed { Notice::Failed } else { Notice::Leaving });
                }
                Step::Transfer { pages, then } => {
                    if channel.is_none() {
                        channel = open().ok();
                        self.model.check();
                        self.model.begin_operation();
                    }
                    if let Some(channel) = &channel {
                        let size = (u64::from(pages % 4) + 1) * 4096;
                        let buffer = self.fake.dma_buffer(size.into()).unwrap();
                        let started = channel.submit(&buffer, 1..size, 0x100);
                        drop(buffer);
                        self.model.check();
                        match (started, then) {
                            (Ok(pending), Then::Keep) => kept.push(pending),
                            (_, Then::CancelAll) => drop(channel.cancel_all()),
                            (Ok(pending), then) => {
                                self.go_on(pending, &then);
                                kept.drain(..).for_each(|pending| self.go_on(pending, &Then::Wait));
                            }
                            (Err(_), _) => {}
                        }
                    }
                }
            }
            self.model.check();
        }
        for pending in kept {
            self.model.begin_operation();
            self.go_on(pending, &Then::Wait);
        }
        self.model.begin_operation();
        drop(channel);
        self.model.check();
        noticed
    }

    fn go_on(&self, pending: Pending, then: &Then) {
        self.model.begin_operation();
        match then {
            Then::Wait => {
                let mut polls = 0;
                while let Ok(None) = pending.poll() {
                    self.model.check();
                    polls += 1;
                    assert!(polls < BOUND, "a transfer that does not end");
                }
                assert!(pending.poll().is_ok_and(|end| end.is_some()) || pending.poll().is_err());
                self.model.check();
                drop(pending.wait());
            }
            Then::PollAndDrop(times) => {
                for _ in 0..times % 16 {
                    drop(pending.poll());
                    self.model.check();
                }
            }
            Then::Cancel => drop(pending.cancel()),
            Then::Drop | Then::CancelAll | Then::Keep => drop(pending),
        }
    }
}
