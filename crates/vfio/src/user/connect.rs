//! From a socket's path, or a connected socket, to a connection that both sides have agreed on.

use super::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::trust::refuse_strangers;
use jitney_vfio_user::{DeviceInfo, Request, Version};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How long a server may take for anything. QEMU gives its servers the same.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest path of a socket, in bytes: `sun_path` without its terminating zero (unix(7)).
const LONGEST_PATH: usize = 107;

/// Connects to the vfio-user server at `path` and agrees with it on a version.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such socket or nobody listens on it, [`ErrorKind::Invalid`] if the path is
/// longer than 107 bytes, [`ErrorKind::Denied`] if its permissions forbid it, and as [`negotiate`].
pub fn connect(path: &Path) -> Result<Connection> {
    agree(socket_to(path)?, path)
}

/// As [`connect`], but only to a server that runs as this process's user or as root. Nothing is said to another one.
///
/// # Errors
/// As [`connect`], and [`ErrorKind::Denied`] if it runs as another user.
pub fn connect_to_own(path: &Path) -> Result<Connection> {
    let socket = socket_to(path)?;
    refuse_strangers(&socket, &format!("the board at {}", path.display()))?;
    agree(socket, path)
}

fn agree(socket: OwnedFd, path: &Path) -> Result<Connection> {
    let connection = negotiate_within(socket, format!("vfio-user:{}", path.display()), TIMEOUT)?;
    Ok(connection.reachable_at(path.to_owned()))
}

/// Agrees on a version over a connected `SOCK_STREAM` socket on which nothing was said yet, as a broker hands it to its
/// clients. `address` is what errors call the card.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the server speaks another major version or serves something else than a PCI device,
/// [`ErrorKind::TimedOut`] if it does not answer within 5 seconds, [`ErrorKind::LinkDown`] if it hangs up,
/// [`ErrorKind::Protocol`] if what it says makes no sense.
pub fn negotiate(socket: OwnedFd, address: String) -> Result<Connection> {
    negotiate_within(socket, address, TIMEOUT)
}

pub(super) fn negotiate_within(socket: OwnedFd, address: String, timeout: Duration) -> Result<Connection> {
    prepare(&socket, timeout)
        .map_err(|errno| Error::from_errno(errno, format!("preparing the socket of {address}")))?;
    let proposed = Version::ours();
    let mut connection = Connection::new(socket, address, timeout);
    let agreed =
        connection.call(&Request::Version(proposed), &[], 0, |body, _| match Version::decode(body) {
            Ok(answer) => Ok(proposed.accept(&answer).map(|()| answer)),
            Err(error) => Err(error),
        })?;
    let agreed = agreed.map_err(|error| {
        Error::new(ErrorKind::Unsupported, format!("{}: {error}", connection.address()))
            .with_remedy("use a server that speaks vfio-user 0.x")
    })?;
    connection.limits = agreed.capabilities;
    connection.device = connection.call(&Request::DeviceInfo, &[], 16, |body, _| DeviceInfo::decode(body))?;
    if !connection.device.flags.pci() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} is no PCI device, says the process that emulates it", connection.address()),
        ));
    }
    Ok(connection)
}

/// A fresh connection to the server at `path`, on which nothing was said yet.
pub(super) fn socket_to(path: &Path) -> Result<OwnedFd> {
    let length = path.as_os_str().as_bytes().len();
    if length > LONGEST_PATH {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the socket path {} has {length} bytes, {LONGEST_PATH} are possible", path.display()),
        )
        .with_remedy("put the socket into a directory with a shorter name"));
    }
    let failed = |errno| {
        let what = format!("connecting to the socket {}", path.display());
        match errno {
            Errno::NOENT => {
                Error::from_errno(errno, what).with_remedy("start the process that emulates the card first")
            }
            Errno::CONNREFUSED => Error::new(ErrorKind::NotFound, format!("{what}: nobody listens there"))
                .with_errno(errno)
                .with_remedy("the process that emulated the card has ended; start it again"),
            Errno::PROTOTYPE => {
                Error::new(ErrorKind::Invalid, format!("{what}: it is no vfio-user server's"))
                    .with_errno(errno)
            }
            _ => Error::from_errno(errno, what),
        }
    };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    // A server that accepts nobody would make `connect` wait for ever once its backlog is full.
    set_socket_timeout(&socket, Timeout::Send, Some(TIMEOUT)).map_err(failed)?;
    connect_socket(&socket, &address).map_err(failed)?;
    Ok(socket)
}

/// Time limits are the socket's own, so that a register access needs no further system call for them.
pub(super) fn prepare(socket: &OwnedFd, timeout: Duration) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(socket)?;
    rustix::fs::fcntl_setfl(socket, flags - OFlags::NONBLOCK)?;
    set_socket_timeout(socket, Timeout::Recv, Some(timeout))?;
    set_socket_timeout(socket, Timeout::Send, Some(timeout))
}
