//! The `jitney` command: what it says to people and to programs, and how it ends.

#![forbid(unsafe_code)]

mod args;
mod boards;
mod card_link;
mod cards;
mod change;
mod channels;
mod check;
mod complete;
mod contract;
mod emulated;
mod errno;
mod fit;
mod flash;
mod held;
mod help;
mod i2c;
mod log;
mod manual;
mod measure;
mod nearest;
mod options;
mod progress;
mod rates;
mod registers;
mod report;
mod say;
mod schema;
mod see;
mod setup;
mod share;
mod signals;
mod size;
mod status;
mod targets;
mod transfer;

use change::{hold, link, program, reset, route};
use clap::{ArgMatches, FromArgMatches};
use contract::Failure;
use log::{Lines, Log, Priority, complain};
use options::{Color, Command, Options};
use registers::{dump, read, write};
use see::{blink, info, list, sensors};
use share::{broker, demo, emulate, lease, run, witness, xdma_compat};
use status::{Misuse, Status};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use transfer::{capture, load, play, save, tap};

/// Runs the command that the arguments name.
fn main() -> ExitCode {
    complete::answer_a_shell();
    let matches = help::command().try_get_matches().unwrap_or_else(|error| refuse(&error));
    contract::set_command(path(&matches));
    let options = Options::from_arg_matches(&matches);
    let options = options.unwrap_or_else(|error| refuse(&error));
    let colors = match options.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    if let Some(colors) = colors {
        console::set_colors_enabled(colors);
        console::set_colors_enabled_stderr(colors);
    }
    let level = match options.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("JITNEY_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(format!("{level},{}=info", jitney_broker::WAITING))
    });
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(console::colors_enabled_stderr() && !log::is_for_journal())
        .event_format(Lines::default());
    let log = match serves_others(&options.command).then(|| Log::start(say::Stderr)).transpose() {
        Ok(log) => log,
        Err(error) => {
            complain(Priority::Error, &format!("a thread for the log could not be started: {error}"));
            return Status::Failed.into();
        }
    };
    match log.clone() {
        Some(log) => subscriber.with_writer(move || log.clone()).init(),
        None => subscriber.with_writer(|| say::Stderr).init(),
    }

    let json = options.json;
    let outcome = match options.command {
        Command::Demo(demo) => demo::demo(&demo, json),
        Command::Run(run) => run::run(run, json),
        Command::Broker(broker) => broker::broker(&broker, json),
        Command::Validate(args) => check::validate::validate(&args, json),
        Command::Test(test) => check::test(&test, json),
        Command::Time(time) => measure::time(&time, json),
        Command::List(args) => list::list(&args, json),
        Command::Info(info) => info::info(&info, json),
        Command::Sensors(sensors) => sensors::sensors(&sensors, json),
        Command::Blink(blink) => blink::blink(&blink, json),
        Command::Load(load) => load::load(&load, json),
        Command::Save(save) => save::save(&save, json),
        Command::Capture(args) => capture::capture(&args, json),
        Command::Tap(args) => tap::tap(&args, json),
        Command::Play(play) => play::play(&play, json),
        Command::Lease(args) => lease::lease(&args, json),
        Command::XdmaCompat(args) => xdma_compat::xdma_compat(&args, json),
        Command::Top(args) => see::top::top(&args, json),
        Command::Metrics(args) => see::metrics::metrics(&args, json),
        Command::Status(args) => see::status::status(&args, json),
        Command::Witness => witness::witness(),
        Command::WithParent(args) => lease::with_parent(&args),
        Command::Hold(hold) => hold::hold(&hold, json),
        Command::Reset(reset) => reset::reset(&reset, json),
        Command::Link(args) => link::link(&args, json),
        Command::Program(args) => program::program(&args, json),
        Command::Route(route) => route::route(&route, json),
        Command::Read(read) => read::read(&read, json),
        Command::Write(write) => write::write(&write, json),
        Command::Dump(dump) => dump::dump(&dump, json),
        Command::Flash(args) => flash::flash(&args, json),
        Command::Bitstream(args) => flash::bitstream::bitstream(&args, json),
        Command::Schema(schema) => schema::schema(&schema),
        Command::I2c(command) => i2c::i2c(&command, json),
        Command::Boards { command } => boards::boards(command.as_ref(), json),
        Command::Emulate(emulate) => emulate::emulate(&emulate, json),
        Command::Doctor(doctor) => setup::doctor(&doctor, json),
        Command::Who(who) => setup::who(&who, json),
        Command::Bind(bind) => setup::bind(&bind, json),
        Command::Unbind(unbind) => setup::unbind(&unbind, json),
        Command::Completions(args) => complete::completions(&args),
        Command::Manual(args) => manual::manual(&args),
    };
    if let Some(log) = log {
        log.finish();
    }
    match outcome {
        Ok(status) => status.into(),
        Err(error) => {
            complain(Priority::Error, &format!("{error:#}"));
            if json {
                contract::tell(&Failure::from(&error));
            }
            let status = if error.is::<Misuse>() { Status::Misused } else { Status::Failed };
            status.into()
        }
    }
}

/// The command and its subcommands, as `test memory`.
fn path(matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    let mut at = matches;
    while let Some((name, below)) = at.subcommand() {
        names.push(name);
        at = below;
    }
    names.join(" ")
}

/// Ends with what is wrong with the arguments, or with the help that was asked for.
fn refuse(error: &clap::Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
        // Unless it is known already.
        contract::set_command(named(std::env::args_os().skip(1)));
        let text = error.to_string();
        let text = text.split("\n\nUsage:").next().unwrap_or_default();
        contract::tell(&Failure::misuse(text.trim_start_matches("error: ").trim()));
    }
    let told = error.print().and_then(|()| std::io::stdout().flush());
    match told {
        Err(unread) if !error.use_stderr() => report::end_unread(&unread),
        #[expect(clippy::exit, reason = "as clap ends it, which does not look whether help was written")]
        _ => std::process::exit(error.exit_code()),
    }
}

/// The command that arguments name which make no sense as a whole.
fn named(words: impl Iterator<Item = OsString>) -> String {
    let all = help::whole();
    let mut at = &all;
    let mut names = Vec::new();
    let mut is_value = false;
    for word in words {
        // Of the options that stand before a command one has a value.
        if std::mem::replace(&mut is_value, word == "--color") || word.as_encoded_bytes().starts_with(b"-") {
            continue;
        }
        let Some(below) = at.find_subcommand(&word) else { break };
        names.push(below.get_name());
        at = below;
    }
    names.join(" ")
}

/// Whether programs depend on this process, so that no log that nobody reads may hold it up.
const fn serves_others(command: &Command) -> bool {
    matches!(command, Command::Broker(_) | Command::Run(_) | Command::Demo(_) | Command::Emulate(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_make_no_sense_name_their_command() {
        let named = |line: &str| named(line.split_whitespace().map(OsString::from));
        assert_eq!(named("--json test ddr --pases 3"), "test ddr");
        assert_eq!(named("--color always load --json here"), "load");
        assert_eq!(named("run --emulate no true"), "run");
        assert_eq!(named("--json tset"), "");
    }
}
