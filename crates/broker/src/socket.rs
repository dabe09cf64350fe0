//! Sockets between clients and brokers: `SOCK_SEQPACKET`, closed on exec.

use jitney_vfio::{Error, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, socketpair, sockopt};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

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
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    let socket = create(SocketFlags::CLOEXEC)?;
    rustix::net::connect(&socket, &address_of(path)?)
        .map_err(|errno| Error::from_errno(errno, format!("broker at {}", path.display())))?;
    Ok(socket)
}

pub(crate) fn address_of(path: &Path) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|errno| {
        let length = path.as_os_str().len();
        Error::from_errno(errno, format!("socket {}: its path has {length} bytes", path.display()))
            .with_remedy("choose one of at most 107 bytes")
    })
}
