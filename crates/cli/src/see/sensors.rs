//! `jitney sensors`: what the boards measure, once or again and again.

use crate::args::{Client, Selection, Source, seconds};
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::{Report, print_event};
use crate::say::say;
use crate::signals::on_stop;
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use clap::{Args, ValueEnum};
use comfy_table::{Cell, CellAlignment, Table, presets};
use jitney_boards::{Board, Monitor, Reading};
use schemars::JsonSchema;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

const HELP: &str = "\
Examples:
  jitney sensors --emulate nitefury
  jitney sensors --emulate nitefury --only temperature --json
  jitney sensors --watch --every 0.5

Registers are only read, so it is no bother to who uses the board. With --watch and --json each refresh is a line of its own; \
Ctrl-C ends it with status 0. A dash is what the board does not keep or watch. The status is 3 if no board has such sensors, \
1 if one cannot be read; the others are shown all the same.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Sensors {
    /// Which card: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER. All that can be had if nothing is said.
    #[arg(value_name = "CARD")]
    named: Option<String>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    broker: Client,
    /// Show only what measures this.
    #[arg(long, value_enum)]
    only: Option<Quantity>,
    /// Read them again and again, until told to stop.
    #[arg(long)]
    watch: bool,
    /// With --watch: how many seconds from one reading to the next.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    every: Duration,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Quantity {
    Temperature,
    Voltage,
    Current,
    Power,
    Speed,
}

impl From<jitney_boards::Quantity> for Quantity {
    fn from(quantity: jitney_boards::Quantity) -> Self {
        match quantity {
            jitney_boards::Quantity::Temperature => Self::Temperature,
            jitney_boards::Quantity::Voltage => Self::Voltage,
            jitney_boards::Quantity::Current => Self::Current,
            jitney_boards::Quantity::Power => Self::Power,
            jitney_boards::Quantity::Speed => Self::Speed,
        }
    }
}

/// A board and what it measures.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct BoardReadings {
    #[serde(flatten)]
    card: CardName,
    board: String,
    sensors: Vec<Sensor>,
    /// Why some or all of its sensors are not there.
    errors: Vec<String>,
}

/// What happens while they are watched.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// They were read once more.
    Readings { boards: Vec<BoardReadings> },
}

/// A sensor and its reading, in its unit.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Sensor {
    /// Who measures: `xadc`, `sysmon die 1`.
    monitor: String,
    name: String,
    quantity: Quantity,
    unit: &'static str,
    now: f64,
    min: Option<f64>,
    average: Option<f64>,
    max: Option<f64>,
    /// Whether it is outside of its limits; null if nobody watches it.
    alarm: Option<bool>,
    #[serde(skip)]
    decimals: usize,
}

impl Sensor {
    fn new(monitor: &str, reading: Reading) -> Self {
        let Reading { name, quantity, now, min, average, max, alarm } = reading;
        let (unit, decimals) = (quantity.unit(), quantity.decimals());
        Self {
            monitor: monitor.to_owned(),
            name,
            quantity: quantity.into(),
            unit,
            now,
            min,
            average,
            max,
            alarm,
            decimals,
        }
    }
}

pub(crate) fn sensors(args: &Sensors, json: bool) -> anyhow::Result<Status> {
    let report = Report::new(json);
    let selection =
        Selection { source: args.source.clone(), broker: args.broker.clone(), only: args.named.clone() };
    let session = Session::open(&selection)?;
    let targets = targets::find(&session, &selection, &report, Board::has_sensors)?;
    if targets.boards.is_empty() {
        return nothing_tested("board with sensors", json);
    }
    let boards: Vec<Watched> = targets.boards.iter().map(Watched::of).collect();
    if args.watch {
        return watch(&boards, args, &report, json);
    }
    let found: Vec<BoardReadings> = boards.iter().map(|board| board.read(args.only)).collect();
    let failed = found.iter().any(|board| !board.errors.is_empty());
    if found.iter().all(|board| board.sensors.is_empty()) && !failed {
        return nothing_tested("board with sensors of that kind", json);
    }
    report.line(text(&found));
    say_errors(&found);
    report.finish(&found)?;
    Ok(targets.status(failed))
}

/// A board whose monitors were looked for once.
struct Watched<'a> {
    board: &'a Board,
    monitors: Result<Vec<Monitor>, String>,
}

impl<'a> Watched<'a> {
    fn of(board: &'a Board) -> Self {
        Self { board, monitors: board.monitors().map_err(|error| error.to_string()) }
    }

    /// What it measures now. A monitor that fails does not keep the others from being read.
    fn read(&self, only: Option<Quantity>) -> BoardReadings {
        let card = CardName::of(&**self.board.card());
        let board = self.board.name().to_owned();
        let mut found = BoardReadings { card, board, sensors: Vec::new(), errors: Vec::new() };
        match &self.monitors {
            Err(error) => found.errors.push(error.clone()),
            Ok(monitors) => {
                for monitor in monitors {
                    match monitor.readings() {
                        Ok(readings) => {
                            let sensors =
                                readings.into_iter().map(|reading| Sensor::new(monitor.name(), reading));
                            let wanted = |sensor: &Sensor| only.is_none_or(|only| only == sensor.quantity);
                            found.sensors.extend(sensors.filter(wanted));
                        }
                        Err(error) => found.errors.push(error.to_string()),
                    }
                }
            }
        }
        found
    }
}

/// Shows them again and again: on a terminal in the same place, else one after the other.
fn watch(boards: &[Watched<'_>], args: &Sensors, report: &Report, json: bool) -> anyhow::Result<Status> {
    let (told, stop) = channel();
    on_stop(move |_| {
        // Nobody listens any more when it has ended already.
        let _ = told.send(());
    })?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut shown = 0;
    loop {
        let found: Vec<BoardReadings> = boards.iter().map(|board| board.read(args.only)).collect();
        let mut page = text(&found);
        for error in found.iter().flat_map(|board| &board.errors) {
            page.push_str(&format!("\n{error}"));
        }
        if is_terminal {
            // A terminal that cannot go back shows one below the other.
            let _ = console::Term::stdout().clear_last_lines(shown);
            shown = page.lines().count();
        }
        report.line(page);
        if json {
            print_event(&Event::Readings { boards: found })?;
        }
        match stop.recv_timeout(args.every) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(Status::Passed),
        }
    }
}

fn say_errors(found: &[BoardReadings]) {
    for board in found {
        for error in &board.errors {
            say!("jitney: {} at {}: {error}", board.board, board.card.card);
        }
    }
}

/// A table for each board.
fn text(found: &[BoardReadings]) -> String {
    let pages = found.iter().map(|board| {
        let title = format!("{} at {}", board.board, board.card.card);
        if board.sensors.is_empty() { title } else { format!("{title}\n{}", table(&board.sensors)) }
    });
    pages.collect::<Vec<_>>().join("\n")
}

fn table(sensors: &[Sensor]) -> Table {
    let with_average = sensors.iter().any(|sensor| sensor.average.is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let average = with_average.then_some("average");
    let header = ["", "", "now", "min"].into_iter().chain(average).chain(["max", "", "alarm"]);
    table.set_header(header.map(|word| Cell::new(word).set_alignment(CellAlignment::Right)));
    let mut before = "";
    for sensor in sensors {
        let number = |value: Option<f64>| {
            let digits = sensor.decimals;
            let text = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"));
            Cell::new(text).set_alignment(CellAlignment::Right)
        };
        let monitor = if before == sensor.monitor { "" } else { &sensor.monitor };
        before = &sensor.monitor;
        let alarm = match sensor.alarm {
            None => "-",
            Some(false) => "no",
            Some(true) => "ALARM",
        };
        let mut row = vec![Cell::new(format!("  {monitor}")), Cell::new(&sensor.name)];
        row.extend([number(Some(sensor.now)), number(sensor.min)]);
        row.extend(with_average.then(|| number(sensor.average)));
        row.extend([number(sensor.max), Cell::new(sensor.unit)]);
        row.push(Cell::new(alarm).set_alignment(CellAlignment::Right));
        table.add_row(row);
    }
    table
}
