//! Logs that nobody reads: who fills them holds up nobody.

use crate::support::Ground;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A page: the least that a pipe holds.
const PIPE: usize = 4096;

/// A process whose standard error is a pipe that nobody reads. It is killed when this is dropped.
struct Unread(Child);

impl Unread {
    fn start(mut command: Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // As small as a pipe can be, so that little fills it.
        rustix::pipe::fcntl_setpipe_size(child.stderr.as_ref().unwrap(), PIPE).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(ready)), "it does not say {ready:?}");
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().cast_signed()).unwrap()
    }

    /// Reads what it has logged until `text` comes.
    fn read_until(&mut self, text: &'static str) {
        let stderr = self.0.stderr.take().unwrap();
        let (found, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
            let line = lines.find(|line| line.contains(text));
            // Whoever wanted to know may have given up.
            let _ = found.send(line.is_some());
            lines.for_each(drop);
        });
        assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok(true), "it does not log {text:?}");
    }

    /// Ends it, and says how many bytes it has logged.
    fn logged(&mut self) -> usize {
        let mut stderr = self.0.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).unwrap();
            log.len()
        });
        self.ends_well();
        reader.join().unwrap()
    }

    fn ends_well(&mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let told = Instant::now();
        let status = loop {
            match self.0.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(told.elapsed() < Duration::from_secs(15), "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It has ended already, or its test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects and talks nonsense.
fn nonsense(path: &Path, kind: SocketType) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    // It may have been hung up on already.
    let _ = send(&socket, &[0xff; 64], SendFlags::NOSIGNAL);
    socket
}

/// Waits until the peer has hung up.
fn wait_for_end(socket: OwnedFd) {
    let mut stream = std::os::unix::net::UnixStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it does not answer any more"),
            Ok(0) | Err(_) => return,
        }
    }
}

#[test]
fn a_broker_whose_log_nobody_reads_goes_on_serving() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let socket = ground.path("unread.sock");
    let mut command = ground.jitney(["-vv", "broker", "--card", &board.address(), "--socket"]);
    command.arg(&socket);
    let mut broker = Unread::start(command, "listening at ");
    let bus = jitney::Bus::options().broker(&socket).open().unwrap();
    // More than a pipe holds, and the queue before it.
    for round in 0..6000 {
        wait_for_end(nonsense(&socket, SocketType::SEQPACKET));
        if round % 100 == 0 {
            bus.usage().unwrap();
        }
    }
    ground.run(&format!("test general --broker {}", socket.display())).exits(0);
    broker.read_until("lines of the log were left out");
    broker.ends_well();
}

#[test]
fn a_broker_whose_log_nobody_reads_ends_when_it_is_told_to() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let socket = ground.path("unread.sock");
    let mut command = ground.jitney(["-vv", "broker", "--card", &board.address(), "--socket"]);
    command.arg(&socket);
    let mut broker = Unread::start(command, "listening at ");
    for _ in 0..2000 {
        wait_for_end(nonsense(&socket, SocketType::SEQPACKET));
    }
    broker.ends_well();
    assert!(!socket.exists());
}

#[test]
fn a_board_whose_log_nobody_reads_goes_on_serving() {
    let ground = Ground::new();
    let socket = ground.path("unread.sock");
    let mut command = ground.jitney(["-vv", "emulate", "nitefury", "--memory", "16M", "--socket"]);
    command.arg(&socket);
    let mut board = Unread::start(command, "serving ");
    for _ in 0..3000 {
        wait_for_end(nonsense(&socket, SocketType::STREAM));
    }
    ground.run(&format!("test general --card vfio-user:{}", socket.display())).exits(0);
    // What a client can provoke is said once a second, so not all that could be logged is: but more than the pipe has held.
    let logged = board.logged();
    assert!(logged > 2 * PIPE, "{logged} bytes, which keep nobody");
}
