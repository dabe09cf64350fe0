//! Going on with a connection to a vfio-user server that another process has made.
//!
//! A server sees no difference: it is the same connection. What it may still have to say are replies to what the process
//! before had asked.

use super::connect::{TIMEOUT, prepare};
use super::connection::Connection;
use crate::error::{Error, Result};
use jitney_vfio_user::{Capabilities, DeviceFlags, DeviceInfo};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What the two sides have agreed on, and what is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionRecord {
    /// The server's socket, if connections for others can be made. A path need not be text.
    path: Option<Vec<u8>>,
    max_msg_fds: u32,
    max_data_xfer_size: u32,
    max_dma_maps: u32,
    pgsizes: u64,
    flags: u32,
    num_regions: u32,
    num_irqs: u32,
}

impl ConnectionRecord {
    pub(super) fn of(connection: &Connection) -> Self {
        let Capabilities { max_msg_fds, max_data_xfer_size, max_dma_maps, pgsizes, .. } = connection.limits;
        let DeviceInfo { flags, num_regions, num_irqs } = connection.device;
        let path = connection.path().map(|path| path.as_os_str().as_bytes().to_owned());
        let flags = flags.into_bits();
        Self { path, max_msg_fds, max_data_xfer_size, max_dma_maps, pgsizes, flags, num_regions, num_irqs }
    }
}

/// Goes on with a connection. Nothing is said on it. Without a `socket`, because nobody has kept it, it is one to a server
/// that is gone.
///
/// # Errors
/// What the system says of the socket.
pub(crate) fn resume(
    record: &ConnectionRecord,
    socket: Option<OwnedFd>,
    address: String,
) -> Result<Connection> {
    let failed = |errno| Error::from_errno(errno, format!("preparing the socket of {address}"));
    let socket = match socket {
        Some(socket) => socket,
        None => {
            tracing::warn!(address, "nobody has kept the connection to this board; the board is gone");
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?.0
        }
    };
    prepare(&socket, TIMEOUT).map_err(failed)?;
    let ConnectionRecord { max_msg_fds, max_data_xfer_size, max_dma_maps, pgsizes, .. } = *record;
    let mut connection = Connection::resumed(socket, address, TIMEOUT);
    connection.limits =
        Capabilities { max_msg_fds, max_data_xfer_size, max_dma_maps, pgsizes, ..Capabilities::default() };
    let ConnectionRecord { num_regions, num_irqs, .. } = *record;
    connection.device = DeviceInfo { flags: DeviceFlags::from_bits(record.flags), num_regions, num_irqs };
    Ok(match &record.path {
        Some(path) => connection.reachable_at(OsString::from_vec(path.clone()).into()),
        None => connection,
    })
}
