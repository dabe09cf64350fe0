//! `jitney list`: the cards and boards that can be seen, and who uses them.

use crate::cli::args::{Selection, Source};
use crate::cli::boards::catalogue;
use crate::cli::cards::Session;
use crate::cli::held::holders_of;
use crate::cli::report::{print_line, print_result};
use crate::cli::status::Status;
use jitney_boards::{Catalogue, identify_in, ids};
use jitney_broker::{BROKER_VARIABLE, CARDS_VARIABLE, is_out_of_reach};
use jitney_vfio::Identity;
use jitney_vfio::sysfs::{PciFunction, Sysfs};
use schemars::JsonSchema;
use serde::Serialize;

/// A row of the list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Row {
    card: String,
    id: String,
    board: Option<String>,
    /// Who has it: programs under a broker, or a kernel driver, or whoever has it from vfio-pci.
    users: Vec<String>,
}

pub(crate) fn list(source: &Source, json: bool) -> anyhow::Result<Status> {
    let session = open(source)?;
    let catalogue = catalogue(&source.emulate)?;
    let mut rows = session.as_ref().map_or(Ok(Vec::new()), |session| bus_rows(session, &catalogue))?;
    let functions = Sysfs::default().functions()?;
    let functions =
        functions.iter().filter(|function| is_interesting(function, &catalogue)).map(function_row);
    let others: Vec<Row> = functions.filter(|other| rows.iter().all(|row| row.card != other.card)).collect();
    rows.extend(others);
    if json {
        print_result(&rows)?;
        return Ok(Status::Passed);
    }
    if rows.is_empty() {
        print_line("There is no card. An emulated one: jitney emulate nitefury &");
        return Ok(Status::Passed);
    }
    if let Some(broker) = session.and_then(|session| session.bus.broker()) {
        print_line(&format!("as the client of a broker (pid {broker}):"));
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["card", "id", "board", "used by"]);
    for row in rows {
        let users = if row.users.is_empty() { "nobody".into() } else { row.users.join("\n") };
        table.add_row([row.card, row.id, row.board.unwrap_or_else(|| "unknown".into()), users]);
    }
    print_line(&table.to_string());
    Ok(Status::Passed)
}

/// The bus. If nobody named a card or a broker, and no card that can be seen can be had, that is said and all are listed
/// all the same.
fn open(source: &Source) -> anyhow::Result<Option<Session>> {
    let unavailable = |error: &anyhow::Error| error.downcast_ref().is_some_and(is_out_of_reach);
    let named = !source.card.is_empty()
        || !source.emulate.is_empty()
        || [BROKER_VARIABLE, CARDS_VARIABLE].into_iter().any(|name| std::env::var_os(name).is_some());
    match Session::open(&Selection { source: source.clone(), ..Selection::default() }) {
        Err(error) if !named && unavailable(&error) => {
            eprintln!("jitney: {error:#}");
            Ok(None)
        }
        session => session.map(Some),
    }
}

/// The cards of the bus, each with its users.
fn bus_rows(session: &Session, catalogue: &Catalogue) -> anyhow::Result<Vec<Row>> {
    let usage = session.bus.usage()?;
    let own = Some(std::process::id());
    let mut rows = Vec::new();
    for identity in session.bus.cards() {
        let users =
            usage.iter().filter(|client| client.pid != own && client.cards.contains(&identity.address));
        let users = users.map(|client| {
            let own = client.leases.iter().filter(|(card, _)| *card == identity.address);
            let parts: Vec<&str> = own.map(|(_, part)| &**part).collect();
            let process =
                client.pid.map_or_else(|| "another pid namespace".into(), |pid| format!("pid {pid}"));
            format!("{process} ({}) {}", client.program, parts.join(" ")).trim_end().to_owned()
        });
        let mut users: Vec<String> = users.collect();
        let board = match session.bus.card(&identity.address) {
            Ok(card) => identify_in(catalogue, &card).ok().map(|board| board.name().to_owned()),
            // What cannot be used is listed all the same, with the reason.
            Err(error) => {
                users.push(error.to_string());
                None
            }
        };
        rows.push(Row { id: id(&identity), card: identity.address, board, users });
    }
    Ok(rows)
}

fn id(card: &Identity) -> String {
    format!("{:04x}:{:04x}", card.vendor, card.device)
}

/// Whether a PCI function could be one of ours: it is in the catalogue, or was handed to vfio-pci.
fn is_interesting(function: &PciFunction, catalogue: &Catalogue) -> bool {
    let ids = ids(&identity(function));
    function.bound_to_vfio() || catalogue.candidates(ids).next().is_some()
}

fn identity(function: &PciFunction) -> Identity {
    Identity {
        address: function.address.to_string(),
        vendor: function.vendor,
        device: function.device,
        subsystem_vendor: function.subsystem_vendor,
        subsystem_device: function.subsystem_device,
        revision: function.revision,
        class: function.class,
    }
}

fn function_row(function: &PciFunction) -> Row {
    let driver = function.driver.as_deref().map(|driver| format!("driver {driver}"));
    let group = function.iommu_group.map(|group| format!("IOMMU group {group}"));
    let holders = if function.bound_to_vfio() { holders_of(function.address) } else { Vec::new() };
    let identity = identity(function);
    Row {
        id: id(&identity),
        card: identity.address,
        board: None,
        users: driver.into_iter().chain(group).chain(holders).collect(),
    }
}
