//! `jitney broker --replace`: the broker that runs leaves its place to a new one.

use super::broker::Broker;
use crate::report::{print_line, print_result};
use crate::status::Status;
use anyhow::Context;
use jitney_broker::{Bus, RuntimeFolder};
use jitney_host::{Root, catches};
use jitney_vfio::{Error, ErrorKind};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::OsStr;
use std::io::ErrorKind as IoErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the new one may take to be there.
const LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked for.
const PACE: Duration = Duration::from_millis(20);

/// What it came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Replaced {
    /// The process that was the broker.
    before: u32,
    /// The process that is the broker now.
    now: u32,
    /// How long it took until that served, in seconds.
    seconds: f64,
}

pub(crate) fn replace(args: &Broker, json: bool) -> anyhow::Result<Status> {
    let socket = match &args.socket {
        Some(path) => path.clone(),
        None => {
            let folder = match args.system {
                true => RuntimeFolder::of_the_system(),
                false => RuntimeFolder::of_this_user()?,
            };
            folder.broker()?.ok_or_else(|| none("no broker runs for this user"))?
        }
    };
    let since = Instant::now();
    let before = pid(&socket)?;
    // Who does not listen to this signal is ended by it.
    let is_there = || pid(&socket).map(|now| now == before);
    if !catches(&Root::default(), before, Signal::USR2.as_raw()) && is_there()? {
        let what = format!("nobody keeps the descriptors of the broker (pid {before}) for another one");
        return Err(Error::new(ErrorKind::Unsupported, what)
            .with_remedy("start it with --keep, or by its units: docs/operating.md")
            .into());
    }
    if keeper_is_gone(before) && is_there()? {
        let what = format!("who kept the descriptors of the broker (pid {before}) for another one has ended");
        return Err(Error::new(ErrorKind::Unsupported, what)
            .with_remedy("end it when no program needs it, and start it anew with --keep, or by its units")
            .into());
    }
    let process = i32::try_from(before).ok().and_then(Pid::from_raw).context("the broker's process")?;
    match kill_process(process, Signal::USR2) {
        // Somebody else has it replaced just now.
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => {
            return Err(Error::from_errno(errno, format!("telling the broker (pid {before})")).into());
        }
    }
    let now = loop {
        let now = pid(&socket)?;
        if now != before {
            break now;
        }
        if since.elapsed() > LIMIT {
            let what = format!("the broker (pid {before}) has not left its place within {LIMIT:?}");
            return Err(Error::new(ErrorKind::TimedOut, what)
                .with_remedy("see what it says in its log")
                .into());
        }
        std::thread::sleep(PACE);
    };
    let replaced = Replaced { before, now, seconds: since.elapsed().as_secs_f64() };
    match json {
        true => print_result(&replaced)?,
        false => print_line(&format!(
            "broker {} has taken the place of {} after {:.2} s",
            replaced.now, replaced.before, replaced.seconds
        )),
    }
    Ok(Status::Passed)
}

/// Whether nobody listens any more where the process `broker` says what is to be kept. What cannot be seen is not known to be gone.
fn keeper_is_gone(broker: u32) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{broker}/environ")) else { return false };
    let mut variables = environment.split(|byte| *byte == 0);
    let Some(path) = variables.find_map(|variable| variable.strip_prefix(b"NOTIFY_SOCKET=/")) else {
        return false;
    };
    let path = Path::new("/").join(OsStr::from_bytes(path));
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    connected
        .is_err_and(|error| matches!(error.kind(), IoErrorKind::ConnectionRefused | IoErrorKind::NotFound))
}

/// The process that serves at `socket`.
fn pid(socket: &Path) -> anyhow::Result<u32> {
    let bus = Bus::options().broker(socket).open_shared()?;
    bus.broker().ok_or_else(|| none("nobody answers as a broker").into())
}

fn none(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, what).with_remedy("start one: jitney broker --keep")
}
