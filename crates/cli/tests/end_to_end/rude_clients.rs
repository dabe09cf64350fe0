//! Clients that stop, never read, or talk nonsense: others do not notice.

use crate::support::{Broker, Ground, eventually};
use jitney::broker::protocol::{self, Message, Reply, Request};
use jitney::vfio::{ErrorKind, LeaseId};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A client that can say what it likes.
fn raw(broker: &Broker) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(&broker.socket).unwrap()).unwrap();
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_secs(5)),
    )
    .unwrap();
    socket
}

fn say(socket: &OwnedFd, number: u64, request: &Request) -> Result<(), Errno> {
    let message = protocol::encode_request(number, request).unwrap();
    send(socket, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(|_| ())
}

/// The next reply and its number, or nothing if the broker has hung up.
fn hear(socket: &OwnedFd) -> Option<(u64, Result<Reply, jitney::vfio::Error>)> {
    let mut buffer = vec![0; protocol::MAX_MESSAGE];
    loop {
        let (size, _) = recv(socket, &mut buffer[..], RecvFlags::empty()).ok()?;
        match (size > 0).then(|| protocol::decode_message(&buffer[..size]).unwrap())? {
            Message::Reply(number, reply) => return Some((number, reply)),
            Message::Notice(_) => {}
        }
    }
}

fn hello() -> Request {
    Request::Hello { program: "a rude test".into() }
}

#[test]
fn nonsense_is_answered_and_its_sender_dropped() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let mut other_version = protocol::encode_request(1, &hello()).unwrap();
    other_version[4] = 77;
    let mut wrong_size = protocol::encode_request(1, &hello()).unwrap();
    wrong_size[0] = 1;
    let no_number = protocol::encode_request(0, &hello()).unwrap();
    let huge = vec![0xa5; 60_000];
    let nonsense: [&[u8]; 7] =
        [b"x", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &other_version, &wrong_size, &no_number, &huge];
    let polite = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    for bytes in nonsense {
        let socket = raw(&broker);
        send(&socket, bytes, SendFlags::empty()).unwrap();
        let (number, reply) = hear(&socket).expect("an answer");
        assert_eq!(number, 0);
        assert!(reply.is_err());
        assert!(hear(&socket).is_none(), "and then the end");
    }
    // Nothing at all, nothing but a connection, and something else than a hello.
    drop(raw(&broker));
    let silent = raw(&broker);
    let rude = raw(&broker);
    say(&rude, 1, &Request::Cards { after: None }).unwrap();
    let (_, reply) = hear(&rude).unwrap();
    assert!(reply.unwrap_err().to_string().contains("hello"));
    assert!(hear(&rude).is_none());
    // An empty message is the end of its sender, and of nobody else.
    send(&silent, b"", SendFlags::empty()).unwrap();

    assert_eq!(polite.usage().unwrap().len(), 1);
    ground.run(&format!("test ddr --size 16M --passes 1 {}", broker.option())).exits(0);
}

#[test]
fn who_names_what_is_not_its_own_is_refused_and_logged_and_fills_no_log() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.open_cards().unwrap().remove(0);
    let xdma = jitney::boards::identify(&card).unwrap().xdma().unwrap();
    let (channel, buffer) = (xdma.h2c(0).unwrap(), bus.dma_buffer(8192).unwrap());

    let stranger = raw(&broker);
    say(&stranger, 1, &hello()).unwrap();
    assert!(hear(&stranger).unwrap().1.is_ok());
    say(&stranger, 2, &Request::Cards { after: None }).unwrap();
    let Ok(Reply::Cards { cards, .. }) = hear(&stranger).unwrap().1 else { panic!("no cards") };
    let card = cards[0].id;
    let begun = Instant::now();
    for round in 0..200 {
        for (number, request) in [
            Request::Free { iova: buffer.iova() },
            Request::Close { card },
            Request::Release { card, lease: LeaseId(round % 4), will: true },
            Request::Silence { card, vector: 0 },
            Request::Reset { card },
        ]
        .into_iter()
        .enumerate()
        {
            say(&stranger, number as u64 + 10, &request).unwrap();
            let error = hear(&stranger).unwrap().1.expect_err(&format!("{request:?} was carried out"));
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Invalid | ErrorKind::Denied | ErrorKind::NotFound), "{error}");
        }
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    buffer.write(0, b"still mine").unwrap();
    channel.write_range(&buffer, 0..8192, 0).unwrap();
    let log = broker.process.complained();
    let lines = log.lines().filter(|line| line.contains("was refused what it asked for")).count();
    assert!((1..=seconds + 1).contains(&lines), "{lines} lines in {seconds} s: {log}");
    let by_whom = format!("pid {} (a rude test)", std::process::id());
    assert!(log.contains(&by_whom), "{log}");
}

#[test]
fn a_client_too_many_is_hung_up_on_and_nobody_else() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let pid = rustix::process::Pid::from_raw(broker.process.pid());
    let few = rustix::process::Rlimit { current: Some(40), maximum: Some(40) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, few).unwrap();
    let bus = || jitney::Bus::options().broker(&broker.socket).open();
    let mut crowd = Vec::new();
    let error = loop {
        match bus() {
            Ok(bus) => crowd.push(bus),
            Err(error) => break error,
        }
        assert!(crowd.len() < 40);
    };
    assert_eq!(error.kind(), jitney::vfio::ErrorKind::Disconnected, "{error}");
    assert_eq!(crowd[0].usage().unwrap().len(), crowd.len());
    crowd.truncate(crowd.len() - 5);
    ground.run(&format!("test ddr --size 64K --passes 1 {}", broker.option())).exits(0);
}

#[test]
fn a_client_that_never_reads_is_dropped() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let polite = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let deaf = raw(&broker);
    say(&deaf, 1, &hello()).unwrap();
    let since = Instant::now();
    let mut number = 2;
    let dropped = loop {
        match say(&deaf, number, &Request::Usage { after: None }) {
            Ok(()) => number += 1,
            // The broker does not keep up with reading, or has had enough.
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(errno) => break errno,
        }
        assert!(since.elapsed() < Duration::from_secs(10), "after {number} requests it is still there");
    };
    assert!(matches!(dropped, Errno::PIPE | Errno::CONNRESET), "{dropped}");
    assert!(number > 100, "some may wait");
    assert_eq!(polite.usage().unwrap().len(), 1);
    ground.run(&format!("test ddr --size 16M --passes 1 {}", broker.option())).exits(0);
}

#[test]
fn a_client_that_reads_late_gets_every_reply() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let slow = raw(&broker);
    say(&slow, 1, &hello()).unwrap();
    // More than the socket holds, fewer than are too many; each is large for what was asked.
    let crowd: Vec<_> = (0..30)
        .map(|_| {
            let socket = raw(&broker);
            say(&socket, 1, &Request::Hello { program: "y".repeat(120) }).unwrap();
            hear(&socket).unwrap().1.unwrap();
            socket
        })
        .collect();
    let mut sent = 0;
    while sent < 60 {
        match say(&slow, sent + 2, &Request::Usage { after: None }) {
            Ok(()) => sent += 1,
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(errno) => panic!("dropped after {sent} requests: {errno}"),
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    // It asks for nothing more, so only the broker can know that there is room again.
    for expected in 1..=61 {
        let (number, reply) = hear(&slow).unwrap_or_else(|| panic!("no reply to request {expected}"));
        assert_eq!(number, expected);
        reply.unwrap();
    }
    drop(crowd);
}

#[test]
fn a_client_that_is_stopped_holds_up_nobody_and_goes_on_later() {
    let ground = Ground::new();
    let (board, other) = (ground.board("nitefury --memory 64M"), ground.board("tef1001-dma-blkram"));
    let broker = ground.broker(&[&board, &other]);
    let option = broker.option();
    let mut stopped = ground.start(&format!("test ddr --size 16M --passes 12 {option}"));
    stopped.wait_for_line("pass 1 of");
    stopped.signal(Signal::STOP);
    let since = Instant::now();
    ground.run(&format!("test general {option}")).exits(0);
    ground.run(&format!("time blkram --transfers 20 {option}")).exits(0);
    ground.run(&format!("info {option}")).exits(0);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // Its channel is still its own.
    ground
        .run(&format!("test ddr --size 4K --passes 1 {option}"))
        .exits(1)
        .complains(&format!("held by pid {}", stopped.pid()));
    stopped.signal(Signal::CONT);
    stopped.wait().exits(0).says("pass 12 of 12: test pattern matches");
}

#[test]
fn nonsense_at_a_board_is_nothing_to_its_owner() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 64M");
    let broker = ground.broker(&[&board]);
    let mut client = ground.start(&format!("test ddr --size 16M --passes 40 {}", broker.option()));
    client.wait_for_line("pass 1 of");
    for bytes in [&b""[..], b"x", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096], &[0; 4096]] {
        let mut rude = std::os::unix::net::UnixStream::connect(&board.socket).unwrap();
        rude.write_all(bytes).unwrap();
        rude.shutdown(std::net::Shutdown::Write).unwrap();
        rude.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        // An answer or a reset, but an end.
        if let Err(error) = rude.read_to_end(&mut answer) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    client.wait().exits(0);
}

#[test]
fn what_one_program_does_to_its_door_is_nothing_to_the_others() {
    let ground = Ground::new();
    // An empty message, garbage, a flood, and the end of the connection for writing and reading.
    let rude = "python3 -c '
import os, socket, array
door = socket.socket(fileno=os.dup(3))
door.send(b\"\")
door.send(b\"x\" * 5000)
r, w = os.pipe()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
for passed in ([r], [udp.fileno()], [a.fileno()], [r, w, r, w]):
    fds = array.array(\"i\", passed)
    door.sendmsg([b\"j\"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
for _ in range(300):
    door.send(b\"garbage\")
b.send(b\"garbage\")
import subprocess, sys
# Its own clients still get in.
code = subprocess.run([sys.argv[1], \"test\", \"general\"], pass_fds=[3]).returncode
door.shutdown(socket.SHUT_RDWR)
sys.exit(code)
' ";
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 here, which this test is rude with");
        return;
    }
    let rude = format!("{rude} {}", env!("CARGO_BIN_EXE_jitney"));
    let late =
        format!("sh -c 'sleep 0.7; exec {} test ddr --size 64K --passes 1'", env!("CARGO_BIN_EXE_jitney"));
    ground
        .run_args(["run", "--emulate", "nitefury", &rude, &late])
        .exits(0)
        .says("Found NiteFury")
        .says("pass 1 of 1: test pattern matches");
}

#[test]
fn a_child_that_keeps_the_connection_open_does_not_keep_what_its_parent_had() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 here, which this test forks with");
        return;
    }
    // The parent says hello and forks; then it is killed, and its child goes on with the socket in hand.
    let hello = protocol::encode_request(1, &hello()).unwrap();
    let allocate = Request::Allocate { card: None, size: 1 << 20, align: 1, top: u64::MAX, page_shift: 12 };
    let allocate = protocol::encode_request(2, &allocate).unwrap();
    let script = format!(
        "
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect({:?})
for message in (bytes({hello:?}), bytes({allocate:?})):
    s.send(message)
    s.recv(70000)
child = os.fork()
if child == 0:
    time.sleep(30)
print('forked', flush=True)
time.sleep(30)
",
        broker.socket.display().to_string()
    );
    let mut command = std::process::Command::new("python3");
    command.args(["-c", &script]).env("XDG_RUNTIME_DIR", ground.path("run"));
    let mut parent = crate::support::Process::start(command);
    parent.wait_for_line("forked");
    assert!(bus.usage().unwrap().iter().any(|client| client.buffers == 1));
    parent.signal(Signal::KILL);
    eventually("what the dead parent had is left", || match bus.usage().unwrap() {
        usage if usage.len() == 1 => Ok(()),
        usage => Err(format!("{usage:?}")),
    });
    let child_lives = ground.processes().iter().any(|(_, line)| line.contains("python3"));
    assert!(child_lives, "or this has shown nothing");
}
