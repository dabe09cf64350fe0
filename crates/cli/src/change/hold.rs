//! `jitney hold`: a card stays as it is.

use crate::args::{Client, Source};
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::{print_event, print_line};
use crate::say::say;
use crate::signals;
use crate::status::Status;
use clap::Args;
use jitney_vfio::{Card, Notice, Notices};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const HELP: &str = "\
Example:
  jitney broker --card 0000:2e:00.0 &
  jitney hold 10ee:7024 &
  jitney route 10ee:7024 h2c0:c2h1      # stays, as nothing is reset
  jitney capture 10ee:7024 --channel c2h1 --to samples.bin

A broker resets a card when its last program has gone; while this one is there, it does not: registers, routes and links stay as \
they were left. It takes no lease, so that other programs can use all of the card. A card that is being \
unplugged is let go of. Ctrl-C ends it.";

/// How soon a card is let go of that is wanted back.
const PAUSE: Duration = Duration::from_millis(50);
/// How soon it is said that the broker is gone.
const PACE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Hold {
    /// Which cards: each by its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER.
    #[arg(value_name = "CARD", required = true)]
    cards: Vec<String>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    broker: Client,
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The cards stay as they are from now on.
    Holding { cards: Vec<CardName> },
}

pub(crate) fn hold(args: &Hold, json: bool) -> anyhow::Result<Status> {
    let (told, stop) = channel();
    signals::on_stop(move |_| {
        // Who is told twice has been told.
        let _ = told.send(());
    })?;
    let (session, cards) = Session::open_cards(&args.source, &args.broker, &args.cards)?;
    let alone = session.bus.broker().is_none();
    if json {
        print_event(&Event::Holding { cards: cards.iter().map(|card| CardName::of(&**card)).collect() })?;
    } else {
        cards.iter().for_each(|card| print_line(&format!("holding {}", card.identity())));
    }
    if alone {
        say!(
            "jitney: no broker has them, so no other program can use them while they are held: start `jitney broker` first"
        );
    }
    let mut held = cards
        .into_iter()
        .map(|card| Ok((card.notices()?, card)))
        .collect::<anyhow::Result<Vec<(Notices, Arc<dyn Card>)>>>()?;
    let mut asked = Instant::now();
    // The other end is there for as long as this process.
    while stop.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        // Without its broker nothing is held any more.
        if !alone && asked.elapsed() >= PACE {
            session.bus.usage()?;
            asked = Instant::now();
        }
        let mut gone = Vec::new();
        held.retain(|(notices, card)| match notices.look() {
            Ok(Some(Notice::Leaving)) => {
                gone.push(Notice::Leaving.explain(card.identity()));
                false
            }
            _ => true,
        });
        gone.iter().for_each(|error| say!("jitney: {error}"));
        // Where no broker has them, they are open for as long as this process.
        if held.is_empty() || (alone && !gone.is_empty()) {
            return Ok(Status::Failed);
        }
    }
    Ok(Status::Passed)
}
