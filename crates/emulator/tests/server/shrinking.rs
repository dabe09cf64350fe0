//! Clients that misbehave with memory, and a board in a process of its own, which must live on and say who it was.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, RwLockReadGuard, RwLockWriteGuard};

use jitney_emulator::boards::Board;
use jitney_emulator::designs::Catalogue;
use jitney_emulator::{Function, Options, Server};
use jitney_memory::{Access, Mapping};
use jitney_xdma_spec::{Descriptor, DescriptorControl};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::client::{Client, Nonsense, eventually, no_other_test};

/// Where the board of the child process listens.
const SOCKET: &str = "JITNEY_TEST_SOCKET";
const SIZE: u64 = 1 << 20;
const AT: u64 = 0x200_0000;
/// The DMA BAR of the board, and registers of its first channels.
const BAR: u32 = 2;
const CONTROL: u64 = 0x04;
const STATUS: u64 = 0x40;
const FIRST_DESCRIPTOR: u64 = 0x4080;
const RUN_AND_REPORT_ERRORS: u32 = 0x00F8_3E19;

/// Not a test: what the child process does.
#[test]
#[ignore = "other tests start it in processes of its own"]
fn board() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let server = Server::bind(PathBuf::from(path), Options::default(), |host| {
        let board = Board::named(&Catalogue::built_in(), "nitefury")?.plug_into(host)?;
        Ok::<_, Box<dyn std::error::Error>>(Arc::new(board) as Arc<dyn Function>)
    })
    .unwrap();
    let log = |what: &'static str| {
        tracing_subscriber::fmt().with_env_filter(what).with_writer(std::io::stderr).init()
    };
    log("warn");
    println!("\nready");
    server.serve().unwrap();
}

struct Process {
    child: Child,
    /// Lines of its log.
    log: Arc<Mutex<Vec<String>>>,
    /// Nobody starts another one meanwhile.
    _with_others: RwLockReadGuard<'static, ()>,
}

impl Process {
    fn start(socket: &Path) -> Self {
        // For an instant a child has all that is open here, and a connection that another test closes does not end.
        let alone = no_other_test();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["shrinking::board", "--exact", "--ignored", "--nocapture"])
            .env(SOCKET, socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "ready"), "the board does not serve");
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, to) = (std::io::BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| to.lock().unwrap().push(line))
        });
        Self { child, log, _with_others: RwLockWriteGuard::downgrade(alone) }
    }

    /// Whether it lives, and serves others.
    fn lives(&mut self, socket: &Path) {
        let mut other = Client::to(socket);
        assert_eq!(other.read(7, 0, 2).unwrap(), [0xEE, 0x10]);
        assert!(self.child.try_wait().unwrap().is_none());
    }

    /// Waits until the log names this process, and says this of it.
    fn says_of_us(&self, what: &str) {
        let us = format!("pid {} (", std::process::id());
        let said = |line: &String| line.contains(&us) && line.contains(what);
        eventually(what, || self.log.lock().unwrap().iter().any(said));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Runs one descriptor; the status at the end.
fn run(client: &mut Client, block: u64, view: &Mapping, descriptor: Descriptor) -> u32 {
    view.write(0, &descriptor.to_bytes()).unwrap();
    let set = |client: &mut Client, register: u64, value: u32| {
        client.write(BAR, block + register, &value.to_le_bytes()).unwrap();
    };
    let status = |client: &mut Client| {
        u32::from_le_bytes(client.read(BAR, block + STATUS, 4).unwrap().try_into().unwrap())
    };
    set(client, FIRST_DESCRIPTOR, AT as u32);
    set(client, FIRST_DESCRIPTOR + 4, 0);
    set(client, CONTROL, RUN_AND_REPORT_ERRORS);
    eventually("the engine is busy", || status(client) & 1 == 0);
    let ended = status(client);
    set(client, CONTROL, 0);
    ended
}

#[test]
fn a_file_that_is_shortened_does_not_kill_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("board");
    let mut process = Process::start(&socket);
    let control = DescriptorControl::new().with_stop(true).with_completed(true);
    let out = |at| Descriptor { control, length: 0x1000, source: at, destination: 0, next: 0 };
    let back = |at| Descriptor { control, length: 0x1000, source: 0, destination: at, next: 0 };
    for round in 0..20 {
        let mut client = Client::to(&socket);
        client.write(7, 4, &[6, 0]).unwrap();
        let file = memfd_create("shrinks", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, SIZE).unwrap();
        let view = Mapping::shared(&file, 0, SIZE as usize, Access::ReadWrite).unwrap();
        assert_eq!(client.map(Some(&file), 0, AT, SIZE), Ok(()), "round {round}");
        assert_eq!(run(&mut client, 0, &view, out(AT + 0x1_0000)), 0, "round {round}");
        ftruncate(&file, 0x1000).unwrap();
        // As from memory that is not mapped: an unsupported request.
        assert_eq!(run(&mut client, 0, &view, out(AT + 0x1_0000)), 0x200, "round {round}");
        run(&mut client, 0x1000, &view, back(AT + 0x1_0000));
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0x1000, "the board made the file longer");
        // All of it, the descriptor too.
        view_is_gone(&mut client, &file);
        process.lives(&socket);
    }
    process.says_of_us("it was shortened");
}

/// Memory that only the client can reach, and answers about it that no sane client gives.
#[test]
fn answers_that_make_no_sense_do_not_kill_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("board");
    let mut process = Process::start(&socket);
    let control = DescriptorControl::new().with_stop(true).with_completed(true);
    let out = Descriptor { control, length: 0x1000, source: AT + SIZE, destination: 0, next: 0 };
    for (nonsense, reason) in [
        (Nonsense::Refusal, "refused"),
        (Nonsense::Short, "0x1000"),
        (Nonsense::Elsewhere, "address"),
        (Nonsense::OtherCommand, "command"),
        (Nonsense::Gone, "ended"),
    ] {
        let mut client = Client::to(&socket);
        client.write(7, 4, &[6, 0]).unwrap();
        let file = memfd_create("descriptors", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, SIZE).unwrap();
        let view = Mapping::shared(&file, 0, SIZE as usize, Access::ReadWrite).unwrap();
        client.map(Some(&file), 0, AT, SIZE).unwrap();
        client.map(None::<&std::os::fd::OwnedFd>, 0, AT + SIZE, SIZE).unwrap();
        (client.memory_at, client.memory) = (AT + SIZE, vec![0; SIZE as usize]);
        client.nonsense = Some(nonsense);
        if nonsense == Nonsense::Gone {
            view.write(0, &out.to_bytes()).unwrap();
            client.write(BAR, FIRST_DESCRIPTOR, &(AT as u32).to_le_bytes()).unwrap();
            client.write(BAR, CONTROL, &RUN_AND_REPORT_ERRORS.to_le_bytes()).unwrap();
            drop(client);
        } else {
            assert_eq!(run(&mut client, 0, &view, out), 0x200, "{nonsense:?}");
        }
        process.lives(&socket);
        // One line a second of a kind.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        if nonsense != Nonsense::Gone {
            process.says_of_us(reason);
        }
    }
}

/// Takes the rest away, and has the board look for a descriptor there.
fn view_is_gone(client: &mut Client, file: &std::os::fd::OwnedFd) {
    ftruncate(file, 0).unwrap();
    client.write(BAR, CONTROL, &RUN_AND_REPORT_ERRORS.to_le_bytes()).unwrap();
    let mut status = || u32::from_le_bytes(client.read(BAR, STATUS, 4).unwrap().try_into().unwrap());
    eventually("the engine is busy", || status() & 1 == 0);
    assert_eq!(status(), 0x0008_0010);
    client.write(BAR, CONTROL, &[0; 4]).unwrap();
}
