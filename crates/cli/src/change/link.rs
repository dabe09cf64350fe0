//! `jitney link`: a card's PCIe link, and training it at another speed.

use crate::args::OneCard;
use crate::card_link;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::Report;
use crate::status::{Misuse, Status};
use anyhow::bail;
use clap::Args;
use jitney_pci::express::{LinkEnd, LinkSpeed};
use jitney_pci::{Address, Link};
use jitney_setup::{Error, Port, Root, port_above, retrain};
use jitney_vfio::{Card, CardAddress, LeaseRequest, Part};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Instant;

const HELP: &str = "\
Examples:
  jitney link 10ee:7011
  sudo jitney link 0000:2e:00.0 --speed gen1      # to see whether a riser is at fault
  sudo jitney link 0000:2e:00.0 --speed gen3

The port above the card trains the link, at the speed that is given or below, and keeps to it until it is told another one or the \
machine starts anew. It is refused while another program of the same broker has a part of the card. A link that comes up slower \
than asked for is exit status 1; one that does not come up gets its old speed back.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct LinkArgs {
    #[command(flatten)]
    card: OneCard,
    /// Have the port above train the link at this speed at most, gen1 to gen6. Needs root.
    #[arg(long, value_name = "SPEED")]
    speed: Option<LinkSpeed>,
}

/// The link of a card.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    /// What it runs at, as `5 GT/s x4`.
    now: String,
    /// The best that the card can.
    best: String,
    packets: Packets,
    /// The port above the card; none above an emulated board.
    port: Option<PortFacts>,
    /// With `--speed`.
    trained: Option<Trained>,
}

/// How large packets are that one end of a link sends, in bytes.
#[derive(Debug, Serialize, JsonSchema)]
struct Packets {
    /// Data in a packet, at most.
    payload: u32,
    /// Data that a packet could have.
    largest_payload: u32,
    /// What a read request asks for, at most.
    read_request: u32,
}

/// The port above a card.
#[derive(Debug, Serialize, JsonSchema)]
struct PortFacts {
    address: String,
    /// What the link runs at.
    now: String,
    /// The best that the port can.
    best: String,
    /// The speed that it trains the link to at most, as `8 GT/s`; nothing to who is not root.
    target: Option<String>,
    /// Nothing to who is not root.
    packets: Option<Packets>,
}

/// What training the link came to.
#[derive(Debug, Serialize, JsonSchema)]
struct Trained {
    /// The speed that was asked for.
    wanted: String,
    /// What the link ran at before.
    before: String,
    seconds: f64,
    /// Whether it has the speed that was asked for.
    reached: bool,
}

impl From<&LinkEnd> for Packets {
    fn from(end: &LinkEnd) -> Self {
        Self { payload: end.payload, largest_payload: end.largest_payload, read_request: end.read_request }
    }
}

impl From<&Port> for PortFacts {
    fn from(port: &Port) -> Self {
        Self {
            address: port.address.to_string(),
            now: port.now.to_string(),
            best: port.best.to_string(),
            target: port.end.map(|end| end.target.to_string()),
            packets: port.end.as_ref().map(Packets::from),
        }
    }
}

pub(crate) fn link(args: &LinkArgs, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    let report = Report::new(json);
    let identity = card.identity();
    let before = own(&*card)?;
    let place = match identity.address.parse() {
        Ok(CardAddress::Pci(address)) => Some(address),
        _ => None,
    };
    let root = Root::default();
    let trained = match (args.speed, place) {
        (None, _) => None,
        (Some(_), None) => {
            let why = "is an emulated board: there is no port above it that could train its link";
            return Err(Misuse(format!("{identity} {why}")).into());
        }
        (Some(speed), Some(address)) => {
            // Nothing reaches the card meanwhile.
            let _all = card.lease(LeaseRequest::exclusive(Part::whole()))?;
            Some(train(&root, address, speed, before.now)?)
        }
    };
    let end = own(&*card)?;
    let port = place.map(|address| port_above(&root, address)).transpose()?.flatten();

    report.line(format!("{identity}: {} of {}", end.now, end.best));
    report.line(format!("  {}", packets(&end)));
    match (&port, place) {
        (Some(port), _) => {
            report.line(format!("port {}: {} of {}", port.address, port.now, port.best));
            report.line(match &port.end {
                Some(end) => format!("  told to train at {} at most; {}", end.target, packets(end)),
                None => {
                    "  what it is told, and its packets, root sees: put sudo in front of the command".into()
                }
            });
        }
        (None, Some(_)) => report.line("there is no port above it: it is on a root bus"),
        (None, None) => report.line("there is no port above it: it is an emulated board"),
    }
    let reached = trained.as_ref().is_none_or(|trained| trained.reached);
    if let Some(Trained { wanted, before, seconds, .. }) = &trained {
        let now = end.now;
        // Some ports have no register for it.
        let told = port.as_ref().and_then(|port| port.end).map(|end| end.target.to_string());
        report.line(match reached {
            true => format!("it was {before}, and was trained at {wanted} within {seconds:.3} s"),
            false if told.as_ref() != Some(wanted) => {
                format!("it was {before}, and came up at {now}: the port did not take {wanted}")
            }
            false => format!("it was {before}; asked for {wanted}, it came up at {now}"),
        });
    }
    report.finish(&Outcome {
        card: CardName::from(identity),
        now: end.now.to_string(),
        best: end.best.to_string(),
        packets: Packets::from(&end),
        port: port.as_ref().map(PortFacts::from),
        trained,
    })?;
    Ok(if reached { Status::Passed } else { Status::Failed })
}

/// The card's end of the link.
fn own(card: &dyn Card) -> anyhow::Result<LinkEnd> {
    match card_link::end(card)? {
        Some(end) => Ok(end),
        None => bail!("{} has no PCIe link: its configuration space tells of none", card.identity()),
    }
}

fn train(root: &Root, address: Address, speed: LinkSpeed, before: Link) -> anyhow::Result<Trained> {
    let started = Instant::now();
    let port = retrain(root, address, speed).map_err(|error| match error {
        Error::NoPort { .. } | Error::Speed { .. } => anyhow::Error::from(Misuse(error.to_string())),
        other => other.into(),
    })?;
    Ok(Trained {
        wanted: speed.to_string(),
        before: before.to_string(),
        seconds: started.elapsed().as_secs_f64(),
        reached: port.now.speed == speed,
    })
}

fn packets(end: &LinkEnd) -> String {
    let LinkEnd { payload, largest_payload, read_request, .. } = end;
    format!("packets of {payload} of {largest_payload} bytes, read requests of {read_request}")
}
