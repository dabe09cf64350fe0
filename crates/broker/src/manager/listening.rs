//! A socket that a service manager has bound, and at which it listens until there is a broker.

use crate::protocol;
use jitney_memory::take_inherited;
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long those may take, all together, who are told that they are not served.
const TURN_AWAY_LIMIT: Duration = Duration::from_secs(1);

/// A socket at which somebody else has called listen(2), and which this process was started with.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl ListeningSocket {
    /// The one that was handed over under this number and name.
    pub(super) fn take(number: i32, name: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let what = format!("descriptor {number} of LISTEN_FDS ({name}): {why}");
            Error::new(ErrorKind::Invalid, what).with_remedy(
                "in the .socket unit: ListenSequentialPacket=/run/jitney/broker.sock, and no Accept=",
            )
        };
        let socket = take_inherited(number).map_err(|error| wrong(&error.to_string()))?;
        match sockopt::socket_type(&socket) {
            Ok(SocketType::SEQPACKET) if sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX) => {}
            Ok(_) => return Err(wrong("it is a socket, but no Unix socket of type SOCK_SEQPACKET")),
            Err(_) => return Err(wrong("it is no socket")),
        }
        if sockopt::socket_acceptconn(&socket) != Ok(true) {
            return Err(wrong("nobody has called listen(2) for it"));
        }
        let address = rustix::net::getsockname(&socket).ok().and_then(|address| address.try_into().ok());
        let path = address.and_then(|address: rustix::net::SocketAddrUnix| {
            address.path_bytes().map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
        });
        let path = path.ok_or_else(|| wrong("it has no path, so that no client finds it"))?;
        // The flag is of all who have the socket: the manager, on whom the service depends anyway, and nobody else.
        let flags = rustix::fs::fcntl_getfl(&socket)
            .map_err(|errno| Error::from_errno(errno, "an inherited socket"))?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)
            .map_err(|errno| Error::from_errno(errno, "an inherited socket"))?;
        Ok(Self { socket, path })
    }

    /// Tells all who wait why they are not served, and hangs up: whoever handed the socket over would start a broker for them again and
    /// again. For a broker that could not begin.
    ///
    /// Who has not said what it wants within a moment hears nothing: nobody may hold up the end of this process.
    pub fn turn_away(self, why: &Error) {
        let Ok(message) = protocol::encode_reply(0, &Err(why.clone())) else { return };
        let until = Instant::now() + TURN_AWAY_LIMIT;
        while let Ok(client) =
            rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            let mut asks = [PollFd::new(&client, PollFlags::IN)];
            // What is not read when the socket is closed makes the client hear ECONNRESET instead. If it is gone, nobody is to be told.
            let _ = rustix::event::poll(&mut asks, left.as_ref());
            let _ = rustix::net::recv(&client, &mut [0; 64][..], RecvFlags::TRUNC);
            let _ = rustix::net::send(&client, &message, SendFlags::NOSIGNAL);
        }
    }

    pub(crate) fn into_parts(self) -> (OwnedFd, PathBuf) {
        (self.socket, self.path)
    }

    /// Where clients find it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
