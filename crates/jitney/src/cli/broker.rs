//! `jitney broker`: own the cards for programs that are started elsewhere.

use super::args;
use super::emulated::EmulatedBoards;
use super::report::print_line;
use super::signals;
use super::status::Status;
use jitney_broker::{Broker, OwnerOptions, RuntimeFolder};
use jitney_vfio::{Identity, OpenedSpace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

pub(crate) fn broker(args: &args::Broker, json: bool) -> anyhow::Result<Status> {
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
    let mut broker = Broker::new(spaces)?;
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
        print_line(&json!({ "broker": socket, "pid": std::process::id(), "cards": identities }).to_string());
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
pub(crate) fn open(source: &args::Source, boards: &EmulatedBoards) -> anyhow::Result<Vec<OpenedSpace>> {
    let cards = super::cards::named(source, boards);
    Ok(OwnerOptions { cards, iommu: source.iommu, isolate: source.isolate }.open()?)
}
