//! `jitney status`: what a broker's programs have, hold and wait for.

use crate::cli::args::ItsBroker;
use crate::cli::cards::Session;
use crate::cli::contract::CardName;
use crate::cli::report::{print_line, print_result};
use crate::cli::size::human;
use crate::cli::status::Status;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use jitney_broker::{Bus, Usage};
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "\
Examples:
  jitney status
  jitney status --broker /run/jitney/broker.sock --json";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    broker: ItsBroker,
}

/// What a broker has, and who has what of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BrokerStatus {
    /// The broker's process id.
    broker: u32,
    cards: Vec<CardStatus>,
    programs: Vec<ProgramStatus>,
}

/// A card, and who has which part of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CardStatus {
    #[serde(flatten)]
    card: CardName,
    leases: Vec<Held>,
    waits: Vec<Waiting>,
}

/// A lease.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Held {
    part: String,
    /// Nothing if the process is of another pid namespace.
    pid: Option<u32>,
    program: String,
}

/// Somebody who stands in line for a lease.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Waiting {
    part: String,
    /// 1 is next.
    place: u32,
    pid: Option<u32>,
    program: String,
}

/// A program, and what it has.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProgramStatus {
    pid: Option<u32>,
    uid: u32,
    program: String,
    cards: Vec<String>,
    buffers: u32,
    buffer_bytes: u64,
}

pub(crate) fn status(args: &StatusArgs, json: bool) -> anyhow::Result<Status> {
    let bus = Session::of_broker(&args.broker, None)?;
    let status = BrokerStatus::of(&bus)?;
    if json {
        print_result(&status)?;
    } else {
        status.print();
    }
    Ok(Status::Passed)
}

impl BrokerStatus {
    /// Without this program itself.
    fn of(bus: &Bus) -> anyhow::Result<Self> {
        let own = Some(std::process::id());
        let usage: Vec<Usage> = bus.usage()?.into_iter().filter(|client| client.pid != own).collect();
        let cards = bus
            .cards()
            .iter()
            .map(|card| CardStatus::new(CardName::from(card), &card.address, &usage))
            .collect();
        let programs = usage.into_iter().map(ProgramStatus::from).collect();
        Ok(Self { broker: bus.broker().unwrap_or(0), cards, programs })
    }

    fn print(&self) {
        print_line(&format!("broker: pid {}", self.broker));
        let mut table = table(["card", "part", "held by", "in line"]);
        for card in &self.cards {
            table.add_rows(card.rows());
        }
        print_line(&table.to_string());
        if self.programs.is_empty() {
            return print_line("No program uses it.");
        }
        let mut table = self::table(["program", "pid", "user", "cards", "buffers", "memory"]);
        for program in &self.programs {
            table.add_row([
                program.program.clone(),
                pid(program.pid),
                program.uid.to_string(),
                program.cards.join("\n"),
                program.buffers.to_string(),
                human(program.buffer_bytes),
            ]);
        }
        print_line(&table.to_string());
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

fn pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "elsewhere".into(), |pid| pid.to_string())
}

impl CardStatus {
    fn new(card: CardName, address: &str, usage: &[Usage]) -> Self {
        let mut own = Self { card, leases: Vec::new(), waits: Vec::new() };
        for client in usage {
            for (_, part) in client.leases.iter().filter(|(card, _)| card == address) {
                own.leases.push(Held {
                    part: part.clone(),
                    pid: client.pid,
                    program: client.program.clone(),
                });
            }
            for (_, part, place) in client.waits.iter().filter(|(card, ..)| card == address) {
                let (part, program) = (part.clone(), client.program.clone());
                own.waits.push(Waiting { part, place: *place, pid: client.pid, program });
            }
        }
        own.leases.sort_by(|one, other| one.part.cmp(&other.part));
        own.waits.sort_by_key(|waiting| waiting.place);
        own
    }

    /// A row for each part that somebody has or waits for; one if there is none.
    fn rows(&self) -> Vec<[String; 4]> {
        let mut parts: Vec<&str> = self.leases.iter().map(|held| &*held.part).collect();
        parts.extend(self.waits.iter().map(|waiting| &*waiting.part));
        parts.sort_unstable();
        parts.dedup();
        if parts.is_empty() {
            parts.push("");
        }
        let who = |id: Option<u32>, program: &str| format!("{program} (pid {})", pid(id));
        let rows = parts.into_iter().enumerate().map(|(index, part)| {
            let held = self.leases.iter().filter(|held| held.part == part);
            let held: Vec<String> = held.map(|held| who(held.pid, &held.program)).collect();
            let waits = self.waits.iter().filter(|waiting| waiting.part == part);
            let waits: Vec<String> =
                waits.map(|one| format!("{}. {}", one.place, who(one.pid, &one.program))).collect();
            let card =
                if index == 0 { format!("{} ({})", self.card.card, self.card.id) } else { String::new() };
            [card, part.to_owned(), held.join("\n"), waits.join("\n")]
        });
        rows.collect()
    }
}

impl From<Usage> for ProgramStatus {
    fn from(usage: Usage) -> Self {
        let Usage { pid, uid, program, cards, buffers, buffer_bytes, .. } = usage;
        Self { pid, uid, program, cards, buffers, buffer_bytes }
    }
}
