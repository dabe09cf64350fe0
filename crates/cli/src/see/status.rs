//! `jitney status`: what a broker's programs have, hold and wait for.

use super::snapshot::{BrokerStatus, CardStatus, pid};
use crate::args::ItsBroker;
use crate::cards::Session;
use crate::fit::fit;
use crate::report::{print_line, print_result};
use crate::size::human;
use crate::status::Status;
use clap::Args;
use comfy_table::{Table, presets};

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
        let mut table = self::table(["program", "pid", "user", "cards", "buffers", "memory", "moved"]);
        for program in &self.programs {
            table.add_row([
                program.program.clone(),
                pid(program.pid),
                program.uid.to_string(),
                program.cards.join("\n"),
                program.buffers.to_string(),
                human(program.buffer_bytes),
                program.moved(),
            ]);
        }
        print_line(&table.to_string());
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    fit(table.load_style(presets::UTF8_HORIZONTAL_ONLY));
    table.set_header(header);
    table
}

impl CardStatus {
    /// A row for each part that somebody has or waits for; one if there is none.
    pub(super) fn rows(&self) -> Vec<[String; 4]> {
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
