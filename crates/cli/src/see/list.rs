//! `jitney list`: the cards and boards that can be seen, and who uses them.

use crate::args::{Selection, Source};
use crate::boards::catalogue;
use crate::cards::{Session, options};
use crate::emulated::EmulatedBoards;
use crate::fit::fit;
use crate::held::holders_of;
use crate::report::{print_event, print_line, print_result};
use crate::say::say;
use crate::signals::on_stop;
use crate::status::Status;
use anyhow::Context;
use clap::Args;
use jitney_boards::{Catalogue, identify_in, ids};
use jitney_broker::{BROKER_VARIABLE, CARDS_VARIABLE, Change, is_out_of_reach};
use jitney_memory::EventFd;
use jitney_vfio::Identity;
use jitney_vfio::sysfs::{LinkRate, PciFunction, Sysfs};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "\
Examples:
  jitney list
  jitney list --all               # every PCI function of this machine, whoever has it
  jitney list --watch             # the cards that are there, then each that arrives or leaves
  jitney list --emulate nitefury --json

With --watch no card is taken, so that other programs can have all of them; Ctrl-C ends it with status 0, and so does a pipe \
that nobody reads any more. Emulated boards are looked for once a second. A broker that has its cards all the time (without \
--on-demand) keeps one whose board has died until the broker ends: nothing has left it then.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct List {
    #[command(flatten)]
    source: Source,
    /// All PCI functions of this machine: what they are called, driver, IOMMU group, slot, NUMA node and link, now and possible.
    #[arg(long)]
    all: bool,
    /// Say each card that is there, and then each that arrives or leaves, until told to stop.
    #[arg(long, conflicts_with = "all")]
    watch: bool,
}

/// What is said of the cards while they are watched.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// A card is there from now on, or was when the command began.
    Arrived {
        #[serde(flatten)]
        card: Watched,
    },
    /// A card is not there any more.
    Left {
        #[serde(flatten)]
        card: Watched,
    },
}

/// A card that arrives or leaves.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Watched {
    card: String,
    id: String,
}

/// A row of the list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Row {
    card: String,
    id: String,
    board: Option<String>,
    /// Who has it: programs under a broker, or a kernel driver, or whoever has it from vfio-pci.
    users: Vec<String>,
    /// Where it is in this machine; an emulated board and another broker's card are nowhere.
    machine: Option<Place>,
}

/// A PCI function in its machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Place {
    /// What the world calls it.
    name: Option<String>,
    driver: Option<String>,
    iommu_group: Option<u32>,
    /// As it is written on the machine.
    slot: Option<String>,
    numa_node: Option<u32>,
    /// As `5.0 GT/s PCIe x4`.
    link: Option<String>,
    /// The best that it can have.
    best_link: Option<String>,
}

pub(crate) fn list(args: &List, json: bool) -> anyhow::Result<Status> {
    let source = &args.source;
    if args.watch {
        return watch(source, json);
    }
    let session = open(source)?;
    let catalogue = catalogue(&source.emulate)?;
    let mut rows = session.as_ref().map_or(Ok(Vec::new()), |session| bus_rows(session, &catalogue))?;
    let sysfs = Sysfs::default();
    let (functions, slots) = (sysfs.functions()?, sysfs.slots());
    for function in &functions {
        let address = function.address.to_string();
        let place = Place::of(function, &slots);
        match rows.iter_mut().find(|row| row.card == address) {
            Some(row) => row.machine = Some(place),
            None if args.all || is_interesting(function, &catalogue) => {
                rows.push(function_row(function, place))
            }
            None => {}
        }
    }
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
    fit(table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY));
    if args.all {
        table.set_header(["card", "id", "what it is", "driver", "group", "slot", "node", "link", "used by"]);
        table.add_rows(rows.into_iter().map(Row::all));
        print_line(&table.to_string());
        return Ok(Status::Passed);
    }
    table.set_header(["card", "id", "board", "used by"]);
    for row in rows {
        let users = if row.users.is_empty() { "nobody".into() } else { row.users.join("\n") };
        table.add_row([row.card, row.id, row.board.unwrap_or_else(|| "unknown".into()), users]);
    }
    print_line(&table.to_string());
    Ok(Status::Passed)
}

/// Says what arrives and leaves until this process is told to end.
fn watch(source: &Source, json: bool) -> anyhow::Result<Status> {
    let stop = EventFd::new()?;
    let told = stop.try_clone()?;
    on_stop(move |_| {
        if let Err(error) = told.signal() {
            say!("jitney: {error}");
        }
    })?;
    let output = std::io::stdout();
    let boards = EmulatedBoards::start(&source.emulate)?;
    let watch = options(source, &boards).watch()?;
    loop {
        // A pipe that nobody reads any more is an event that is told unasked.
        let mut waited_for = [
            PollFd::new(&stop, PollFlags::IN),
            PollFd::new(&output, PollFlags::empty()),
            PollFd::new(&watch, PollFlags::IN),
        ];
        match poll(&mut waited_for, None) {
            Ok(_) if waited_for[..2].iter().any(|own| !own.revents().is_empty()) => {
                return Ok(Status::Passed);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting for cards"),
        }
        while let Some(change) = watch.poll()? {
            if json {
                let card = Watched { card: change.card().address.clone(), id: id(change.card()) };
                print_event(&match change {
                    Change::Arrived(_) => Event::Arrived { card },
                    Change::Left(_) => Event::Left { card },
                })?;
            } else {
                print_line(&change.to_string());
            }
        }
    }
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
            say!("jitney: {error:#}");
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
        rows.push(Row { id: id(&identity), card: identity.address, board, users, machine: None });
    }
    Ok(rows)
}

fn id(card: &Identity) -> String {
    format!("{:04x}:{:04x}", card.vendor, card.device)
}

/// Whether a PCI function could be one of ours: it is in the catalogue, or was handed to vfio-pci.
pub(crate) fn is_interesting(function: &PciFunction, catalogue: &Catalogue) -> bool {
    let ids = ids(&function.identity());
    function.bound_to_vfio() || catalogue.candidates(ids).next().is_some()
}

fn function_row(function: &PciFunction, place: Place) -> Row {
    let driver = function.driver.as_deref().map(|driver| format!("driver {driver}"));
    let group = function.iommu_group.map(|group| format!("IOMMU group {group}"));
    let holders = if function.bound_to_vfio() { holders_of(function.address) } else { Vec::new() };
    let identity = function.identity();
    Row {
        id: id(&identity),
        card: identity.address,
        board: None,
        users: driver.into_iter().chain(group).chain(holders).collect(),
        machine: Some(place),
    }
}

impl Place {
    fn of(function: &PciFunction, slots: &[(String, String)]) -> Self {
        // A slot is that of all functions of a device.
        let address = function.address.to_string();
        let slot = slots.iter().find(|(_, device)| address.starts_with(&format!("{device}.")));
        let rate = |rate: &LinkRate| format!("{} x{}", rate.speed, rate.width);
        Self {
            name: name(function),
            driver: function.driver.clone(),
            iommu_group: function.iommu_group,
            slot: slot.map(|(slot, _)| slot.clone()),
            numa_node: function.numa_node,
            link: function.link.as_ref().map(|link| rate(&link.current)),
            best_link: function.link.as_ref().map(|link| rate(&link.max)),
        }
    }
}

/// What the world calls a function (pci.ids).
fn name(function: &PciFunction) -> Option<String> {
    use pci_ids::FromId;
    let vendor = pci_ids::Vendor::from_id(function.vendor)?.name();
    let device = pci_ids::Device::from_vid_pid(function.vendor, function.device);
    Some(device.map_or_else(|| vendor.to_owned(), |device| format!("{vendor} {}", device.name())))
}

impl Row {
    /// As it is shown among all functions.
    fn all(self) -> [String; 9] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let place = self.machine;
        let of = |part: fn(&Place) -> Option<String>| or_dash(place.as_ref().and_then(part));
        let link = of(|place| match (&place.link, &place.best_link) {
            (Some(now), Some(best)) if now != best => Some(format!("{now} of {best}")),
            (now, _) => now.clone(),
        });
        let name = self.board.or_else(|| place.as_ref().and_then(|place| place.name.clone()));
        let told = ["driver ", "IOMMU group "];
        let users: Vec<String> =
            self.users.into_iter().filter(|user| told.iter().all(|own| !user.starts_with(own))).collect();
        [
            self.card,
            self.id,
            or_dash(name),
            of(|place| place.driver.clone()),
            of(|place| place.iommu_group.map(|group| group.to_string())),
            of(|place| place.slot.clone()),
            of(|place| place.numa_node.map(|node| node.to_string())),
            link,
            if users.is_empty() { "-".into() } else { users.join("\n") },
        ]
    }
}
