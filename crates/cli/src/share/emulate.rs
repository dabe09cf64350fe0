//! `jitney emulate`: serve a board over vfio-user.

use crate::boards::Choice;
use crate::contract;
use crate::emulated::READY;
use crate::report::print_line;
use crate::say::say;
use crate::signals;
use crate::size;
use crate::status::{Misuse, Status};
use anyhow::Context;
use clap::Args;
use jitney_boards::Catalogue;
use jitney_broker::RuntimeFolder;
use jitney_emulator::boards::{BoardError, BoardOptions};
use jitney_emulator::fault::{Fault, FaultKind};
use jitney_emulator::spi::nor::FlashFileError;
use jitney_emulator::xdma::{LinkError, LinkLimit, PeriodicInterrupt};
use jitney_emulator::{Function, Options, Server};
use jitney_memory::take_inherited;
use schemars::JsonSchema;
use serde::Serialize;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = emulate_help())]
pub(crate) struct Emulate {
    /// Which board: its name, see below, or a file that describes it, as ./my.toml or ./my.toml#NAME.
    pub(crate) board: Choice,
    /// Where clients connect. Without it the board is put where `jitney list` and other commands find it.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// How much card memory, as 512M; what nobody touches costs nothing. The catalogue goes on to say how much a board of
    /// its kind has.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_nonzero)]
    pub(crate) memory: Option<u64>,
    /// Which build of the design: its PCI revision, or the version where the design has a word for it.
    #[arg(long, value_name = "N")]
    pub(crate) revision: Option<u32>,
    /// How the card interrupts: msix, msi, intx or none.
    #[arg(long, value_name = "KIND")]
    pub(crate) interrupts: Option<jitney_emulator::InterruptKind>,
    /// How many lanes its slot has, if fewer than the board can use.
    #[arg(long, value_name = "N")]
    pub(crate) lanes: Option<u8>,
    /// Move no more than a PCIe link carries, as gen2x4, or so many bytes a second each way, as 100M, so that transfers
    /// last; else as fast as memory.
    #[arg(long, value_name = "LINK", value_parser = link)]
    pub(crate) link: Option<LinkLimit>,
    /// Writes that the host refuses end the engine with an error. On PCIe they are posted: lost, and nobody is told.
    #[arg(long)]
    pub(crate) strict_writes: bool,
    /// DMA and messages need no Bus Master Enable. Those of a card do.
    #[arg(long)]
    pub(crate) ignore_bus_master: bool,
    /// A channel stops where a block of adjacent descriptors does not count down as PG195 has it ("Nxt_adj"). Cards execute it.
    #[arg(long)]
    pub(crate) strict_adjacency: bool,
    /// A user interrupt that comes again and again, as 0@100ms for the first one ten times a second; can be repeated.
    #[arg(long, value_name = "N@PERIOD")]
    pub(crate) user_interrupt: Vec<PeriodicInterrupt>,
    /// Keep the bytes of its configuration flash in this file, which is made, erased, if it is not there. Without it they go
    /// with the board.
    #[arg(long, value_name = "FILE")]
    pub(crate) flash: Option<PathBuf>,
    /// Something that goes wrong; can be repeated.
    #[arg(long, value_name = "FAULT")]
    pub(crate) fault: Vec<Fault>,
    /// Where to write, beside standard output, the line that says that clients can connect: a descriptor that this process
    /// was started with. It is closed then.
    #[arg(long, value_name = "N")]
    pub(crate) ready_fd: Option<i32>,
    /// Stop when standard input ends, as it does when the process that started this one is gone.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

fn emulate_help() -> String {
    let catalogue = Catalogue::built_in();
    let names = catalogue.designs().flat_map(|design| design.names());
    let boards: Vec<String> = names.map(|name| format!("  {name}")).collect();
    format!(
        "Boards that are built in (`jitney boards` says what each is, and lists those of boards files):\n{}\n\nFaults, each as NAME[:CHANNEL][@N], at the Nth descriptor or at once:\n  {}\n\nExample:\n  \
         jitney emulate nitefury --socket /tmp/nf.sock --fault hang:h2c0@3",
        boards.join("\n"),
        FaultKind::ALL.map(FaultKind::name).join(", ")
    )
}

/// Bytes a second of a link: less is no link, and a piece of data would take a second.
const SLOWEST_LINK: u64 = 64 << 10;

/// A PCIe link, or how many bytes it moves a second.
fn link(text: &str) -> Result<LinkLimit, String> {
    match text.parse() {
        Ok(link) => Ok(link),
        Err(error @ LinkError { .. }) => match size::parse_nonzero(text) {
            Ok(rate) if rate >= SLOWEST_LINK => Ok(LinkLimit::Rate(rate)),
            _ => Err(format!("{error}; or how many bytes it moves a second, 64K or more")),
        },
    }
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// Clients can connect from now on.
    Serving { board: &'a str, socket: &'a Path },
}

pub(crate) fn emulate(args: &Emulate, json: bool) -> anyhow::Result<Status> {
    let options = BoardOptions {
        memory: args.memory,
        revision: args.revision,
        interrupts: args.interrupts,
        channels: None,
        lanes: args.lanes,
        link: args.link,
        strict_adjacency: args.strict_adjacency,
        user_interrupts: args.user_interrupt.clone(),
        flash: args.flash.clone(),
        faults: args.fault.clone(),
    };
    // Before anything else is opened that could get its number.
    let ready = args.ready_fd.map(take_inherited).transpose().context("--ready-fd")?;
    let serving = Options {
        strict_writes: args.strict_writes,
        ignore_bus_master: args.ignore_bus_master,
        ..Options::default()
    };
    let board = (*args.board.board).clone().with(options);
    let plug = |host| {
        let function = board.plug_into(host).map_err(|error| match error {
            BoardError::Flash(FlashFileError::Size { .. }) => anyhow::Error::from(Misuse(error.to_string())),
            other => other.into(),
        })?;
        anyhow::Ok(Arc::new(function) as Arc<dyn Function>)
    };
    let server = match &args.socket {
        Some(path) => Server::bind(path, serving, plug)?,
        None => Server::bind_first(default_sockets(args.board.file_name())?, serving, plug)?,
    };

    let stop = server.stop_handle();
    let told = stop.clone();
    signals::on_stop(move |_| stop_or_complain(&told))?;
    if args.with_parent {
        std::thread::Builder::new().name("parent".into()).spawn(move || {
            // Whether it ends or fails, whoever held the other end is gone.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop_or_complain(&stop);
        })?;
    }
    let socket = server.path();
    let line = if json {
        contract::event(&Event::Serving { board: &args.board.text, socket })?
    } else {
        format!("{READY} {} at vfio-user:{}", args.board.text, socket.display())
    };
    if let Some(ready) = ready {
        let written = std::fs::File::from(ready).write_all(format!("{line}\n").as_bytes());
        written.context("cannot write to the descriptor of --ready-fd")?;
    }
    print_line(&line);
    server.serve()?;
    Ok(Status::Passed)
}

fn stop_or_complain(stop: &jitney_emulator::StopHandle) {
    if let Err(error) = stop.stop() {
        say!("jitney: the board cannot be stopped: {error}");
    }
}

/// Names in the folder where `Bus::open` looks for boards; the board gets the first that no other board of this user has.
fn default_sockets(name: &str) -> anyhow::Result<impl Iterator<Item = PathBuf> + use<>> {
    let folder = RuntimeFolder::of_this_user()?.make_for_boards()?;
    let name = name.to_owned();
    Ok((0..1000).map(move |number| folder.join(format!("{name}-{number}.sock"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_name_or_a_speed() {
        assert_eq!(link("gen3x8"), Ok(LinkLimit::Pcie { generation: 3, lanes: 8 }));
        assert_eq!(link("100M"), Ok(LinkLimit::Rate(100 << 20)));
        for text in ["gen9x9", "Gen2x4", "fast", "0", "-5", "nan", "65535"] {
            let error = link(text).unwrap_err();
            assert!(error.contains("as in 'gen2x4'") && error.contains("64K or more"), "{error}");
        }
    }
}
