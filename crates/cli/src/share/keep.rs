//! `jitney broker --keep`: what programs have is kept while the broker is started anew.

use super::broker::{Broker, allow_many_descriptors};
use crate::emulated::EmulatedBoards;
use crate::signals;
use crate::status::Status;
use anyhow::{Context, anyhow};
use jitney_broker::{RuntimeFolder, SmallManager};
use jitney_vfio::CardAddress;
use rustix::process::Signal;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

pub(crate) fn keep(args: &Broker) -> anyhow::Result<Status> {
    let folder = match args.system {
        true => RuntimeFolder::of_the_system(),
        false => RuntimeFolder::of_this_user()?,
    };
    // Boards do not end with a broker.
    let boards = EmulatedBoards::start(&args.source.emulate)?;
    let program = std::env::current_exe().context("this program's own path")?;
    let arguments = of_the_broker(std::env::args_os().skip(1), boards.addresses());
    // Of each program it keeps some, and hands over copies of all.
    allow_many_descriptors();
    let mut manager = SmallManager::new(folder.make()?)?;
    let forward = manager.forward();
    let passed = manager.forward();
    signals::on_replace(move || passed.pass(Signal::USR2))?;
    signals::on_stop(move |signal| {
        if let Some(signal) = Signal::from_named_raw(signal) {
            forward.end(signal);
        }
    })?;
    // The path and not this very file: after an upgrade another one is there.
    let status = manager.run(|| {
        let mut command = Command::new(&program);
        command.args(&arguments);
        command
    })?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => Ok(Status::OfProgram(code)),
        _ => match status.signal() {
            Some(signal) => Err(anyhow!("the broker was ended by {}", signals::name(signal))),
            None => Err(anyhow!("the broker has ended ({status})")),
        },
    }
}

/// The arguments of a broker that is kept, made of this process's: its boards are there already.
fn of_the_broker(
    own: impl Iterator<Item = OsString>,
    boards: impl Iterator<Item = CardAddress>,
) -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut is_board = false;
    for argument in own {
        let text = argument.to_string_lossy();
        let (skips, next_is_board) = match &*text {
            _ if is_board => (true, false),
            "--keep" => (true, false),
            "--emulate" => (true, true),
            _ => (text.starts_with("--emulate="), false),
        };
        is_board = next_is_board;
        if !skips {
            arguments.push(argument);
        }
    }
    arguments.extend(boards.flat_map(|board| ["--card".into(), board.to_string().into()]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_kept_has_cards_instead_of_boards() {
        let own = ["broker", "--emulate", "nitefury", "--keep", "--emulate=x", "--isolate", "--socket", "/a"];
        let board: CardAddress = "/run/board.sock".parse().unwrap();
        let arguments = of_the_broker(own.into_iter().map(OsString::from), std::iter::once(board));
        let expected = ["broker", "--isolate", "--socket", "/a", "--card", "vfio-user:/run/board.sock"];
        assert_eq!(arguments, expected.map(OsString::from));
    }
}
