//! `jitney xdma-compat`: a program that was written for the XDMA driver's character devices runs as it is.

mod library;
mod program;

use super::broker::open;
use super::in_place::InPlace;
use super::programs::{End, Ended, spoken};
use super::witness::Witness;
use crate::args::{self, Client, Source};
use crate::boards;
use crate::cards::{card_of, is_gone};
use crate::contract::CardName;
use crate::emulated::EmulatedBoards;
use crate::errno::explained;
use crate::report::{print_event, print_line, print_result};
use crate::say::say;
use crate::status::{Misuse, Status};
use anyhow::Context;
use clap::Args;
use jitney_boards::Catalogue;
use jitney_broker::{Broker, Bus, BusOptions, RuntimeFolder, StopHandle};
use jitney_vfio::{Card, Error, ErrorKind, OpenedSpace};
use jitney_xdma::{Direction, Xdma};
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney xdma-compat --emulate nitefury -- dma_to_device -d /dev/xdma0_h2c_0 -a 0x1000 -s 4096 -f in.bin
  jitney xdma-compat --card 0000:2e:00.0 -- ./run_test.sh       # and whatever it starts
  jitney xdma-compat -- reg_rw /dev/xdma0_user 0 w              # on the cards of the broker that runs, else on all there are
  jitney xdma-compat --xdma 0000:2e:00.0 --xdma 0000:15:00.0 -- ./two_cards   # which is xdma0, which xdma1
  jitney xdma-compat --emulate nitefury                         # which devices there are

The program finds /dev/xdma0_h2c_0, _c2h_0, _user, _control, _bypass and _events_0 as the driver makes them, without the driver and without \
a file in /dev: a library that is loaded into it answers. So it must be dynamically linked with glibc. Several such programs, and programs \
of jitney's, share cards under one broker. What the devices do and what cannot be kept: docs/xdma-compat.md. The exit status is the program's.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct XdmaCompat {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    broker: Client,
    /// This card is /dev/xdma0, the next one that is named so /dev/xdma1: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER. Without it those with an
    /// XDMA are numbered as they come.
    #[arg(long, value_name = "CARD")]
    xdma: Vec<String>,
    /// How long a transfer may be without progress until it fails (500ms, 10s, 1h, forever), as the driver's h2c_timeout and c2h_timeout.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Timeout,
    /// A transfer moves the descriptor's position on, as a file's, so that dd and cat can move more than one block. The driver's does not.
    #[arg(long)]
    advance: bool,
    /// The library to load into the program, if it is not where it is installed or built.
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// The program and its arguments; without one it is said which devices there are.
    #[arg(last = true, value_name = "PROGRAM ARGS")]
    program: Vec<OsString>,
}

/// How long a transfer may be without progress; none for ever.
#[derive(Debug, Clone, Copy)]
struct Timeout(Option<Duration>);

fn timeout(text: &str) -> Result<Timeout, String> {
    match text {
        "forever" => Ok(Timeout(None)),
        text => args::limit(text).map(|time| Timeout(Some(time))),
    }
}

/// What happens before the program runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// The devices that the program will find.
    Devices { cards: &'a [Numbered] },
}

/// A card by its number.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Numbered {
    /// As it is in paths: `xdma0`.
    name: String,
    #[serde(flatten)]
    card: CardName,
    /// Channels to the card, and whether they are streams.
    h2c: Vec<Channel>,
    /// Channels from the card, likewise.
    c2h: Vec<Channel>,
}

/// A channel.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Channel {
    /// The path by which a program opens it.
    path: String,
    /// Whether it is an AXI4-Stream, not memory-mapped.
    stream: bool,
}

/// What came of the program; the devices, if there was none.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    ended: Option<Ended>,
    cards: Vec<Numbered>,
}

pub(crate) fn xdma_compat(args: &XdmaCompat, json: bool) -> anyhow::Result<Status> {
    let library = library::find(args.library.as_deref())?;
    if let Some(name) = args.program.first()
        && let Err(why) = program::can_be_preloaded(name)
    {
        return Err(Misuse(why).into());
    }
    let Some(owner) = Owner::join_or_start(args)? else {
        say!("jitney: there is no card to use; name one with --card or --emulate");
        if json {
            print_result(&Outcome { ended: None, cards: Vec::new() })?;
        }
        return Ok(Status::NothingTested);
    };
    // As long as the program runs, or several one after the other: the card is not reset in between, as it is not with a driver.
    let catalogue = boards::named_files(&args.source.emulate)?;
    let cards = numbered(&owner.bus, catalogue.as_ref(), &args.xdma)?;
    if cards.is_empty() {
        let what = "no card of the broker's has an XDMA";
        return Err(Error::new(ErrorKind::NotFound, what).with_remedy("jitney list shows the cards").into());
    }
    let described: Vec<Numbered> =
        cards.iter().enumerate().map(|(number, (_, xdma))| describe(number, xdma)).collect();
    if args.program.is_empty() {
        match json {
            true => print_result(&Outcome { ended: None, cards: described })?,
            false => described.iter().for_each(say),
        }
        return Ok(Status::Passed);
    }
    if json {
        print_event(&Event::Devices { cards: &described })?;
    }
    let mut command = Command::new(&args.program[0]);
    command.args(&args.program[1..]).env("LD_PRELOAD", library::preload(&library)?);
    let addresses: Vec<&str> = cards.iter().map(|(card, _)| card.identity().address.as_str()).collect();
    command.env("JITNEY_XDMA_CARDS", addresses.join("\n"));
    let milliseconds = args.timeout.0.map_or(0, |time| time.as_millis().max(1));
    command.env("JITNEY_XDMA_TIMEOUT", milliseconds.to_string());
    command.env("JITNEY_XDMA_ADVANCE", if args.advance { "1" } else { "0" });
    if let Some(path) = &owner.path {
        command.env(jitney_broker::BROKER_VARIABLE, path);
    }
    if let Some(wait) = args.broker.wait {
        let seconds =
            if wait == Duration::MAX { "forever".into() } else { wait.as_secs().max(1).to_string() };
        command.env(jitney_broker::WAIT_VARIABLE, seconds);
    }
    if let Some(files) = boards::variable(&args.source.emulate)? {
        command.env(boards::VARIABLE, files);
    }
    let (ended, status) = run(command, spoken(&args.program))?;
    drop(cards);
    owner.stop()?;
    if json {
        print_result(&Outcome { ended: Some(ended), cards: described })?;
    }
    Ok(status)
}

/// The cards that were named, in that order; else those that have an XDMA.
fn numbered(
    bus: &Bus,
    catalogue: Option<&Catalogue>,
    named: &[String],
) -> anyhow::Result<Vec<(Arc<dyn Card>, Xdma)>> {
    let identify = |card: Arc<dyn Card>| -> anyhow::Result<Option<(Arc<dyn Card>, Xdma)>> {
        let Some(bar) = Xdma::find(&*card)? else { return Ok(None) };
        let xdma = Xdma::identify(Arc::clone(&card), bar)?;
        Ok(Some((card, xdma)))
    };
    let mut cards = Vec::new();
    if named.is_empty() {
        for card in bus.cards() {
            match bus.card(&card.address).map_err(anyhow::Error::from).and_then(&identify) {
                Ok(found) => cards.extend(found),
                // One that is dead does not keep anybody from using the others.
                Err(error) if is_dead(&error) => say!("jitney: card {card} is left out: {error:#}"),
                Err(error) => return Err(error),
            }
        }
        return Ok(cards);
    }
    for selector in named {
        let card = card_of(bus, catalogue, selector)?;
        let name = card.identity().to_string();
        if cards.iter().any(|(other, _): &(Arc<dyn Card>, Xdma)| other.identity() == card.identity()) {
            return Err(Misuse(format!("--xdma {selector}: {name} has a number already")).into());
        }
        let none = || Misuse(format!("--xdma {selector}: {name} has no XDMA"));
        cards.push(identify(card)?.ok_or_else(none)?);
    }
    Ok(cards)
}

fn is_dead(error: &anyhow::Error) -> bool {
    let by_engine = matches!(error.downcast_ref(), Some(jitney_xdma::Error::LinkDown(_)));
    by_engine || error.downcast_ref().is_some_and(is_gone)
}

fn describe(number: usize, xdma: &Xdma) -> Numbered {
    let name = format!("xdma{number}");
    let channels = |direction| {
        let channel = |info: &jitney_xdma::ChannelInfo| Channel {
            path: format!("/dev/{name}_{}_{}", info.direction, info.index),
            stream: info.stream,
        };
        xdma.channels(direction).iter().map(channel).collect()
    };
    let (h2c, c2h) = (channels(Direction::HostToCard), channels(Direction::CardToHost));
    Numbered { card: CardName::of(&**xdma.card()), h2c, c2h, name }
}

fn say(card: &Numbered) {
    print_line(&format!("{}: card {} ({})", card.name, card.card.card, card.card.id));
    for channel in card.h2c.iter().chain(&card.c2h) {
        let kind = if channel.stream { "a stream" } else { "memory-mapped" };
        print_line(&format!("  {}: {kind}", channel.path));
    }
}

/// Who owns the cards: a broker that was there, or one that this process is as long as the program runs.
struct Owner {
    // In this order: cards are let go of before their owner ends.
    bus: Bus,
    /// Where the program finds it, if it does not find it as this process did.
    path: Option<PathBuf>,
    own: Option<OwnBroker>,
}

struct OwnBroker {
    stop: StopHandle,
    serving: JoinHandle<jitney_vfio::Result<jitney_broker::End>>,
    folder: Folder,
    _boards: EmulatedBoards,
}

/// A folder for one socket, which goes with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It stays if something else was put there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Owner {
    /// The broker that is named or found, unless cards are named; else one of this process's own. Nothing if it would have no card.
    fn join_or_start(args: &XdmaCompat) -> anyhow::Result<Option<Self>> {
        if args.source.card.is_empty() && args.source.emulate.is_empty() {
            let options = args.broker.socket.iter().fold(Bus::options(), BusOptions::broker);
            match options.open_shared() {
                Ok(bus) => {
                    let path = args.broker.socket.as_deref().map(std::path::absolute).transpose()?;
                    return Ok(Some(Self { bus, path, own: None }));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && args.broker.socket.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let boards = EmulatedBoards::start(&args.source.emulate)?;
        let spaces = open(&args.source, &boards)?;
        if spaces.is_empty() { Ok(None) } else { Self::start(spaces, boards).map(Some) }
    }

    /// A socket with a path, not an inherited one: programs start others that close what they do not know.
    fn start(spaces: Vec<OpenedSpace>, boards: EmulatedBoards) -> anyhow::Result<Self> {
        let runtime = RuntimeFolder::of_this_user()?;
        let folder = Folder(runtime.make()?.join(format!("xdma-compat-{}", std::process::id())));
        make_private(&folder.0)?;
        let path = folder.0.join("broker.sock");
        let mut broker = Broker::new(spaces)?;
        broker.listen(&path, 0o600)?;
        let stop = broker.stop_handle();
        let serving = std::thread::Builder::new().name("broker".into()).spawn(move || broker.run())?;
        let bus = Bus::options().broker(&path).open()?;
        Ok(Self { bus, path: Some(path), own: Some(OwnBroker { stop, serving, folder, _boards: boards }) })
    }

    fn stop(self) -> anyhow::Result<()> {
        drop(self.bus);
        if let Some(own) = self.own {
            own.stop.stop()?;
            own.serving.join().ok().context("the broker's thread panicked")??;
            drop(own.folder);
        }
        Ok(())
    }
}

fn make_private(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        // Of a process that had this one's number and was killed; the folder around it is this user's alone.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.with_context(|| format!("cannot make {}", folder.display())),
    }
}

/// Runs a program to its end, with this process's files.
fn run(mut command: Command, words: String) -> anyhow::Result<(Ended, Status)> {
    let began = Instant::now();
    let (program, mut child) = match InPlace::start(&mut command, Witness::start()?) {
        Ok(started) => started,
        Err(error) => {
            let why = format!("{}: {}", command.get_program().display(), explained(&error));
            say!("jitney: {why}");
            // As shells say it.
            let status = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            let ended = Ended::named(words, None, began.elapsed(), End::NotStarted { why });
            return Ok((ended, Status::OfProgram(status)));
        }
    };
    let pid = child.id();
    program.pass_signals_on()?;
    let status = program.wait(&mut child).context("the program cannot be waited for")?;
    let end = End::of(status);
    let status = end.of_program();
    Ok((Ended::named(words, Some(pid), began.elapsed(), end), status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_time_or_for_ever() {
        assert_eq!(timeout("500ms").unwrap().0, Some(Duration::from_millis(500)));
        assert_eq!(timeout("forever").unwrap().0, None);
        assert!(timeout("soon").is_err() && timeout("0").is_err());
    }
}
