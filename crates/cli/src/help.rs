//! `jitney --help`: the commands by what they are for.

use super::options::Options;
use crate::fit::fit;
use clap::{Command, CommandFactory};
use comfy_table::{Table, presets};

/// Every command that is shown, by what it is for.
const GROUPS: &[(&str, &[&str])] = &[
    ("share", &["demo", "run", "broker", "lease", "xdma-compat", "emulate"]),
    ("see", &["list", "status", "top", "metrics", "info", "sensors", "blink", "boards", "schema"]),
    ("check", &["validate", "test"]),
    ("measure", &["time"]),
    ("move", &["load", "save", "capture", "tap", "play"]),
    ("poke", &["read", "write", "dump", "i2c"]),
    ("flash", &["flash", "bitstream"]),
    ("change", &["hold", "reset", "route", "link", "program"]),
    ("set up", &["doctor", "who", "bind", "unbind", "completions"]),
];

/// The command line, whose help has its commands in groups.
pub(crate) fn command() -> Command {
    let command = Options::command();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\nCommands (`jitney COMMAND --help` has examples):\n{}\n\n\
         Options:\n{{options}}{{after-help}}",
        groups(&command)
    );
    command.help_template(template)
}

/// The same with all that is put off until a command is asked for, and without `help`: for who looks at every command.
pub(crate) fn whole() -> Command {
    let mut command = command().disable_help_subcommand(true);
    command.build();
    command
}

fn groups(command: &Command) -> String {
    let mut table = Table::new();
    fit(table.load_style(presets::NOTHING));
    for (group, names) in GROUPS {
        for (index, name) in names.iter().enumerate() {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            table.add_row([if index == 0 { *group } else { "" }, *name, &about]);
        }
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Options::command();
        let shown = command.get_subcommands().filter(|own| !own.is_hide_set());
        let mut shown: Vec<&str> = shown.map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        shown.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(shown, grouped);
    }

    /// The command lines that a help text shows, without what a shell does with them.
    fn examples(help: &str) -> impl Iterator<Item = &str> {
        help.lines().filter_map(|line| {
            let line = line.strip_prefix("  ")?;
            let from = if line.starts_with("jitney ") {
                0
            } else {
                line.find("| jitney ").or(line.find("sudo jitney "))?
            };
            let line = &line[line[from..].find("jitney ")? + from..];
            let end = [" | ", " #", " &", " < ", " > "].iter().filter_map(|shell| line.find(shell)).min();
            Some(line[..end.unwrap_or(line.len())].trim())
        })
    }

    #[test]
    fn every_example_is_understood() {
        let mut tried = 0;
        let mut left = vec![whole()];
        while let Some(own) = left.pop() {
            left.extend(own.get_subcommands().cloned());
            let help = own.get_after_help().map(ToString::to_string).unwrap_or_default();
            let leaf = !own.has_subcommands() && !own.is_hide_set() && own.get_name() != "help";
            let all: Vec<&str> = examples(&help).collect();
            assert!(!leaf || !all.is_empty(), "{} has no example", own.get_name());
            // A board that is described by a file needs the file.
            for example in all.into_iter().filter(|example| !example.contains("./my")) {
                let words = shlex::split(example).unwrap();
                let outcome = command().try_get_matches_from(words);
                assert!(outcome.is_ok(), "{}: {example}: {}", own.get_name(), outcome.unwrap_err());
                tried += 1;
            }
        }
        assert!(tried > 40, "only {tried} examples");
    }
}
