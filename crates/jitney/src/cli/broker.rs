//! `jitney broker`: own the cards for programs that are started elsewhere.

use super::args;
use super::emulated::EmulatedBoards;
use super::report::print_line;
use super::signals;
use super::status::Status;
use jitney_broker::{Broker, runtime};
use jitney_vfio::{CardAddress, Identity, OpenOptions, OpenedSpace, open_all_with};
use serde_json::json;

pub(crate) fn broker(args: &args::Broker, json: bool) -> anyhow::Result<Status> {
    jitney_memory::keep_from_children()?;
    let boards = EmulatedBoards::start(&args.source.emulate)?;
    let addresses = owned_addresses(&args.source, &boards)?;
    if addresses.is_empty() {
        eprintln!("jitney: there is no card to own; name one with --card or --emulate");
        return Ok(Status::NothingTested);
    }
    let spaces = open(&args.source, &addresses)?;
    let cards = spaces.iter().flat_map(|opened| &opened.cards);
    let identities: Vec<Identity> = cards.map(|card| card.identity().clone()).collect();
    let mut broker = Broker::new(spaces)?;
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => {
            runtime::make_private(&runtime::directory())?;
            runtime::broker_socket()
        }
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

/// What an owner opens: the cards that are named, else those that can be seen.
pub(crate) fn owned_addresses(
    source: &args::Source,
    boards: &EmulatedBoards,
) -> anyhow::Result<Vec<CardAddress>> {
    let named = super::cards::named(source, boards);
    Ok(if named.is_empty() { runtime::visible_cards()? } else { named })
}

/// Opens `addresses` by the kernel's interface that `source` names, else by the one that `JITNEY_IOMMU` does.
pub(crate) fn open(source: &args::Source, addresses: &[CardAddress]) -> anyhow::Result<Vec<OpenedSpace>> {
    let iommu = source.iommu.map_or_else(runtime::iommu_interface, Ok)?;
    Ok(open_all_with(addresses, OpenOptions { iommu, isolate: source.isolate })?)
}
