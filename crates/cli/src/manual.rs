//! `jitney manual FOLDER`: a manual page for every command, made of what `--help` says. For packages.

use crate::options::Options;
use crate::status::Status;
use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::path::PathBuf;

/// What stands in the middle of the first line.
const MANUAL: &str = "PCIe cards that programs share";

/// The files that the command reads or makes if nobody names others.
const FILES: &[(&str, &str)] = &[
    ("/etc/jitney/config.toml", "what the broker of all users does"),
    ("/etc/jitney/policy.toml", "who may do what, if config.toml names it"),
    ("/etc/jitney/boards, ~/.config/jitney/boards", "boards that the catalogue does not know"),
    ("/run/jitney/broker.sock", "where the broker of all users is found"),
];

#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Where the pages are put, as jitney-test-memory.1.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// What the pages say of when they were made, as 2026-11-30.
    #[arg(value_name = "DATE")]
    date: String,
}

pub(crate) fn manual(args: &Manual) -> anyhow::Result<Status> {
    std::fs::create_dir_all(&args.folder).with_context(|| args.folder.display().to_string())?;
    // Without the help's own template: a page has sections instead.
    let mut command = Options::command().disable_help_subcommand(true);
    command.build();
    pages(&command, "jitney", args)?;
    Ok(Status::Passed)
}

/// The page of `command`, and of all below it.
fn pages(command: &Command, name: &str, args: &Manual) -> anyhow::Result<()> {
    let shown = command.get_subcommands().filter(|own| !own.is_hide_set());
    for own in shown {
        pages(own, &format!("{name}-{}", own.get_name()), args)?;
    }
    let path = args.folder.join(format!("{name}.1"));
    std::fs::write(&path, page(command, name, &args.date)?).with_context(|| path.display().to_string())
}

fn page(command: &Command, name: &str, date: &str) -> anyhow::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone().display_name(name).version(version));
    let man = man.title(name.to_uppercase()).source(format!("jitney {version}")).manual(MANUAL).date(date);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|own| !own.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    after_help(command).to_writer(&mut page)?;
    if name == "jitney" {
        files().to_writer(&mut page)?;
    }
    Ok(page)
}

/// What `--help` says at its end, whose indented lines are kept as they are: they are to be typed.
fn after_help(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if help.is_empty() {
        return roff;
    }
    let is_about_examples = help.starts_with("Example");
    roff.control("SH", [if is_about_examples { "EXAMPLES" } else { "NOTES" }]);
    let mut as_it_is = false;
    for line in help.lines().skip(usize::from(is_about_examples)) {
        let is_indented = line.starts_with("  ");
        if is_indented != as_it_is {
            roff.control(if is_indented { "nf" } else { "fi" }, []);
            as_it_is = is_indented;
        }
        match line.trim() {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
    if as_it_is {
        roff.control("fi", []);
    }
    roff
}

/// What belongs to the command beside it.
fn files() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    for (file, what) in FILES {
        roff.control("TP", []).text([bold(*file)]).text([roman(*what)]);
    }
    roff
}
