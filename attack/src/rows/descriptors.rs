//! Descriptors that do not belong beside a message. Closing one may take as long as who sent it likes.

use super::Play;
use crate::client::Client;
use crate::protocol::{Request, VERSION};
use crate::round::{End, PLAY_LIMIT, Round};
use crate::stage::Stage;
use crate::villain::Role;
use anyhow::Context;
use jitney_memory::descriptors::{self, Wait};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use std::io::IoSlice;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[
    ("strangers", play_strangers),
    ("lingering", play_lingering),
    ("in-flight", play_in_flight),
    ("behind-nothing", play_behind_nothing),
];

/// With which message a descriptor is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside {
    /// The first message of a connection.
    Hello,
    /// A request that takes a descriptor, of another kind.
    Wire,
    /// A request that takes none.
    Usage,
    /// Bytes that are no message.
    Nonsense,
}

impl Beside {
    pub(super) const ALL: [Self; 4] = [Self::Hello, Self::Wire, Self::Usage, Self::Nonsense];

    /// Sends descriptors on a new connection, which it returns.
    pub(super) fn send(self, stage: &Stage, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<Client> {
        let mut client = stage.stranger()?;
        if matches!(self, Self::Wire | Self::Usage) {
            client.hello("villain")?;
        }
        match self {
            Self::Hello => drop(client.post(&Request::hello("stranger"), descriptors)?),
            Self::Usage => drop(client.post(&Request::Usage { after: None }, descriptors)?),
            Self::Nonsense => client.say(&VERSION.to_le_bytes(), descriptors)?,
            Self::Wire => {
                client.open(stage.card)?;
                client.lease(stage.card, "irq1", &[])?;
                client.post(&Request::Wire { card: stage.card, vector: 1 }, descriptors)?;
            }
        }
        Ok(client)
    }
}

pub(super) fn strangers(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("strangers", round.figure(1, 20)), End::Itself)
}

fn play_strangers(stage: &Stage) -> anyhow::Result<()> {
    let (left, right) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let (reader, writer) = rustix::pipe::pipe()?;
    let read_only = |path: &str| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let kinds: Vec<OwnedFd> = vec![
        left,
        right,
        reader,
        writer,
        read_only("/dev/zero")?,
        read_only("/tmp")?,
        read_only("/proc/self/status")?,
        open("/tmp", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
        memfd_create("stranger", MemfdFlags::CLOEXEC)?,
        eventfd(0, EventfdFlags::CLOEXEC)?,
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?,
        rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?,
        rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?,
        stage.stranger()?.socket,
    ];
    for _ in 0..stage.count {
        for beside in Beside::ALL {
            for kind in &kinds {
                for many in [1, 2, 3, 4, 253] {
                    let mut client = beside.send(stage, &vec![kind.as_fd(); many])?;
                    // It is answered or hung up on; neither takes long.
                    client.hear()?;
                    stage.did(1);
                }
            }
        }
    }
    Ok(())
}

pub(super) fn lingering(round: &Round<'_>) -> anyhow::Result<()> {
    // Who sent them is gone, and who received them has to close them all the same.
    for seconds in [round.figure(2, 12), round.figure(4, 12)] {
        let role = Role { word: seconds.to_string(), ..round.role("lingering", round.figure(1, 3)) };
        round.play(&role, End::Killed)?;
    }
    Ok(())
}

/// A connection whose peer reads nothing, with as much unsent as there is room for: its last close waits.
fn lingering_socket(
    listener: &TcpListener,
    peers: &mut Vec<TcpStream>,
    linger: Duration,
) -> anyhow::Result<OwnedFd> {
    let stream = TcpStream::connect(listener.local_addr()?)?;
    peers.push(listener.accept()?.0);
    set_socket_linger(&stream, Some(linger))?;
    stream.set_nonblocking(true)?;
    while send(&stream, &[0; 65536], SendFlags::NOSIGNAL) != Err(Errno::AGAIN) {}
    // Who closes it has to be made to wait.
    stream.set_nonblocking(false)?;
    Ok(stream.into())
}

fn play_lingering(stage: &Stage) -> anyhow::Result<()> {
    let linger = Duration::from_secs(stage.word.parse().context("seconds")?);
    let listener = TcpListener::bind("127.0.0.1:0").context("a TCP listener")?;
    let (mut peers, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..stage.count {
        for beside in Beside::ALL {
            for many in [1, 5] {
                let sockets: Vec<_> = (0..many)
                    .map(|_| lingering_socket(&listener, &mut peers, linger))
                    .collect::<anyhow::Result<_>>()?;
                let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                clients.push(beside.send(stage, &borrowed)?);
                // At once: as long as the message travels these are not the last copies, and closing them does not wait.
                drop(sockets);
                stage.did(many);
            }
        }
    }
    // As long as the peers are there, who closes waits.
    std::thread::sleep(linger.min(Duration::from_secs(3)));
    stage.stay()
}

pub(super) fn behind_nothing(round: &Round<'_>) -> anyhow::Result<()> {
    let before = round.arena.broker.census()?.descriptors;
    let mut villain = round.start(&round.role("behind-nothing", 1))?;
    villain.wait_until_ready(PLAY_LIMIT)?;
    // What the good clients free is to be closed meanwhile.
    std::thread::sleep(Duration::from_secs(2));
    let after = round.arena.broker.census()?.descriptors;
    if after > before + 60 {
        round.broken(format!(
            "while one client's socket does not close the broker's descriptors grew from {before} to {after}"
        ));
    }
    round.end(villain, End::Killed)
}

/// A socket in a message that comes after the end, or what looks like one: empty messages.
fn play_behind_nothing(stage: &Stage) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a TCP listener")?;
    let mut peers = Vec::new();
    let sockets = (0..20)
        .map(|_| lingering_socket(&listener, &mut peers, Duration::from_secs(60)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for socket in sockets {
        // The broker may be faster, and shut the connection after the first of them.
        for _ in 0..100 {
            let client = stage.stranger()?;
            let sent = client
                .say(&[], &[])
                .and_then(|()| client.say(&[], &[]))
                .and_then(|()| client.say(&Request::hello("x").encode(1), &[socket.as_fd()]));
            if sent.is_ok() {
                stage.did(1);
                break;
            }
        }
        // As long as its message travels this is not the last copy; if it is, only this thread waits.
        std::thread::spawn(move || drop(socket));
    }
    stage.stay()
}

pub(super) fn in_flight(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("in-flight", round.figure(20, 200)), End::Killed)?;
    round.play(&round.role("in-flight", 20), End::StoppedAndKilled(Duration::from_millis(200)))
}

/// Connections to the broker that travel in messages to the broker, and in circles that only the kernel's garbage
/// collector ends.
fn play_in_flight(stage: &Stage) -> anyhow::Result<()> {
    for _ in 0..stage.count {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let client = stage.client()?;
        let inside = [near.as_fd(), far.as_fd(), client.socket.as_fd()];
        // Both ends of a pair, and a connection to the broker, in a message on that pair.
        descriptors::send(&near, &[IoSlice::new(b"x")], &inside, Wait::Never)?;
        let mut outer = stage.client()?;
        outer.post(&Request::Usage { after: None }, &inside)?;
        // Its own connection, over itself.
        client.say(&Request::Usage { after: None }.encode(9), &[client.socket.as_fd()])?;
        stage.did(3);
    }
    stage.stay()
}
