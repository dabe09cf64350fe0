//! Sockets between clients and brokers: `SOCK_SEQPACKET`, closed on exec.

use jitney_host::{Root, accounts};
use jitney_vfio::{Error, Result, refuse_strangers};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, socketpair, sockopt};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a broker may take to let a program in.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A socket that is not connected yet.
pub(crate) fn create(flags: SocketFlags) -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| Error::from_errno(errno, "a new socket"))
}

/// Two sockets that are connected with each other.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|errno| Error::from_errno(errno, "a pair of sockets"))
}

/// Whether a descriptor that somebody sent is such a socket, and not another file.
pub(crate) fn is_ours(descriptor: impl AsFd) -> bool {
    sockopt::socket_domain(&descriptor) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&descriptor) == Ok(SocketType::SEQPACKET)
}

/// Connects to the broker whose socket is at `path`.
///
/// # Errors
/// `TimedOut` if nobody is let in there: a broker that was stopped has a queue that is full some day.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    connect_within(path, CONNECT_LIMIT)
}

/// As [`connect`], to a broker that nobody named: only to one that runs as this user or as root.
///
/// # Errors
/// As [`connect`], and `Denied` if it runs as another user.
pub(crate) fn connect_to_own(path: &Path) -> Result<OwnedFd> {
    let socket = connect(path)?;
    refuse_strangers(&socket, &format!("the broker at {}", path.display()))?;
    Ok(socket)
}

/// As [`connect_to_own`], at a place where there need be no broker: nothing if nobody listens there, or only for itself.
///
/// # Errors
/// As [`connect_to_own`]; `Denied` if the broker there is for a group that this process is not in.
pub(crate) fn connect_if_there(path: &Path) -> Result<Option<OwnedFd>> {
    match connect_to_own(path) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::CONNREFUSED)) => Ok(None),
        // A broker that lets in nobody but its own user says nothing to others, nor does a folder that is closed to them.
        Err(error) if error.errno() == Some(Errno::ACCESS) && invited_group(path).is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The group that the socket at `path` lets in.
fn invited_group(path: &Path) -> Option<u32> {
    let file = std::fs::symlink_metadata(path).ok()?;
    (file.mode() & 0o020 != 0).then(|| file.gid())
}

/// Why this process may not connect to `path`, and how it may.
fn not_let_in(path: &Path) -> Error {
    let error = |what: &str| Error::from_errno(Errno::ACCESS, format!("broker at {}{what}", path.display()));
    let Some(group) = invited_group(path) else {
        return error("").with_remedy("ask whoever started it: its socket lets in its own user alone");
    };
    let root = Root::default();
    let uid = rustix::process::geteuid().as_raw();
    let group_name = accounts::group_name(&root, group).unwrap_or_else(|| group.to_string());
    let user = accounts::user_name(&root, uid).unwrap_or_else(|| uid.to_string());
    let (first, others) = accounts::groups_of(&root, uid);
    if first == group || others.contains(&group) {
        error(&format!(": it lets in group {group_name}, which user {user} was not yet in at login"))
            .with_remedy(format!("log in again, or: newgrp {group_name}"))
    } else {
        error(&format!(": it lets in group {group_name}, which user {user} is not in"))
            .with_remedy(format!("sudo usermod -aG {group_name} {user}, then log in again"))
    }
}

fn connect_within(path: &Path, limit: Duration) -> Result<OwnedFd> {
    let broker = || format!("broker at {}", path.display());
    let failed = |errno| Error::from_errno(errno, broker());
    let address = address_of(path)?;
    let socket = create(SocketFlags::CLOEXEC)?;
    let began = Instant::now();
    loop {
        // With a non-blocking socket there would be nothing to wait for: poll(2) does not tell when there is room.
        let left = limit.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Send, Some(left)).map_err(failed)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::INTR) if began.elapsed() < limit => {}
            Err(Errno::AGAIN | Errno::INTR) => {
                let what = format!("{}: it has let nobody in for {limit:?}", broker());
                return Err(Error::from_errno(Errno::TIMEDOUT, what).with_remedy(
                    "see whether it was stopped (ss -xlp names its process), and let it go on or start it again",
                ));
            }
            Err(Errno::ACCESS) => return Err(not_let_in(path)),
            Err(errno) => return Err(failed(errno)),
        }
    }
    set_socket_timeout(&socket, Timeout::Send, None).map_err(failed)?;
    Ok(socket)
}

pub(crate) fn address_of(path: &Path) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|errno| {
        let length = path.as_os_str().len();
        Error::from_errno(errno, format!("socket {}: its path has {length} bytes", path.display()))
            .with_remedy("choose one of at most 107 bytes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::ErrorKind;
    use rustix::net::{bind, listen};
    use std::process::{Command, Stdio};

    #[test]
    fn a_broker_that_lets_nobody_in_is_waited_for_no_longer_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stopped.sock");
        let broker = create(SocketFlags::CLOEXEC).unwrap();
        bind(&broker, &address_of(&path).unwrap()).unwrap();
        listen(&broker, 0).unwrap();
        // Its queue holds one.
        let first = connect(&path).unwrap();
        let began = Instant::now();
        let error = connect_within(&path, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("ETIMEDOUT"), "{text}");
        assert!((200..5000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        // What is sent later has no limit of its own, and who is let in late is let in.
        let limit = rustix::net::sockopt::socket_timeout(&first, Timeout::Send).unwrap();
        assert_eq!(limit, None);
        std::thread::scope(|scope| {
            let late = scope.spawn(|| connect(&path));
            let _first = rustix::net::accept(&broker).unwrap();
            late.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_broker_of_another_user_is_used_by_name_only() {
        let has_python = Command::new("python3").arg("--version").output().is_ok();
        if !rustix::process::geteuid().is_root() || !has_python {
            println!(
                "skipped: this takes root, to start a listener as another user, and python3 to be that listener"
            );
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broker.sock");
        // It binds as root and listens as another user, which is what counts.
        let script = format!(
            "import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind({:?})
os.setuid(4711)
s.listen()
print('listening', flush=True)
sys.stdin.read()",
            path.display().to_string()
        );
        let mut stranger = Command::new("python3")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stranger.stdout.take().unwrap()), &mut line)
            .unwrap();
        let found = connect_to_own(&path);
        let named = connect(&path);
        drop(stranger.stdin.take());
        stranger.wait().unwrap();
        let error = found.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("a process of user 4711"), "{error}");
        assert!(named.is_ok());
    }
}
