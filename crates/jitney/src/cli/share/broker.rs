//! `jitney broker`: own the cards for programs that are started elsewhere.

use super::policy;
use crate::cli::args::Source;
use crate::cli::contract::CardName;
use crate::cli::emulated::EmulatedBoards;
use crate::cli::report::{print_event, print_line};
use crate::cli::signals;
use crate::cli::status::Status;
use clap::Args;
use jitney_broker::{OwnerOptions, RuntimeFolder};
use jitney_vfio::{Identity, OpenedSpace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

const HELP: &str = "\
Examples:
  jitney broker --emulate nitefury &   # once it says \"listening at\":
  jitney test general                  # finds the broker at its well-known socket
  jitney broker --card 0000:2e:00.0 --socket /run/jitney/broker.sock --group --policy /etc/jitney/policy.toml
  jitney broker --policy /etc/jitney/policy.toml --check --user alice    # what may she do?";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Broker {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Listen here instead of at the well-known place.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Let the processes of the socket's group in as well, not only this user's.
    #[arg(long)]
    pub(crate) group: bool,
    /// Who may use which card, and how much: a file as docs/policy.md describes it. Without one everybody who can connect may do all.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Only say what the policy says, and what is wrong with it.
    #[arg(long, requires = "policy")]
    pub(crate) check: bool,
    /// With --check: what this user, by name or number, may do with the cards of this machine.
    #[arg(long, value_name = "USER", requires = "check")]
    pub(crate) user: Option<String>,
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// Programs can be its clients from now on.
    Listening { socket: &'a Path, pid: u32, cards: Vec<CardName> },
}

pub(crate) fn broker(args: &Broker, json: bool) -> anyhow::Result<Status> {
    let policy = args.policy.as_deref().map(policy::read).transpose()?.unwrap_or_default();
    if args.check {
        return policy::check(&policy, args, json);
    }
    jitney_memory::keep_from_children()?;
    allow_many_descriptors();
    let boards = EmulatedBoards::start(&args.source.emulate)?;
    let spaces = open(&args.source, &boards)?;
    if spaces.is_empty() {
        eprintln!("jitney: there is no card to own; name one with --card or --emulate");
        return Ok(Status::NothingTested);
    }
    let cards = spaces.iter().flat_map(|opened| &opened.cards);
    let identities: Vec<Identity> = cards.map(|card| card.identity().clone()).collect();
    let shared = spaces.iter().any(|opened| opened.cards.len() > 1);
    if shared && !policy.is_open() {
        eprintln!(
            "jitney: cards share an address space, so that who uses one reaches what others have for another: --isolate keeps them apart"
        );
    }
    let mut broker = jitney_broker::Broker::new(spaces)?.with_policy(policy);
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => RuntimeFolder::of_this_user()?.make_for_broker()?,
    };
    broker.listen(&socket, if args.group { 0o660 } else { 0o600 })?;
    let stop = broker.stop_handle();
    signals::on_stop(move |_| {
        if let Err(error) = stop.stop() {
            eprintln!("jitney: the broker cannot be stopped: {error}");
        }
    })?;
    if json {
        let cards = identities.iter().map(CardName::from).collect();
        print_event(&Event::Listening { socket: &socket, pid: std::process::id(), cards })?;
    } else {
        identities.iter().for_each(|identity| print_line(&format!("card {identity}")));
        print_line(&format!("listening at {}", socket.display()));
    }
    broker.run()?;
    Ok(Status::Passed)
}

/// As many as this process may have: each client takes some. It starts no programs, which might not expect it.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        eprintln!("jitney: the limit of open files cannot be raised: {errno}");
    }
}

/// Opens the cards that `source` names, `boards` among them; without any, what an owner of no name opens.
pub(crate) fn open(source: &Source, boards: &EmulatedBoards) -> anyhow::Result<Vec<OpenedSpace>> {
    let cards = crate::cli::cards::named(source, boards);
    Ok(OwnerOptions { cards, iommu: source.iommu, isolate: source.isolate }.open()?)
}
