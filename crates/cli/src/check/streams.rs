//! `jitney test streams`: all streams of a board at once, for as long as wanted, with every byte compared.

use super::joined::Joined;
use crate::args::{Dma, Selection, limit};
use crate::cards::Session;
use crate::channels;
use crate::report::Report;
use crate::signals::StopFlag;
use crate::size::{self, human};
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use jitney_boards::Board;
use jitney_pattern::Pattern;
use jitney_vfio::{Card, DmaBuffer, DmaRequest};
use jitney_xdma::{C2h, Direction, H2c, Pending, Xdma};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney test streams --emulate NiteFury_dma_stream_loopback
  jitney test streams --for 1h --every 10s --only 10ee:7024
  jitney test streams --one-way --for 1m --only 10ee:7024   # each by itself

Every pair of channels that can be joined at once carries packets with the test pattern; a line now and then says how fast each \
is. Ctrl-C ends it, with what there is so far.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Streams {
    #[command(flatten)]
    selection: Selection,
    /// For how long: 500ms, 10s, 5m, 1h.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = limit)]
    time: Duration,
    /// How often to say how fast it is.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = limit)]
    every: Duration,
    /// Each channel for itself: what is sent goes wherever it goes, and what comes is not compared.
    #[arg(long)]
    one_way: bool,
    /// Bytes of a packet, a multiple of 64 up to 4M.
    #[arg(long, value_name = "SIZE", default_value = "256K", value_parser = packet)]
    packet: u64,
    #[command(flatten)]
    dma: Dma,
}

fn packet(text: &str) -> Result<u64, String> {
    match size::parse_length(text)? {
        length if length.is_multiple_of(64) && length <= 4 << 20 => Ok(length),
        _ => Err("give a multiple of 64 bytes, at most 4M".into()),
    }
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    seconds: f64,
    streams: Vec<Carried>,
}

/// What a stream carried.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Carried {
    /// `h2c0 to c2h1`
    stream: String,
    bytes: u64,
    packets: u64,
    mb_per_s: f64,
    /// What went wrong; it ended the stream.
    failure: Option<String>,
}

pub(crate) fn streams(args: &Streams, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let stop = StopFlag::new()?;
    let session = Session::open(&args.selection)?;
    let has_streams = |board: &Board| board.design().dma.is_some_and(|dma| dma.has_streams());
    let targets = targets::find(&session, &args.selection, &report, has_streams)?;
    if targets.boards.is_empty() {
        return nothing_tested("board with streams", json);
    }
    let outcomes = targets.each(&mut report, |board, report| {
        report.line(format!("{} at {}", board.name(), board.card().identity()));
        let wish = Wish { time: args.time, every: args.every, one_way: args.one_way, packet: args.packet };
        let outcome = soak(board, args.dma, wish, &stop, report)?;
        for carried in &outcome.streams {
            let Carried { stream, bytes, packets, mb_per_s, failure } = carried;
            let end = failure.as_ref().map_or_else(String::new, |failure| format!(": FAILED: {failure}"));
            report.line(format!("{stream}: {} in {packets} packets, {mb_per_s:.1} MB/s{end}", human(*bytes)));
        }
        Ok(outcome)
    });
    report.finish(&outcomes)?;
    let failed = |one: &targets::OnBoard<Outcome>| {
        one.failed(|outcome| outcome.streams.iter().any(|carried| carried.failure.is_some()))
    };
    Ok(targets.status(outcomes.iter().any(failed)))
}

/// How to test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) time: Duration,
    pub(crate) every: Duration,
    pub(crate) one_way: bool,
    pub(crate) packet: u64,
}

/// As one check of several.
pub(crate) fn check(
    board: &Board,
    dma: Dma,
    time: Duration,
    report: &Report,
) -> anyhow::Result<super::verdict::Found> {
    use super::verdict::Found;
    let joined = Joined::of(board, &board.xdma()?)?;
    let one_way = !matches!(joined, Joined::Switched { .. } | Joined::Wired(_));
    // A switch is leased by who uses it.
    drop(joined);
    let wish = Wish { time, every: time, one_way, packet: 256 << 10 };
    let outcome = soak(board, dma, wish, &StopFlag::default(), &report.quiet())?;
    let failures: Vec<String> = outcome
        .streams
        .iter()
        .filter_map(|carried| Some(format!("{}: {}", carried.stream, carried.failure.as_ref()?)))
        .collect();
    if !failures.is_empty() {
        return Ok(Found::Bad(failures.join("; ")));
    }
    let rates: Vec<String> =
        outcome.streams.iter().map(|one| format!("{} {:.0} MB/s", one.stream, one.mb_per_s)).collect();
    Ok(Found::Good(format!("{} at once for {:.0} s", rates.join(", "), outcome.seconds)))
}

/// One stream, and how far it has come.
struct Stream {
    name: String,
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Stream {
    fn new(name: String) -> Self {
        Self { name, bytes: AtomicU64::new(0), packets: AtomicU64::new(0) }
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.packets.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a stream does until it is told to stop.
type Job<'a> = Box<dyn FnOnce(&AtomicBool) -> anyhow::Result<()> + Send + 'a>;

fn soak(board: &Board, dma: Dma, wish: Wish, stop: &StopFlag, report: &Report) -> anyhow::Result<Outcome> {
    let xdma = board.xdma()?;
    let joined = Joined::of(board, &xdma)?;
    let pairs = joined.at_once()?;
    let together = !wish.one_way && !matches!(joined, Joined::Apart { .. } | Joined::Crc64(_));
    if !wish.one_way && !together {
        bail!(
            "no stream of {} comes back as it was sent: --one-way tests each channel for itself",
            board.name()
        );
    }
    let streams: Vec<Stream> = match together {
        true => pairs.iter().map(|(from, to)| Stream::new(format!("h2c{from} to c2h{to}"))).collect(),
        false => lone(&xdma, &joined)
            .map(|(direction, index)| Stream::new(format!("{direction}{index}")))
            .collect(),
    };
    let card = &**board.card();
    // What is sent may be what is received: who receives goes on until nobody sends any more.
    let senders = &Senders::default();
    let mut jobs: Vec<Job<'_>> = Vec::new();
    if together {
        for ((from, to), stream) in pairs.iter().zip(&streams) {
            let h2c = channels::to_card(&xdma, Dma { channel: *from, ..dma })?;
            let c2h = channels::from_card(&xdma, Dma { channel: *to, ..dma })?;
            jobs.push(Box::new(move |over| there_and_back(card, &h2c, &c2h, wish.packet, stream, over)));
        }
    } else {
        for ((direction, index), stream) in lone(&xdma, &joined).zip(&streams) {
            let dma = Dma { channel: index, ..dma };
            jobs.push(match direction {
                Direction::HostToCard => {
                    let h2c = channels::to_card(&xdma, dma)?;
                    let sender = senders.one();
                    Box::new(move |over| {
                        let _sender = sender;
                        send(card, &h2c, wish.packet, stream, over)
                    })
                }
                Direction::CardToHost => {
                    let c2h = channels::from_card(&xdma, dma)?;
                    Box::new(move |over| {
                        let is_over = || over.load(Ordering::Relaxed) && senders.are_gone();
                        receive(card, &c2h, wish.packet, stream, is_over)
                    })
                }
            });
        }
    }
    let (ends, seconds) = watch(jobs, &streams, wish, stop, report);
    let streams = streams.iter().zip(ends).map(|(stream, end)| {
        let bytes = stream.bytes.load(Ordering::Relaxed);
        let packets = stream.packets.load(Ordering::Relaxed);
        let failure = match end {
            Err(error) => Some(format!("{error:#}")),
            Ok(()) if packets == 0 => Some("not one packet".into()),
            Ok(()) => None,
        };
        Carried { stream: stream.name.clone(), bytes, packets, mb_per_s: rate(bytes, seconds), failure }
    });
    Ok(Outcome { seconds, streams: streams.collect() })
}

/// Each channel that something comes from, or goes to, by itself.
fn lone<'a>(xdma: &'a Xdma, joined: &Joined) -> impl Iterator<Item = (Direction, u8)> + use<'a> {
    let silent = matches!(joined, Joined::Apart { comes: false });
    let ways = Direction::ALL.into_iter().filter(move |way| !silent || *way == Direction::HostToCard);
    ways.flat_map(|way| xdma.channels(way).iter().map(move |channel| (way, channel.index)))
}

/// Does all jobs at once until the time is over, somebody says stop, or all have ended; says how each ended, and after how many
/// seconds.
fn watch(
    jobs: Vec<Job<'_>>,
    streams: &[Stream],
    wish: Wish,
    stop: &StopFlag,
    report: &Report,
) -> (Vec<anyhow::Result<()>>, f64) {
    let (over, started) = (AtomicBool::new(false), Instant::now());
    let (ended, ends) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let over = &over;
        let threads: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let ended = ended.clone();
                scope.spawn(move || {
                    let end = job(over);
                    // The other end waits for as long as there are threads.
                    let _ = ended.send(());
                    end
                })
            })
            .collect();
        let (mut running, mut said, mut last) = (threads.len(), started, vec![0; streams.len()]);
        // Each carries a packet at least, however short the time, if it can.
        let silent = || streams.iter().any(|stream| stream.packets.load(Ordering::Relaxed) == 0);
        let is_time = || match started.elapsed() {
            elapsed if elapsed < wish.time => true,
            elapsed => silent() && elapsed < wish.time + FIRST_PACKET,
        };
        while running > 0 && is_time() && !stop.is_set() {
            match ends.recv_timeout(Duration::from_millis(50)) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => running -= 1,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if said.elapsed() >= wish.every && started.elapsed() < wish.time {
                let since = said.elapsed().as_secs_f64();
                let rates: Vec<String> = streams
                    .iter()
                    .zip(&mut last)
                    .map(|(stream, last)| {
                        let bytes = stream.bytes.load(Ordering::Relaxed);
                        let moved = bytes - std::mem::replace(last, bytes);
                        format!("{} {:.1} MB/s", stream.name, rate(moved, since))
                    })
                    .collect();
                report.line(format!("{:7.1} s  {}", started.elapsed().as_secs_f64(), rates.join("  ")));
                said = Instant::now();
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the test panicked")))
        };
        (threads.into_iter().map(join).collect(), seconds)
    })
}

fn rate(bytes: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    let bytes = bytes as f64;
    bytes / 1e6 / seconds.max(f64::MIN_POSITIVE)
}

/// Packets that are under way at once.
const DEPTH: u64 = 8;
/// How much longer than wanted it is waited for the first packet.
const FIRST_PACKET: Duration = Duration::from_secs(2);
/// How long a packet may take that is on its way: the channel's own limit says it first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A ring of buffers of a packet's size.
fn ring(card: &dyn Card, top: u64, packet: u64) -> anyhow::Result<VecDeque<DmaBuffer>> {
    let request = DmaRequest::new(packet).below(top);
    Ok((0..DEPTH).map(|_| card.dma_buffer(request)).collect::<Result<_, _>>()?)
}

/// Sends the pattern in packets, and compares what comes.
fn there_and_back(
    card: &dyn Card,
    h2c: &H2c,
    c2h: &C2h,
    packet: u64,
    stream: &Stream,
    over: &AtomicBool,
) -> anyhow::Result<()> {
    let mut sources = ring(card, h2c.limits().top(), packet)?;
    let mut targets = ring(card, c2h.limits().top(), packet)?;
    let (mut sent, mut expected) = (Pattern::starting_at(0), Pattern::starting_at(0));
    let mut under_way: VecDeque<(Pending, DmaBuffer, Pending, DmaBuffer)> = VecDeque::new();
    loop {
        while !over.load(Ordering::Relaxed) {
            let (Some(source), Some(target)) = (sources.pop_front(), targets.pop_front()) else { break };
            sent.fill(source.view(), 0, packet)?;
            let armed = c2h.receive(&target, 0..packet)?;
            let sending = h2c.submit(&source, 0..packet, 0)?;
            under_way.push_back((sending, source, armed, target));
        }
        let Some((sending, source, armed, target)) = under_way.pop_front() else { return Ok(()) };
        let number = stream.packets.load(Ordering::Relaxed);
        sending.wait().with_context(|| format!("packet {number}, sent"))?;
        let Some(done) = armed.wait_for(PATIENCE)? else {
            bail!("packet {number} was sent and did not come")
        };
        if done.bytes != packet || !done.ends_packet {
            bail!(
                "packet {number} came as {} bytes{}",
                done.bytes,
                if done.ends_packet { "" } else { " without its end" }
            );
        }
        if let Some(mismatch) = expected.compare(target.view(), 0, packet)? {
            bail!("packet {number}: {mismatch}");
        }
        stream.add(packet);
        sources.push_back(source);
        targets.push_back(target);
    }
}

/// Sends packets wherever they go.
fn send(card: &dyn Card, h2c: &H2c, packet: u64, stream: &Stream, over: &AtomicBool) -> anyhow::Result<()> {
    let sources = ring(card, h2c.limits().top(), packet)?;
    let mut under_way: VecDeque<Pending> = VecDeque::new();
    for source in sources.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            break;
        }
        if under_way.len() == sources.len() {
            let Some(oldest) = under_way.pop_front() else { break };
            oldest.wait()?;
            stream.add(packet);
        }
        under_way.push_back(h2c.submit(source, 0..packet, 0)?);
    }
    under_way.into_iter().try_for_each(|last| {
        last.wait()?;
        stream.add(packet);
        Ok(())
    })
}

/// How many still send.
#[derive(Default)]
struct Senders(AtomicUsize);

/// One of them, until it is dropped.
struct Sender<'a>(&'a Senders);

impl Senders {
    fn one(&self) -> Sender<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Sender(self)
    }

    fn are_gone(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Receives whatever comes.
fn receive(
    card: &dyn Card,
    c2h: &C2h,
    packet: u64,
    stream: &Stream,
    is_over: impl Fn() -> bool,
) -> anyhow::Result<()> {
    let targets = ring(card, c2h.limits().top(), packet)?;
    let mut under_way: VecDeque<Pending> = VecDeque::new();
    for target in targets.iter().cycle() {
        if under_way.len() == targets.len() {
            let Some(oldest) = under_way.front() else { break };
            let done = loop {
                if is_over() {
                    return Ok(c2h.cancel_all()?);
                }
                if let Some(done) = oldest.wait_for(Duration::from_millis(50))? {
                    break done;
                }
            };
            under_way.pop_front();
            stream.add(done.bytes);
        }
        under_way.push_back(c2h.receive(target, 0..packet)?);
    }
    Ok(())
}
