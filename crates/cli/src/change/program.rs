//! `jitney program`: a bitstream into a board's FPGA, through a programmer's tool, without pulling a card from under anybody.

mod tool;

use crate::args::{OneCard, Source};
use crate::boards::catalogue;
use crate::cards::{Session, is_gone, known_board};
use crate::contract::CardName;
use crate::flash::image::Image;
use crate::report::Report;
use crate::signals::StopFlag;
use crate::status::Status;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use jitney_boards::Catalogue;
use jitney_pci::Address;
use jitney_setup::{Replug, Root};
use jitney_vfio::{Card, CardAddress, ErrorKind, Lease, LeaseRequest, Notices, Part};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tool::Tool;

const HELP: &str = "\
Examples:
  sudo jitney program 0000:2e:00.0 top.bit
  sudo jitney program 0000:2e:00.0 top.bit --tool 'openFPGALoader -c digilent_hs2 {file}'
  jitney program 10ee:7011 top.bit --emulate nitefury --tool 'echo {file}' --dry-run

The card is taken off its bus before, so that no program has it and the kernel does not miss it, and is looked for afterwards, also \
if the tool fails; one that vfio-pci had goes there again. That needs root. It is refused while another program of the same \
broker has a part of the card; one that only has it open is told to let go. A broker does not open a card anew that was away: \
start it again. An emulated board stays, and is reset. Where the boards file names a cable or a board for openFPGALoader, it is \
told.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Program {
    #[command(flatten)]
    card: OneCard,
    /// The bitstream: a .bit, or a .bin.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The command that loads it, in whose words {file} stands for the file; without it, openFPGALoader.
    #[arg(long, value_name = "COMMAND")]
    tool: Option<Tool>,
    /// Load it also if it is no bitstream for this board's FPGA.
    #[arg(long)]
    force: bool,
    /// Check all that can be checked, say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What was loaded.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    /// The card, with the ids that it has now.
    #[serde(flatten)]
    card: CardName,
    file: String,
    /// The command, as a shell would be given it.
    tool: String,
    /// The board that it was, if it was a known one.
    before: Option<String>,
    /// The board that it is now; nothing if it is none that is known, and with `--dry-run`.
    board: Option<String>,
    /// Whether the card was taken off its bus; else it is an emulated one.
    removed: bool,
    /// How long the tool took.
    seconds: Option<f64>,
}

/// How long a card may take until it is there again: an FPGA is configured by now, its link has to be trained.
const BACK: Duration = Duration::from_secs(10);
/// How long the kernel may take to say that it wants a card back.
const NOTICE: Duration = Duration::from_secs(2);
/// How often it is said for whom it is waited.
const REMINDER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A card that this process has for itself. In this order: what is leased goes before the card, and that before its session.
#[derive(Debug)]
struct Held {
    whole: Lease,
    card: Arc<dyn Card>,
    session: Session,
}

pub(crate) fn program(args: &Program, json: bool) -> anyhow::Result<Status> {
    let image = Image::open(&args.file)?;
    let (session, card) = Session::open_card(&args.card)?;
    let catalogue = catalogue(&args.card.source.emulate)?;
    let identity = card.identity().clone();
    let board = known_board(&catalogue, &card)?;
    if !args.force {
        image.must_be_for(board.as_ref(), "nothing was loaded (--force loads it)")?;
    }
    let programmer = board.as_ref().and_then(|board| board.design().programmer.as_ref());
    let command = match &args.tool {
        Some(tool) => tool.clone(),
        None => Tool::usual(programmer),
    };
    let command = command.command(&args.file)?;
    let place = match identity.address.parse() {
        Ok(CardAddress::Pci(address)) => Some(address),
        _ => None,
    };
    let replug = place.map(|address| Replug::prepare(&Root::default(), address)).transpose()?;
    let before = board.map(|board| board.name().to_owned());
    let report = Report::new(json);
    let mut outcome = Outcome {
        card: CardName::from(&identity),
        file: image.name.clone(),
        tool: command.to_string(),
        before,
        board: None,
        removed: replug.is_some(),
        seconds: None,
    };
    if args.dry_run {
        report.line(match replug {
            Some(_) => format!("{identity} would be taken off its bus, and looked for after: {command}"),
            None => format!("{identity} would be reset after: {command}"),
        });
        report.finish(&outcome)?;
        return Ok(Status::Passed);
    }

    let whole = card.lease(LeaseRequest::exclusive(Part::whole()))?;
    let held = Held { whole, card, session };
    // Whoever is told to stop now still brings the card back.
    let _stop = StopFlag::new()?;
    let card = match replug.zip(place) {
        Some((replug, address)) => {
            let shared = held.session.bus.broker().is_some();
            take_away(&replug, held, &report)?;
            report.line(format!("{identity} is off its bus; running: {command}"));
            let ran = command.run();
            report.line(format!("looking for it again, up to {} s", BACK.as_secs()));
            let back = replug.back(BACK).map_err(anyhow::Error::from);
            outcome.seconds = Some(both(ran, back, "the card is back")?.as_secs_f64());
            let again = open_again(&args.card, address, shared, &report)?;
            what_it_is(&catalogue, &again.1, &mut outcome)?
        }
        None => {
            report.line(format!("running: {command}"));
            let ran = command.run();
            let Held { whole, card, session: _session } = held;
            // A reset takes the lease itself.
            drop(whole);
            let back = card.reset().map_err(anyhow::Error::from);
            outcome.seconds = Some(both(ran, back, "the board was reset")?.as_secs_f64());
            what_it_is(&catalogue, &card, &mut outcome)?
        }
    };
    report.line(format!(
        "{} is loaded; {card} is {}",
        image.name,
        outcome.board.as_deref().unwrap_or("no board that is known, and answers")
    ));
    report.finish(&outcome)?;
    Ok(Status::Passed)
}

/// What the tool came to, once it is known what became of the card: neither failure hides the other.
fn both(ran: anyhow::Result<Duration>, back: anyhow::Result<()>, well: &str) -> anyhow::Result<Duration> {
    match (ran, back) {
        (ran, Ok(())) => ran.map_err(|error| anyhow!("{error:#}; {well}")),
        (Ok(_), Err(lost)) => Err(lost.context("the tool has loaded the file, but")),
        (Err(error), Err(lost)) => Err(anyhow!("{error:#}; and {lost:#}")),
    }
}

/// Has the kernel take a card away that this process has for itself. It is let go of once the kernel has asked for it: from
/// then on a broker gives it to nobody.
fn take_away(replug: &Replug, held: Held, report: &Report) -> anyhow::Result<()> {
    std::thread::scope(move |scope| {
        let removing = scope.spawn(|| replug.remove());
        let Held { whole, card, session } = held;
        let identity = card.identity().clone();
        let started = Instant::now();
        let is_wanted = |notices: &Notices| !matches!(notices.look(), Ok(None));
        if let Ok(notices) = card.notices() {
            while !removing.is_finished() && !is_wanted(&notices) && started.elapsed() < NOTICE {
                sleep(PAUSE);
            }
        }
        drop((whole, card, session));
        let mut told = Instant::now();
        while !removing.is_finished() {
            if told.elapsed() > REMINDER {
                told = Instant::now();
                report.complain(format!(
                    "{identity} is still open in another program, which has to let go of it: jitney who says in which"
                ));
            }
            sleep(PAUSE);
        }
        match removing.join() {
            Ok(removed) => Ok(removed?),
            Err(_) => bail!("{identity} could not be taken off its bus"),
        }
    })
}

/// The card at `address` once more: of the broker if that has it, else of this process.
fn open_again(
    wanted: &OneCard,
    address: Address,
    shared: bool,
    report: &Report,
) -> anyhow::Result<(Session, Arc<dyn Card>)> {
    // Its ids may be others now.
    let wanted = OneCard { named: address.to_string(), ..wanted.clone() };
    match Session::open_card(&wanted) {
        Err(error) if shared && is_missing(&error) => {
            report.complain(format!("the broker does not open {address} anew: start it again"));
            let card = vec![CardAddress::Pci(address)];
            let source = Source { card, ..wanted.source };
            Ok(Session::open_card(&OneCard { source, broker: Default::default(), named: wanted.named })?)
        }
        opened => opened.with_context(|| format!("{address} is back, but cannot be opened")),
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<jitney_vfio::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

/// Looks at what a card is now, which shows that it answers.
fn what_it_is(
    catalogue: &Catalogue,
    card: &Arc<dyn Card>,
    outcome: &mut Outcome,
) -> anyhow::Result<jitney_vfio::Identity> {
    let identity = card.identity().clone();
    let board = known_board(catalogue, card).map_err(|error| match error.downcast_ref() {
        Some(gone) if is_gone(gone) => error.context(format!("{identity} is back, but does not answer")),
        _ => error,
    })?;
    outcome.board = board.map(|board| board.name().to_owned());
    outcome.card = CardName::from(&identity);
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_hides_the_other() {
        let said = |ran: Result<(), &'static str>, back: Result<(), &'static str>| {
            let ran = ran.map(|()| Duration::ZERO).map_err(|why| anyhow!(why));
            let both = both(ran, back.map_err(|why| anyhow!(why)), "the card is back");
            both.map_err(|error| format!("{error:#}"))
        };
        assert_eq!(said(Ok(()), Ok(())), Ok(Duration::ZERO));
        assert_eq!(said(Err("no cable"), Ok(())), Err("no cable; the card is back".into()));
        assert_eq!(said(Ok(()), Err("gone")), Err("the tool has loaded the file, but: gone".into()));
        assert_eq!(said(Err("no cable"), Err("gone")), Err("no cable; and gone".into()));
    }
}
