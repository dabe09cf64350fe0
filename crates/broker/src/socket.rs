//! Sockets between clients and brokers: `SOCK_SEQPACKET`, closed on exec.

use jitney_vfio::{Error, Result, refuse_strangers};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, socketpair, sockopt};
use std::os::fd::{AsFd, OwnedFd};
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
