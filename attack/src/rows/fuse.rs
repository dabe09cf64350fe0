//! A file system that answers everything but the close of its only file: the least of the FUSE protocol (linux/fuse.h) that
//! gets it opened.

use super::Play;
use super::descriptors::Beside;
use crate::round::{End, Round};
use crate::stage::Stage;
use crate::villain::Role;
use anyhow::Context;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{read, write};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[("fuse", play)];

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
    if !rustix::process::getuid().is_root() || !Path::new("/dev/fuse").exists() {
        round.skip("a file system of one's own takes root and /dev/fuse");
        return Ok(());
    }
    // Mounting is root's: this villain is no other user.
    let role = Role { user: None, ..round.role("fuse", round.figure(1, 5)) };
    round.play(&role, End::Killed)
}

fn play(stage: &Stage) -> anyhow::Result<()> {
    let device = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("/dev/fuse")?;
    let folder = tempfile::tempdir()?;
    let options = CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))?;
    mount("jitney-attack", folder.path(), "fuse", MountFlags::empty(), options.as_c_str()).context("mounting")?;
    std::thread::spawn(move || while serve(&device).is_ok() {});
    let file = open(folder.path().join(NAME), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context("opening the file");
    // The open file keeps the file system; nobody finds it any more.
    unmount(folder.path(), UnmountFlags::DETACH).context("unmounting")?;
    let file = file?;
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
    // Closing the file would never end for this process either.
    std::mem::forget(file);
    stage.stay()
}

/// Answers one question of the kernel.
fn serve(device: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let size = read(device, &mut buffer)?;
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
    write(device, &answer).map(drop)
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
