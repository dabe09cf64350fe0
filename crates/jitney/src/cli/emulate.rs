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
use std::io::Read;
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
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => default_socket(args.board.file_name())?,
    };
    let serving = Options {
        strict_writes: args.strict_writes,
        ignore_bus_master: args.ignore_bus_master,
        ..Options::default()
    };
    let board = args.board.board.clone().with(options);
    let server = Server::bind(&socket, serving, |host| {
        anyhow::Ok(Arc::new(board.plug_into(host)?) as Arc<dyn Function>)
    })?;

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
    if json {
        print_line(&serde_json::json!({ READY: args.board.text, "socket": socket }).to_string());
    } else {
        print_line(&format!("{READY} {} at vfio-user:{}", args.board.text, socket.display()));
    }
    server.serve()?;
    Ok(Status::Passed)
}

fn stop_or_complain(stop: &jitney_emulator::StopHandle) {
    if let Err(error) = stop.stop() {
        eprintln!("jitney: the board cannot be stopped: {error}");
    }
}

/// A name in the folder where `Bus::open` looks for boards, that no other board of this user has.
fn default_socket(name: &str) -> anyhow::Result<PathBuf> {
    let folder = RuntimeFolder::of_this_user()?.make_for_boards()?;
    (0..1000)
        .map(|number| folder.join(format!("{name}-{number}.sock")))
        .find(|path| !path.exists())
        .with_context(|| {
            format!("the folder {} is full of boards; remove those that are gone", folder.display())
        })
}
