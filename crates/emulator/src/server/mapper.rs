//! Which connection gives a board memory to reach.
//!
//! One at a time: the first that opened the board, until it ends. A broker is that one, and hands its clients further
//! connections of the same board; one of theirs that could map as well would put itself between the broker and the
//! addresses that it gives out. So a connection takes the role only if nobody else has held it since the connection was
//! accepted, and if the process that made the connection is still there: a client that holds on to what its broker gave it
//! does not inherit the role when the broker ends, however long it waits and whether or not it has said a word. The next
//! program that connects takes it.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jitney_memory::Peer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::host::{ConnectionId, Link};

/// Whether a connection may still become the one that maps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(Option<u64>);

#[derive(Debug, Default)]
struct Role {
    holder: Option<(ConnectionId, Arc<Link>)>,
    /// How often the role was taken.
    taken: u64,
}

/// The role of the connection that maps.
#[derive(Debug, Default)]
pub(crate) struct MapperRole(Mutex<Role>);

impl MapperRole {
    fn role(&self) -> MutexGuard<'_, Role> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a connection that comes now. One that comes while the holder has hung up and is not cleared away yet counts as
    /// coming after it.
    pub(crate) fn ticket(&self) -> Ticket {
        let role = self.role();
        let held = role.holder.as_ref().is_some_and(|(_, link)| !link.hung_up());
        Ticket((!held).then_some(role.taken))
    }

    /// A connection opens the board; answers whether it maps from now on.
    pub(crate) fn claim(&self, id: ConnectionId, link: &Arc<Link>, ticket: Ticket) -> bool {
        let mut role = self.role();
        let free = role.holder.is_none() && ticket.0 == Some(role.taken) && maker_is_there(link);
        if free {
            role.holder = Some((id, Arc::clone(link)));
            role.taken += 1;
        }
        free
    }

    /// A connection has ended, and what it mapped is gone.
    pub(crate) fn leave(&self, id: ConnectionId) {
        self.role().holder.take_if(|(holder, _)| *holder == id);
    }
}

/// Whether the process that made a connection has not ended, as far as the kernel can tell: what a broker connects in
/// its last moments may be accepted after it.
fn maker_is_there(link: &Link) -> bool {
    match Peer::of(link.socket()) {
        Ok(Peer { process: Some(process), .. }) => {
            let mut poll = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut poll, Some(&now)) != Ok(1)
        }
        Ok(_) => true,
        Err(error) => error.errno() != Some(Errno::SRCH),
    }
}
