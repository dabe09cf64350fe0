//! What can stand for an argument on this machine, now. It is found by looking: no card is opened, and no broker is asked, for that
//! could start it.

use crate::see::list::is_interesting;
use clap::builder::StyledStr;
use clap::{Arg, Command};
use clap_complete::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter};
use jitney_boards::{Catalogue, ids};
use jitney_broker::RuntimeFolder;
use jitney_emulator::fault::{Fault, FaultKind};
use jitney_vfio::sysfs::{PciFunction, Sysfs};
use jitney_xdma::Direction;
use jitney_xdma_spec::MAX_CHANNELS;
use std::ffi::OsStr;

type Candidates = Vec<CompletionCandidate>;

/// The command line, each of whose arguments knows what can stand for it, by what its value is called in the help.
pub(super) fn known(command: Command) -> Command {
    command.mut_args(known_argument).mut_subcommands(known)
}

fn known_argument(argument: Arg) -> Arg {
    let name = argument.get_value_names().and_then(|names| names.first()).map(|name| name.to_string());
    // An argument whose value has no name of its own is called as it is itself.
    let name = name.unwrap_or_else(|| argument.get_id().as_str().to_uppercase());
    let is_card = argument.get_long() == Some("card");
    match &*name {
        "CARD" => argument.add(ArgValueCandidates::new(cards)),
        "ADDRESS" if is_card => argument.add(ArgValueCandidates::new(addresses)),
        "BOARD" => argument.add(ArgValueCompleter::new(boards)),
        "FAULT" => argument.add(ArgValueCompleter::new(faults)),
        "CHANNEL" => argument.add(ArgValueCandidates::new(|| plain(channels()))),
        "PART" => argument
            .add(ArgValueCandidates::new(|| plain(["whole".to_owned()].into_iter().chain(channels())))),
        "INTERFACE" => argument.add(fixed(&["auto", "group", "iommufd", "noiommu"])),
        "KIND" => argument.add(fixed(&["msix", "msi", "intx", "none"])),
        _ => argument,
    }
}

fn fixed(words: &'static [&'static str]) -> ArgValueCandidates {
    ArgValueCandidates::new(|| plain(words.iter().map(|word| (*word).to_owned())))
}

fn plain(words: impl Iterator<Item = String>) -> Candidates {
    words.map(CompletionCandidate::new).collect()
}

fn with_help(word: String, help: String) -> CompletionCandidate {
    CompletionCandidate::new(word).help(Some(StyledStr::from(help)))
}

/// The cards of this machine and this user's emulated boards, by address.
fn addresses() -> Candidates {
    let catalogue = Catalogue::load().unwrap_or_else(|_| Catalogue::built_in());
    let functions = functions(&catalogue);
    let cards =
        functions.iter().map(|function| with_help(function.address.to_string(), what(function, &catalogue)));
    let boards = RuntimeFolder::of_this_user().and_then(|folder| folder.boards()).unwrap_or_default();
    let boards = boards.into_iter().map(|address| with_help(address.to_string(), "emulated".to_owned()));
    cards.chain(boards).collect()
}

/// The same, and by id.
fn cards() -> Candidates {
    let catalogue = Catalogue::load().unwrap_or_else(|_| Catalogue::built_in());
    let mut known: Vec<(String, String)> = Vec::new();
    for function in functions(&catalogue) {
        let id = format!("{:04x}:{:04x}", function.vendor, function.device);
        if known.iter().all(|(other, _)| *other != id) {
            known.push((id, what(&function, &catalogue)));
        }
    }
    let by_id = known.into_iter().map(|(id, what)| with_help(id, what));
    addresses().into_iter().chain(by_id).collect()
}

fn functions(catalogue: &Catalogue) -> Vec<PciFunction> {
    let mut functions = Sysfs::default().functions().unwrap_or_default();
    functions.retain(|function| is_interesting(function, catalogue));
    functions
}

/// What a card could be.
fn what(function: &PciFunction, catalogue: &Catalogue) -> String {
    let design = catalogue.candidates(ids(&function.identity())).next();
    design.map_or_else(|| "unknown".to_owned(), |design| design.board.clone())
}

/// Designs, built in and from boards files; files, if the word is like one.
fn boards(current: &OsStr) -> Candidates {
    let text = current.to_string_lossy();
    if text.contains('/') || text.starts_with('.') {
        return ArgValueCompleter::new(PathCompleter::any()).complete(current);
    }
    let catalogue = Catalogue::load().unwrap_or_else(|_| Catalogue::built_in());
    let designs = catalogue.designs().flat_map(|design| {
        let names = design.names().map(|name| with_help(name.to_owned(), design.board.clone()));
        names.collect::<Vec<_>>()
    });
    starting_with(designs, &text)
}

/// Faults as `KIND`, and where there is a `:`, with a channel.
fn faults(current: &OsStr) -> Candidates {
    let text = current.to_string_lossy();
    let kinds = FaultKind::ALL.map(FaultKind::name);
    match text.split_once(':') {
        None => starting_with(kinds.into_iter().map(CompletionCandidate::new), &text),
        Some((kind, _)) if kinds.contains(&kind) => {
            let on_channels = channels().map(|channel| format!("{kind}:{channel}"));
            let possible = on_channels.filter(|fault| fault.parse::<Fault>().is_ok());
            starting_with(possible.map(CompletionCandidate::new), &text)
        }
        Some(_) => Vec::new(),
    }
}

fn channels() -> impl Iterator<Item = String> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| (0..MAX_CHANNELS).map(move |index| format!("{direction}{index}")))
}

fn starting_with(all: impl IntoIterator<Item = CompletionCandidate>, start: &str) -> Candidates {
    all.into_iter().filter(|one| one.get_value().to_string_lossy().starts_with(start)).collect()
}
