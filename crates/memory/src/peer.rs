//! Who is at the other end of a Unix socket: see `unix(7)`, `SO_PEERCRED`, and include/net/sock.h for the rest.
//!
//! The calls are made here and not by rustix, because what the kernel says does not fit its type: a peer that has no
//! number in this process's pid namespace (a client outside of the broker's container) has pid 0.

#![expect(unsafe_code, reason = "getsockopt fills memory and makes a descriptor")]

use crate::error::{Error, Result};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Who connected, as the kernel noted it at that moment. Nobody can forge it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// Its process, by its number in this process's pid namespace; nothing if it has none there. The number may belong
    /// to another process by now: it is for messages, and [`Peer::process`] for watching.
    pub pid: Option<NonZero<u32>>,
    /// Its effective user. One that has no number in this process's user namespace shows as 65534.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// The process at the other end of a connected Unix socket, or the one that made the other end of a pair.
#[derive(Debug)]
pub struct Peer {
    /// Who it is.
    pub credentials: PeerCredentials,
    /// A pidfd, which becomes readable when the process ends. It is that process and no later one of the same number
    /// where the kernel can tell (6.5). Nothing if an older kernel has no number for it here.
    pub process: Option<OwnedFd>,
}

impl PeerCredentials {
    /// Those of the peer of `socket`.
    ///
    /// # Errors
    /// `ENOTCONN` if `socket` was never connected; what else `getsockopt` answers.
    pub fn of(socket: impl AsFd) -> Result<Self> {
        let socket = socket.as_fd();
        let mut credentials = [0; 3];
        words(socket, libc::SO_PEERCRED, &mut credentials).map_err(|errno| failed("SO_PEERCRED", errno))?;
        let (pid, uid, gid) = read(credentials)?;
        Ok(Self { pid, uid, gid, groups: groups(socket)? })
    }
}

impl Peer {
    /// The peer of `socket`.
    ///
    /// # Errors
    /// As [`PeerCredentials::of`], and `ESRCH` if the process has ended.
    pub fn of(socket: impl AsFd) -> Result<Self> {
        let socket = socket.as_fd();
        let credentials = PeerCredentials::of(socket)?;
        let process = match pidfd(socket) {
            // Linux before 6.5.
            Err(Errno::NOPROTOOPT) => open(credentials.pid)?,
            // What Linux before 6.16 says of a process that has ended.
            Err(Errno::INVAL) => return Err(failed("SO_PEERPIDFD", Errno::SRCH)),
            Err(errno) => return Err(failed("SO_PEERPIDFD", errno)),
            Ok(process) => Some(process),
        };
        Ok(Self { credentials, process })
    }
}

/// Pid, user and group out of the words of a `struct ucred`.
fn read([pid, uid, gid]: [u32; 3]) -> Result<(Option<NonZero<u32>>, u32, u32)> {
    // No user has this number; the kernel fills it in where there was no peer.
    if uid == u32::MAX {
        return Err(failed("SO_PEERCRED", Errno::NOTCONN));
    }
    Ok((NonZero::new(pid), uid, gid))
}

fn groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>> {
    let mut groups = vec![0; 32];
    loop {
        match words(socket, libc::SO_PEERGROUPS, &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // At most 65536 (NGROUPS_MAX).
            Err(Errno::RANGE) if groups.len() < 1 << 17 => groups.resize(groups.len() * 4, 0),
            Err(errno) => return Err(failed("SO_PEERGROUPS", errno)),
        }
    }
}

fn pidfd(socket: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Errno> {
    let mut answer = [0];
    words(socket, libc::SO_PEERPIDFD, &mut answer)?;
    // SAFETY: the kernel made this descriptor for this call, closed on exec, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer[0].cast_signed()) })
}

fn open(pid: Option<NonZero<u32>>) -> Result<Option<OwnedFd>> {
    let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.get().cast_signed())) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(errno) => Err(Error::system("pidfd_open", format!("of the peer, process {pid}"), errno)),
    }
}

/// Reads a socket option that is made of 32-bit words, and says how many came.
fn words(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    words: &mut [u32],
) -> std::result::Result<usize, Errno> {
    let size = size_of_val(words);
    let mut length = libc::socklen_t::try_from(size).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel writes at most `length` bytes to `words`, which has as many and is borrowed for the call, and
    // any bytes are a `u32`; then it writes how many it was to `length`.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    match answer {
        0 => Ok((length as usize / size_of::<u32>()).min(words.len())),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

fn failed(option: &'static str, errno: Errno) -> Error {
    Error::system("getsockopt", format!("{option} of a peer"), errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_of_another_pid_namespace_has_no_number_here() {
        assert_eq!(read([0, 1000, 100]).unwrap(), (None, 1000, 100));
        assert_eq!(read([7, 0, 0]).unwrap(), (NonZero::new(7), 0, 0));
        assert_eq!(read([0, u32::MAX, u32::MAX]).unwrap_err().errno(), Some(Errno::NOTCONN));
    }

    #[test]
    fn without_the_kernels_help_the_process_is_found_by_its_number() {
        assert!(open(NonZero::new(std::process::id())).unwrap().is_some());
        assert!(open(None).unwrap().is_none());
        // The largest number that a process can have is 2^22 (include/linux/threads.h).
        assert_eq!(open(NonZero::new(1 << 23)).unwrap_err().errno(), Some(Errno::SRCH));
    }
}
