//! `jitney schema`: what `--json` prints, as JSON Schema, from the types that are printed.

use super::boards;
use super::change::{hold, link, program, reset, route};
use super::check::{addressing, dma, general, memory, persistence, streams, validate};
use super::contract::{Failure, SCHEMA};
use super::flash;
use super::help::whole;
use super::i2c;
use super::measure::{self, blkram, latency, pio};
use super::registers::{dump, read, write};
use super::report::print_line;
use super::see::{blink, info, list, metrics, sensors, snapshot};
use super::share::{broker, emulate, lease, run, xdma_compat};
use super::status::Status;
use super::targets::OnBoard;
use super::transfer::{capture, load, play, save, tap};
use anyhow::Context;
use clap::Args;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

const HELP: &str = "\
Examples:
  jitney schema              # every command
  jitney schema load         # one
  jitney schema test ddr";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Schema {
    /// Of this command alone.
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

/// What a command prints, as a schema.
type Printed = fn(&mut SchemaGenerator) -> schemars::Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// The result of each command, if it comes to one.
const RESULTS: &[(&str, Printed)] = &[
    ("bind", of::<jitney_setup::Bound>),
    ("bitstream", of::<flash::bitstream::Outcome>),
    ("blink", of::<blink::Blinked>),
    ("boards", of::<Vec<boards::Row<'_>>>),
    ("boards check", of::<Vec<boards::Checked>>),
    ("boards list", of::<Vec<boards::Row<'_>>>),
    // A design as docs/boards.md has it.
    ("boards show", of::<Value>),
    ("broker", of::<broker::Outcome>),
    ("capture", of::<capture::Outcome>),
    ("demo", of::<run::Outcome<'_>>),
    ("doctor", of::<jitney_setup::Report>),
    ("dump", of::<dump::Outcome>),
    ("flash info", of::<flash::info::Outcome>),
    ("flash read", of::<flash::read::Outcome>),
    ("flash verify", of::<flash::verify::Outcome>),
    ("flash write", of::<flash::write::Outcome>),
    ("i2c dump", of::<i2c::dump::Dumped>),
    ("i2c read", of::<i2c::read::Bytes>),
    ("i2c scan", of::<i2c::scan::Found>),
    ("info", of::<Vec<info::CardFacts>>),
    ("lease", of::<lease::Outcome>),
    ("link", of::<link::Outcome>),
    ("list", of::<Vec<list::Row>>),
    ("load", of::<load::Outcome>),
    ("play", of::<play::Outcome>),
    ("program", of::<program::Outcome>),
    ("read", of::<read::Outcome>),
    ("reset", of::<reset::Outcome>),
    ("route", of::<route::Outcome>),
    ("run", of::<run::Outcome<'_>>),
    ("save", of::<save::Outcome>),
    ("sensors", of::<Vec<sensors::BoardReadings>>),
    ("status", of::<snapshot::BrokerStatus>),
    ("tap", of::<tap::Outcome>),
    ("test addressing", of::<Vec<OnBoard<addressing::Outcome>>>),
    ("test ddr", of::<Vec<OnBoard<memory::Outcome>>>),
    ("test dma", of::<Vec<OnBoard<dma::Outcome>>>),
    ("test general", of::<Vec<OnBoard<general::Found>>>),
    ("test memory", of::<Vec<OnBoard<memory::Outcome>>>),
    ("test persistence", of::<Vec<OnBoard<persistence::Outcome>>>),
    ("test streams", of::<Vec<OnBoard<streams::Outcome>>>),
    ("time blkram", of::<Vec<OnBoard<blkram::Outcome>>>),
    ("time dma", of::<Vec<OnBoard<measure::dma::Outcome>>>),
    ("time latency", of::<Vec<OnBoard<latency::Outcome>>>),
    ("time pio", of::<Vec<OnBoard<pio::Outcome>>>),
    ("unbind", of::<jitney_setup::Released>),
    ("validate", of::<Vec<OnBoard<validate::Outcome>>>),
    ("who", of::<jitney_setup::Holders>),
    ("write", of::<write::Outcome>),
    ("xdma-compat", of::<xdma_compat::Outcome>),
];

/// What a command says before that, or for as long as it runs.
const EVENTS: &[(&str, Printed)] = &[
    ("broker", of::<broker::Event<'_>>),
    ("capture", of::<capture::Event<'_>>),
    ("demo", of::<run::Event<'_>>),
    ("emulate", of::<emulate::Event<'_>>),
    ("hold", of::<hold::Event>),
    ("metrics", of::<metrics::Event>),
    ("lease", of::<lease::Event<'_>>),
    ("list", of::<list::Event>),
    ("sensors", of::<sensors::Event>),
    ("run", of::<run::Event<'_>>),
    ("xdma-compat", of::<xdma_compat::Event<'_>>),
];

/// Commands that print no JSON of this form: `completions` prints a script, `schema` a schema, and `top` draws.
#[cfg(test)]
const OTHERS: &[&str] = &["completions", "schema", "top"];

pub(crate) fn schema(args: &Schema) -> anyhow::Result<Status> {
    let wanted = args.command.join(" ");
    let commands = names(&whole());
    let is_wanted =
        |name: &str| name == wanted || name.starts_with(&format!("{wanted} ")) || wanted.is_empty();
    if !commands.iter().any(|name| is_wanted(name)) {
        let message = format!("there is no command {wanted:?}; there are {}", commands.join(", "));
        return Err(super::status::Misuse(message).into());
    }
    let document = document(is_wanted);
    print_line(&serde_json::to_string_pretty(&document).context("a schema")?);
    Ok(Status::Passed)
}

/// The schema of what `wanted` commands print.
fn document(wanted: impl Fn(&str) -> bool) -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut any: Vec<Value> = Vec::new();
    let mut said = |kind: &str, table: &[(&str, Printed)], generator: &mut SchemaGenerator| {
        for (name, printed) in table.iter().filter(|(name, _)| wanted(name)) {
            any.push(line(json!({ "const": name }), kind, printed(generator).into()));
        }
    };
    said("event", EVENTS, &mut generator);
    said("result", RESULTS, &mut generator);
    let failure = generator.subschema_for::<Failure>().into();
    any.push(line(json!({ "type": "string" }), "error", failure));
    let definitions: Map<String, Value> = generator.take_definitions(true);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("a line that jitney prints with --json, schema {SCHEMA}"),
        "anyOf": any,
        "$defs": definitions,
    })
}

fn line(command: Value, kind: &str, what: Value) -> Value {
    let mut properties = Map::new();
    properties.insert("schema".into(), json!({ "const": SCHEMA }));
    properties.insert("command".into(), command);
    properties.insert(kind.into(), what);
    json!({ "type": "object", "properties": properties, "required": ["schema", "command", kind] })
}

/// The name of every command that does something, as `test ddr`.
fn names(command: &clap::Command) -> Vec<String> {
    let mut all = Vec::new();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        let name = below.get_name();
        if !below.is_subcommand_required_set() {
            all.push(name.to_owned());
        }
        all.extend(names(below).into_iter().map(|inner| format!("{name} {inner}")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_prints() {
        let described = |name: &String| {
            let is = |table: &[(&str, Printed)]| table.iter().any(|(known, _)| known == name);
            is(RESULTS) || is(EVENTS) || OTHERS.contains(&name.as_str())
        };
        let commands = names(&whole());
        let missing: Vec<&String> = commands.iter().filter(|name| !described(name)).collect();
        assert!(missing.is_empty(), "add to RESULTS or EVENTS: {missing:?}");
        for (name, _) in RESULTS.iter().chain(EVENTS) {
            assert!(commands.contains(&(*name).to_owned()), "there is no command {name}");
        }
    }
}
