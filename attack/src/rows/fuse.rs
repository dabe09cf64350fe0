//! A file system that answers everything but the close of its only file: the least of the FUSE protocol (linux/fuse.h) that
//! gets it opened.

use super::Play;
use super::descriptors::Beside;
use crate::protocol::Request;
use crate::round::{End, Round};
use crate::stage::Stage;
use crate::villain::Role;
use anyhow::Context;
use jitney_memory::descriptors;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, write};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] =
    &[("fuse", play), ("clogged", play_clogged), ("fuse-server", play_server)];

/// How long the file system is there and does not answer. It has to be a process of its own: one that both serves a file and
/// has it open can never end, since its end would wait for itself.
const LIFE: Duration = Duration::from_secs(4);

const NAME: &str = "file";
const NODE: u64 = 2;

// What the kernel asks, by number.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    with_root(round, "fuse", round.figure(1, 5))
}

pub(super) fn clogged(round: &Round<'_>) -> anyhow::Result<()> {
    // More than a process may have open.
    with_root(round, "clogged", round.figure(120, 500))
}

fn can(round: &Round<'_>) -> bool {
    let can = rustix::process::getuid().is_root() && Path::new("/dev/fuse").exists();
    if !can {
        round.skip("a file system of one's own takes root and /dev/fuse");
    }
    can
}

fn with_root(round: &Round<'_>, play: &str, count: u32) -> anyhow::Result<()> {
    if !can(round) {
        return Ok(());
    }
    // Mounting is root's: this villain is no other user.
    round.play(&Role { user: None, ..round.role(play, count) }, End::Killed)
}

/// An open file that cannot be closed for some time.
fn file(stage: &Stage) -> anyhow::Result<ManuallyDrop<OwnedFd>> {
    let device = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("/dev/fuse")?;
    let folder = tempfile::tempdir()?;
    let options = CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))?;
    mount("jitney-attack", folder.path(), "fuse", MountFlags::empty(), options.as_c_str())
        .context("mounting")?;
    let server = Command::new(std::env::current_exe()?)
        .args(["--play", "fuse-server", "--word", &stage.word])
        .stdin(Stdio::from(device))
        .stdout(Stdio::null())
        .spawn();
    // It ends by itself.
    drop(server.context("a server")?);
    let file = open(folder.path().join(NAME), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("opening the file");
    // The open file keeps the file system; nobody finds it any more.
    unmount(folder.path(), UnmountFlags::DETACH).context("unmounting")?;
    // Closing it would take as long for this process.
    file.map(ManuallyDrop::new)
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let file = file(stage)?;
    let mut clients = Vec::new();
    for _ in 0..stage.count {
        for beside in Beside::ALL {
            for many in [1, 20] {
                clients.push(beside.send(stage, &vec![file.as_fd(); many])?);
                stage.did(many as u64);
            }
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    stage.stay()
}

/// Connects and has sent as many files as there may be in a message before anybody can ask who it is.
fn play_clogged(stage: &Stage) -> anyhow::Result<()> {
    let file = file(stage)?;
    for _ in 0..stage.count {
        let client = stage.stranger()?;
        // Who has been turned away already cannot send anything.
        drop(
            client
                .say(&Request::hello("clogged").encode(1), &vec![file.as_fd(); descriptors::MAX_DESCRIPTORS]),
        );
        stage.did(1);
    }
    stage.stay()
}

/// Serves the file system over standard input.
fn play_server(stage: &Stage) -> anyhow::Result<()> {
    std::thread::spawn(|| while serve(std::io::stdin()).is_ok() {});
    std::thread::sleep(stage.word.parse().map_or(LIFE, Duration::from_secs));
    Ok(())
}

/// Answers one question of the kernel.
fn serve(device: impl AsFd) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let size = read(&device, &mut buffer)?;
    let word = |at: usize| u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let (opcode, unique, node) = (word(4), long(8), long(16));
    let body = &buffer[40..size.max(40)];
    let (error, reply) = match opcode {
        // FLUSH is never answered, which is the point; and the others have no answer.
        FLUSH | RELEASE | FORGET | INTERRUPT | BATCH_FORGET => return Ok(()),
        INIT => (0, init()),
        LOOKUP if body.starts_with(NAME.as_bytes()) => (0, entry()),
        LOOKUP => (-2, Vec::new()),
        GETATTR => (0, [words(&[1, 0, 0, 0]), attributes(node)].concat()),
        OPEN => (0, words(&[1, 0, 0, 0])),
        // ENOSYS.
        _ => (-38, Vec::new()),
    };
    let size = u32::try_from(16 + reply.len()).unwrap_or(u32::MAX);
    let mut answer = words(&[size]);
    answer.extend_from_slice(&i32::to_ne_bytes(error));
    answer.extend_from_slice(&unique.to_ne_bytes());
    answer.extend_from_slice(&reply);
    write(&device, &answer).map(drop)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct fuse_init_out` of version 7.31, with no flags.
fn init() -> Vec<u8> {
    // Version, max_readahead, flags; both background limits, max_write, time_gran.
    let mut reply = words(&[7, 31, 65536, 0, 12 | 9 << 16, 65536, 1]);
    reply.resize(64, 0);
    reply
}

/// `struct fuse_entry_out`: node and generation, how long both hold, the attributes.
fn entry() -> Vec<u8> {
    let mut reply = NODE.to_ne_bytes().to_vec();
    reply.extend_from_slice(&[0; 32]);
    reply.extend_from_slice(&attributes(NODE));
    reply
}

/// `struct fuse_attr`: the root is a folder, everything else the file.
fn attributes(node: u64) -> Vec<u8> {
    let mode = if node == 1 { 0o040_755 } else { 0o100_644 };
    let mut reply = node.to_ne_bytes().to_vec();
    // Size, blocks, three times, and three parts of them.
    reply.extend_from_slice(&[0; 52]);
    reply.extend_from_slice(&words(&[mode, 1, 0, 0, 0, 4096, 0]));
    reply
}
