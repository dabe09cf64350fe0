//! Memory that is there before it is needed: an allocation that fails ends the process, and with it everybody's cards.

use crate::protocol::Request;
use jitney_vfio::{Error, ErrorKind};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::hint::black_box;

/// What a request and everything that follows from it take at most, many times over.
const ROOM: usize = 4 << 20;

/// Looks whether there is memory for what a client asks for.
///
/// Only where this process has a limit of its own (`ulimit -v`, `-d`). Elsewhere the kernel promises memory that it may not have, and ends
/// somebody when it is touched; docs/limits.md says what follows from that.
#[derive(Debug)]
pub(super) struct Headroom {
    is_limited: bool,
}

impl Headroom {
    pub(super) fn new() -> Self {
        let limits = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
        Self { is_limited: limits.iter().any(Option::is_some) }
    }

    /// # Errors
    /// [`ErrorKind::Exhausted`] with ENOMEM, for the client.
    pub(super) fn check(&self) -> Result<(), Error> {
        // Shown to somebody: the compiler may leave out memory that nobody uses, and take it for had.
        if !self.is_limited || black_box(&mut Vec::<u8>::new()).try_reserve_exact(ROOM).is_ok() {
            return Ok(());
        }
        let what = "the broker has as much memory as it may have, and takes nothing on";
        let remedy = "end programs that are not needed any more, or start it with a higher limit (ulimit -v, ulimit -d)";
        Err(Error::new(ErrorKind::Exhausted, what).with_errno(Errno::NOMEM).with_remedy(remedy))
    }

    /// Whether a request is carried out whatever memory there is: it gives something back.
    pub(super) fn frees(request: &Request) -> bool {
        match request {
            Request::Close { .. }
            | Request::Free { .. }
            | Request::Release { .. }
            | Request::Silence { .. }
            | Request::Withdraw { .. }
            | Request::Unshare { .. }
            | Request::Reset { .. }
            | Request::Goodbye => true,
            Request::Hello { .. }
            | Request::Cards { .. }
            | Request::Open { .. }
            | Request::Allocate { .. }
            | Request::Lease { .. }
            | Request::Wire { .. }
            | Request::Usage { .. }
            | Request::Share { .. }
            | Request::Attach { .. }
            | Request::Tallies
            | Request::Traffic { .. } => false,
        }
    }
}
