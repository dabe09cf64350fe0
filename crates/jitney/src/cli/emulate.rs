//! `jitney emulate`: serve a board over vfio-user.

use super::args::Emulate;
use super::emulated::READY;
use super::report::print_line;
use super::signals;
use super::status::Status;
use anyhow::Context;
use jitney_broker::RuntimeFolder;
use jitney_emulator::boards::BoardOptions;
use jitney_emulator::{Function, Options, Server};
use jitney_memory::take_inherited;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

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
    let plug = |host| anyhow::Ok(Arc::new(board.plug_into(host)?) as Arc<dyn Function>);
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
        serde_json::json!({ READY: args.board.text, "socket": socket }).to_string()
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
        eprintln!("jitney: the board cannot be stopped: {error}");
    }
}

/// Names in the folder where `Bus::open` looks for boards; the board gets the first that no other board of this user has.
fn default_sockets(name: &str) -> anyhow::Result<impl Iterator<Item = PathBuf> + use<>> {
    let folder = RuntimeFolder::of_this_user()?.make_for_boards()?;
    let name = name.to_owned();
    Ok((0..1000).map(move |number| folder.join(format!("{name}-{number}.sock"))))
}
