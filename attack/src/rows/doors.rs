//! The door of `jitney run`: descriptor 3, over which a program sends what becomes its connection.

use super::Play;
use crate::client::Client;
use crate::round::Round;
use crate::stage::{BROKEN, DID, Stage};
use crate::villain::listen;
use anyhow::{Context, bail};
use jitney_memory::descriptors::{self, Wait};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socket_with, socketpair,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(super) const PLAYS: &[(&str, Play)] =
    &[("door-good", play_good), ("knocks", play_knocks), ("door-shut", play_shut)];

/// A request that takes longer than this was held up by somebody.
const HELD_UP: Duration = Duration::from_millis(1000);
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    for villain in ["knocks", "door-shut"] {
        let good = format!("{} --play door-good --count {}", own(round), round.figure(2, 20));
        let villain = format!("{} --play {villain} --count {}", own(round), round.figure(30, 500));
        let mut command = round.arena.place.jitney();
        command.args(["run", "--emulate", "nitefury-dma-ddr3", &good, &villain]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(round.arena.place.log("run")?)
            .spawn()
            .context("starting jitney run")?;
        let lines = child.stdout.take().map(listen).context("no output")?;
        let deadline = Instant::now() + LIMIT;
        // The command may say whose line it is.
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some((_, what)) = line.split_once(BROKEN) {
                round.broken(format!("{villain}: {what}"));
            } else if let Some((_, count)) = line.split_once(DID) {
                round.did(count.trim().parse().unwrap_or(0));
            }
        }
        if Instant::now() >= deadline {
            child.kill()?;
            round.broken("jitney run did not end");
        }
        let status = child.wait()?;
        if !status.success() {
            let log = round.arena.place.end_of_log("run");
            round.broken(format!("jitney run with {villain:?} ended with {status}: {log}"));
        }
    }
    Ok(())
}

fn own(round: &Round<'_>) -> String {
    round.arena.place.program.display().to_string()
}

/// A copy of this process's descriptor 3.
fn door() -> anyhow::Result<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(&own, 3, PidfdGetfdFlags::empty()).context("descriptor 3")
}

fn knock(door: &OwnedFd, bytes: &[u8], with: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
    if with.is_empty() {
        send(door, bytes, SendFlags::NOSIGNAL)?;
    } else {
        descriptors::send(door, &[IoSlice::new(bytes)], with, Wait::Block)?;
    }
    Ok(())
}

fn enter(door: &OwnedFd) -> anyhow::Result<Client> {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    knock(door, b"j", &[far.as_fd()])?;
    drop(far);
    let mut client = Client::over(near)?;
    client.hello("good by the door")?;
    Ok(client)
}

/// Comes in again and again, for some seconds.
fn play_good(stage: &Stage) -> anyhow::Result<()> {
    let door = door()?;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(stage.count.into()) {
        let start = Instant::now();
        match enter(&door).and_then(|mut client| client.users()) {
            Ok(_) if start.elapsed() < HELD_UP => stage.did(1),
            Ok(_) => stage.broken(format!("a good client by the door waited for {:?}", start.elapsed())),
            Err(error) => {
                stage.broken(format!("a good client by the door: {error:#}"));
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn play_knocks(stage: &Stage) -> anyhow::Result<()> {
    let door = door()?;
    let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut peers = Vec::new();
    for _ in 0..stage.count {
        // Neither end of this one was ever connected: its process has the number 0.
        let lone = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (stream, _far) = pair(SocketType::STREAM)?;
        let (datagram, _far) = pair(SocketType::DGRAM)?;
        let (packet, far) = pair(SocketType::SEQPACKET)?;
        let memory = memfd_create("knock", MemfdFlags::CLOEXEC)?;
        let tcp = TcpStream::connect(listener.local_addr()?)?;
        rustix::net::sockopt::set_socket_linger(&tcp, Some(Duration::from_secs(3)))?;
        tcp.set_nonblocking(true)?;
        while send(&tcp, &[0; 65536], SendFlags::NOSIGNAL).is_ok() {}
        tcp.set_nonblocking(false)?;
        peers.push(listener.accept()?.0);
        for odd in [lone.as_fd(), stream.as_fd(), datagram.as_fd(), memory.as_fd(), tcp.as_fd(), door.as_fd()]
        {
            knock(&door, b"j", &[odd])?;
            knock(&door, b"k", &[odd])?;
        }
        knock(&door, b"j", &[])?;
        knock(&door, b"", &[])?;
        knock(&door, b"jj", &[packet.as_fd()])?;
        knock(&door, &[b'j'; 5000], &[packet.as_fd()])?;
        knock(&door, b"j", &[packet.as_fd(), far.as_fd()])?;
        knock(&door, b"j", &vec![packet.as_fd(); 253])?;
        // The same end twice, and both ends.
        knock(&door, b"j", &[packet.as_fd()])?;
        knock(&door, b"j", &[packet.as_fd()])?;
        knock(&door, b"j", &[far.as_fd()])?;
        std::thread::spawn(move || drop(tcp));
        stage.did(21);
    }
    Ok(())
}

/// One program closes the door that others came by.
fn play_shut(stage: &Stage) -> anyhow::Result<()> {
    let door = door()?;
    std::thread::sleep(Duration::from_millis(300));
    shutdown(&door, Shutdown::Both)?;
    stage.did(1);
    if enter(&door).is_ok() {
        bail!("the door was shut and let somebody in");
    }
    Ok(())
}
