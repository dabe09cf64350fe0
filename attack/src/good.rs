//! The well-behaved client: it does what drivers do, again and again, times each request and checks all data.

use crate::client::{Buffer, Client};
use crate::figures::{Act, Figures, Place};
use crate::grant::Grant;
use crate::protocol::Request;
use crate::stage::Random;
use crate::xdma::{self, Channel, Direction};
use anyhow::{Context, bail, ensure};
use jitney_memory::EventFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const DATA: u64 = 256 << 10;
/// Between two rounds, so that the machine is not busy with the good client.
const REST: Duration = Duration::from_millis(2);

/// One client with one card.
struct Good {
    client: Client,
    grant: Grant,
    place: Place,
    card: u32,
    event: EventFd,
    ring: Buffer,
    out: Buffer,
    back: Buffer,
    random: Random,
}

impl Good {
    fn new(socket: &Path, place: Place, card: u32) -> anyhow::Result<Self> {
        let mut client = Client::welcome(socket, &format!("good on the {}", place.name()))?;
        let grant = Grant::negotiate(client.open(card)?)?;
        for channel in CHANNELS {
            client.lease(card, &channel.part(), &channel.will())?;
        }
        client.lease(card, "irq0", &[])?;
        let ring = client.allocate(card, 4096)?;
        let (out, back) = (client.allocate(card, DATA)?, client.allocate(card, DATA)?);
        Ok(Self {
            client,
            grant,
            place,
            card,
            event: EventFd::new()?,
            ring,
            out,
            back,
            random: Random::new(card.into()),
        })
    }

    /// Everything once.
    fn round(&mut self, figures: &mut Figures) -> anyhow::Result<()> {
        let card = self.card;
        let mut timed = |act: Act, good: &mut Self, what: fn(&mut Self, u32) -> anyhow::Result<()>| {
            let start = Instant::now();
            let outcome =
                what(good, card).with_context(|| format!("{} on the {}", act.name(), good.place.name()));
            figures.add(good.place, act, start.elapsed());
            outcome
        };
        timed(Act::Cards, self, |good, card| {
            let cards = good.client.cards()?;
            if cards.iter().any(|(id, _)| *id == card) { Ok(()) } else { bail!("its card is not there") }
        })?;
        // One answer: however many clients there are, it has so many of them at most.
        timed(Act::Usage, self, |good, _| good.client.users_after(None).map(drop))?;
        timed(Act::Lease, self, |good, card| {
            let lease = good.client.lease(card, "good", &[])?;
            good.client.done(&Request::Release { card, lease, will: false })
        })?;
        timed(Act::Allocate, self, |good, card| {
            let buffer = good.client.allocate(card, 64 << 10)?;
            good.client.done(&Request::Free { iova: buffer.iova })
        })?;
        timed(Act::Wire, self, |good, card| {
            good.client.wire(card, 0, &good.event)?;
            good.client.done(&Request::Silence { card, vector: 0 })
        })?;
        timed(Act::Register, self, |good, _| {
            let identifier = good.grant.read32(xdma::BAR, 0)?;
            if identifier >> 16 == 0x1fc0 { Ok(()) } else { bail!("the identifier is {identifier:#x}") }
        })?;
        let mut data = vec![0; usize::try_from(DATA)?];
        self.random.fill(&mut data);
        xdma::put(&self.out, 0, &data)?;
        timed(Act::Transfer, self, |good, _| {
            let [out, back] = CHANNELS;
            out.transfer(&mut good.grant, &good.ring, &good.out, 0)?;
            back.transfer(&mut good.grant, &good.ring, &good.back, 0)
        })?;
        if xdma::get(&self.back)? != data {
            bail!("DATA: what came back from the {} is not what was written", self.place.name());
        }
        Ok(())
    }
}

const CHANNELS: [Channel; 2] = [
    Channel { direction: Direction::HostToCard, number: 0 },
    Channel { direction: Direction::CardToHost, number: 0 },
];

/// How long a round may last before waiting for its end is given up.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// How many rounds of a client begin its life.
const FIRST_ROUNDS: u64 = 5;
/// How soon a good client that failed tries again as a new one.
const RETRY: Duration = Duration::from_millis(200);

/// What went wrong for a good client.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) place: Place,
    pub(crate) what: String,
}

#[derive(Debug, Default)]
struct Shared {
    paused: bool,
    ended: bool,
    /// How many clients wait for the pause's end.
    parked: usize,
    figures: Figures,
    rounds: u64,
    troubles: Vec<Trouble>,
}

#[derive(Debug, Default)]
struct Board {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The good clients, one for each card, each in a thread of its own.
#[derive(Debug)]
pub(crate) struct GoodClients {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

impl GoodClients {
    pub(crate) fn start(socket: &Path, same: u32, other: u32) -> anyhow::Result<Self> {
        let board = Arc::new(Board::default());
        let mut threads = Vec::new();
        for (place, card) in [(Place::Same, same), (Place::Other, other)] {
            let good =
                Good::new(socket, place, card).with_context(|| format!("the good client of card {card}"))?;
            let (board, socket) = (Arc::clone(&board), socket.to_path_buf());
            threads.push(std::thread::spawn(move || live(&board, good, &socket)));
        }
        Ok(Self { board, threads })
    }

    /// Waits until what is made once has been made: each has done a round, and most likely several.
    pub(crate) fn warm_up(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        let enough = FIRST_ROUNDS * self.threads.len() as u64;
        while self.board.lock().rounds < enough {
            ensure!(since.elapsed() < ROUND_LIMIT, "the good clients do not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Where one was much faster than the other, this waits for its round's end.
        self.pause().map(drop)
    }

    /// Lets them rest between two rounds, with nothing more than they always have, until what is returned is dropped.
    pub(crate) fn pause(&self) -> anyhow::Result<Pause<'_>> {
        let mut shared = self.board.lock();
        shared.paused = true;
        let pause = Pause(&self.board);
        let all = self.threads.len();
        let (shared, timeout) = self
            .board
            .changed
            .wait_timeout_while(shared, ROUND_LIMIT, |shared| shared.parked < all)
            .unwrap_or_else(PoisonError::into_inner);
        drop(shared);
        if timeout.timed_out() {
            bail!("a good client's round does not end")
        }
        Ok(pause)
    }

    /// What is measured in the `time` from now on. It counts with the rest all the same.
    pub(crate) fn watch(&self, time: Duration) -> Figures {
        let mark = self.board.lock().figures.mark();
        std::thread::sleep(time);
        self.board.lock().figures.since(&mark)
    }

    /// What was measured since the last time, how many rounds there were, and what went wrong.
    pub(crate) fn take(&self) -> (Figures, u64, Vec<Trouble>) {
        let mut shared = self.board.lock();
        let Shared { figures, rounds, troubles, .. } = &mut *shared;
        (std::mem::take(figures), std::mem::take(rounds), std::mem::take(troubles))
    }
}

impl Drop for GoodClients {
    fn drop(&mut self) {
        self.board.lock().ended = true;
        self.board.changed.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Ends a pause.
pub(crate) struct Pause<'a>(&'a Board);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.lock().paused = false;
        self.0.changed.notify_all();
    }
}

/// A good client's life. One that was let down is noted, and is followed by another one.
fn live(board: &Board, good: Good, socket: &Path) {
    let (place, card) = (good.place, good.card);
    let mut good = Some(good);
    loop {
        let mut shared = board.lock();
        if shared.paused && !shared.ended {
            shared.parked += 1;
            board.changed.notify_all();
            shared = board
                .changed
                .wait_while(shared, |shared| shared.paused && !shared.ended)
                .unwrap_or_else(PoisonError::into_inner);
            shared.parked -= 1;
        }
        if shared.ended {
            return;
        }
        drop(shared);
        let mut figures = Figures::default();
        let outcome = match good.as_mut() {
            Some(good) => good.round(&mut figures),
            None => Good::new(socket, place, card).map(|new| good = Some(new)),
        };
        let mut shared = board.lock();
        shared.figures.merge(figures);
        shared.rounds += 1;
        let failed = outcome.is_err();
        if let Err(error) = outcome {
            shared.troubles.push(Trouble { place, what: format!("{error:#}") });
            good = None;
        }
        drop(shared);
        std::thread::sleep(if failed { RETRY } else { REST });
    }
}
