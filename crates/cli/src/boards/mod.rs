//! `jitney boards`: the designs that are known, and files that describe them.

mod choice;

use super::report::{print_line, print_result};
use super::status::Status;
use crate::say::say;
use anyhow::Context;
pub(crate) use choice::Choice;
use clap::Subcommand;
use jitney_boards::designs::{Design, Known};
use jitney_boards::{Catalogue, DmaIp};
use jitney_emulator::boards::Board;
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Boards {
    /// List the designs, and which can be emulated.
    #[command(after_help = "Examples:\n  jitney boards\n  jitney boards list --json")]
    List,
    /// Check boards files: exit status 0 if all are right.
    #[command(
        after_help = "Examples:\n  jitney boards check ./my.toml\n  jitney boards check /etc/jitney/boards/lab.toml"
    )]
    Check {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print what a board is: its ids, BARs, peripherals and memory.
    #[command(after_help = "Examples:\n  jitney boards show nitefury")]
    Show {
        /// Its name, or a file as ./my.toml or ./my.toml#NAME.
        board: Choice,
    },
}

/// Names boards files of the user's own.
pub(crate) const VARIABLE: &str = "JITNEY_BOARDS";

/// A design in the list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Row<'a> {
    design: &'a str,
    /// Other names, those of its variants among them.
    aliases: Vec<&'a str>,
    board: &'a str,
    /// Where it is from; nothing for a built-in one.
    file: Option<&'a Path>,
    /// What of an emulated board of it works.
    emulated: &'static str,
    summary: String,
}

/// What checking a file came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Checked {
    file: PathBuf,
    designs: Vec<String>,
    error: Option<String>,
}

pub(crate) fn boards(boards: Option<&Boards>, json: bool) -> anyhow::Result<Status> {
    match boards {
        None | Some(Boards::List) => list(json),
        Some(Boards::Check { files }) => check(files, json),
        Some(Boards::Show { board }) => show(board, json),
    }
}

/// The catalogue with the files of boards that were named to be emulated, after a word on standard error about each boards
/// file that cannot be used.
pub(crate) fn catalogue(emulated: &[Choice]) -> anyhow::Result<Catalogue> {
    let catalogue = Catalogue::load()?;
    for bad in catalogue.bad_files() {
        say!("jitney: warning: not used: {}", bad.error());
    }
    with_files(catalogue, emulated)
}

/// The same without a word, if boards of files were named.
pub(crate) fn named_files(emulated: &[Choice]) -> anyhow::Result<Option<Catalogue>> {
    match emulated.iter().any(|choice| choice.file().is_some()) {
        true => with_files(Catalogue::load()?, emulated).map(Some),
        false => Ok(None),
    }
}

fn with_files(mut catalogue: Catalogue, emulated: &[Choice]) -> anyhow::Result<Catalogue> {
    for file in emulated.iter().filter_map(Choice::file) {
        let own = file.canonicalize().ok();
        let is_own = |known: &Known| known.file.as_ref().is_some_and(|file| file.canonicalize().ok() == own);
        let known = catalogue.known().any(is_own);
        if !known {
            catalogue = catalogue.with_file(file)?;
        }
    }
    Ok(catalogue)
}

/// `JITNEY_BOARDS` for programs that use boards which were named to be emulated: what it is, and their files. Nothing if
/// they come from no file.
pub(crate) fn variable(emulated: &[Choice]) -> anyhow::Result<Option<OsString>> {
    let mut files = emulated.iter().filter_map(Choice::file).peekable();
    if files.peek().is_none() {
        return Ok(None);
    }
    let files = files.map(std::path::absolute).collect::<Result<Vec<_>, _>>()?;
    let already = std::env::var_os(VARIABLE).unwrap_or_default();
    let all = std::env::split_paths(&already).filter(|path| !path.as_os_str().is_empty()).chain(files);
    let all = std::env::join_paths(all).context("a boards file whose path has a ':' cannot be handed on")?;
    Ok(Some(all))
}

fn list(json: bool) -> anyhow::Result<Status> {
    let catalogue = catalogue(&[])?;
    let rows = catalogue.known().map(row).collect::<anyhow::Result<Vec<_>>>()?;
    if json {
        print_result(&rows)?;
        return Ok(Status::Passed);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["design", "board", "emulated", "from"]);
    for row in rows {
        let names: Vec<&str> = std::iter::once(row.design).chain(row.aliases).collect();
        let file = row.file.map_or_else(|| "built in".into(), |file| file.display().to_string());
        table.add_row([names.join("\n"), row.summary, row.emulated.into(), file]);
    }
    print_line(&table.to_string());
    Ok(Status::Passed)
}

fn row(known: &Known) -> anyhow::Result<Row<'_>> {
    let design = &known.design;
    Ok(Row {
        design: &design.name,
        aliases: design.names().skip(1).collect(),
        board: &design.board,
        file: known.file.as_deref(),
        emulated: emulated(design),
        summary: Board::from(std::sync::Arc::clone(design)).summary()?,
    })
}

/// What of an emulated board of a design works.
fn emulated(design: &Design) -> &'static str {
    match design.dma.map(|dma| dma.ip) {
        Some(DmaIp::Xdma) => "with DMA",
        Some(DmaIp::Qdma) => "without its DMA",
        None => "has no DMA",
    }
}

fn check(files: &[PathBuf], json: bool) -> anyhow::Result<Status> {
    let checked: Vec<Checked> = files.iter().map(|file| check_file(file)).collect();
    for one in checked.iter().filter(|_| !json) {
        match &one.error {
            None => print_line(&format!("{}: right, {}", one.file.display(), one.designs.join(", "))),
            Some(error) => say!("jitney: {error}"),
        }
    }
    if json {
        print_result(&checked)?;
    }
    Ok(if checked.iter().all(|one| one.error.is_none()) { Status::Passed } else { Status::Failed })
}

/// A file is right if it can be read and each of its designs can be emulated.
fn check_file(file: &Path) -> Checked {
    let mut designs = Vec::new();
    let error = match Catalogue::of_file(file) {
        Err(error) => Some(error.to_string()),
        Ok(catalogue) => {
            designs.extend(catalogue.designs().map(|design| design.name.clone()));
            let boards = catalogue.designs().flat_map(|design| design.names());
            let boards = boards.map(|name| Board::named(&catalogue, name).and_then(|board| board.summary()));
            boards.filter_map(Result::err).map(|error| format!("{}: {error}", file.display())).next()
        }
    };
    Checked { file: file.to_owned(), designs, error }
}

fn show(choice: &Choice, json: bool) -> anyhow::Result<Status> {
    let design = choice.board.design();
    if json {
        print_result(&**design)?;
        return Ok(Status::Passed);
    }
    print_line(&format!("{}: {}", design.name, choice.board.summary()?));
    print_line(choice.board.info()?.trim_end());
    Ok(Status::Passed)
}
