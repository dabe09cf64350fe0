//! The socket that child processes inherit.
//!
//! A child does not talk over it, since it may share it with its own children. It makes a pair of connected sockets and
//! sends one end through the door; that end is a client's connection, and the kernel says which process made it.

use super::closer::{Closer, Source};
use crate::socket;
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

/// The number that the socket has in a child that inherits nothing else.
const CHILD_DESCRIPTOR: i32 = 3;
/// What is sent through the door, so that a message is not empty.
const KNOCK: u8 = b'j';

/// The outside of a door into a broker. A process that inherits it, and every descendant, can connect.
#[derive(Debug)]
pub struct Door(OwnedFd);

impl Door {
    pub(super) fn new() -> Result<(OwnedFd, Self)> {
        let (inside, outside) = socket::pair()?;
        Ok((inside, Self(outside)))
    }

    /// Lets the program that `command` will start, and its children, find the broker: with
    /// [`Bus::open`](crate::Bus::open) or by the environment variable `JITNEY_BROKER`. The program inherits this one
    /// socket and nothing else.
    ///
    /// # Errors
    /// What the system says.
    pub fn hand_to(&self, command: &mut Command) -> Result<()> {
        self.hand_to_as(command, CHILD_DESCRIPTOR)
    }

    /// The same, where the program inherits other descriptors, too: the socket has `number`, which has to be free among
    /// them.
    ///
    /// # Errors
    /// What the system says.
    pub fn hand_to_as(&self, command: &mut Command, number: i32) -> Result<()> {
        use command_fds::{CommandFdExt, FdMapping};
        let parent_fd = self.0.try_clone().map_err(|error| super::io(&error))?;
        command
            .fd_mappings(vec![FdMapping { parent_fd, child_fd: number }])
            .map_err(|error| Error::new(jitney_vfio::ErrorKind::Invalid, error.to_string()))?;
        command.env(crate::BROKER_VARIABLE, format!("fd:{number}"));
        Ok(())
    }
}

/// What came through a door.
pub(super) enum Knock {
    Client(OwnedFd),
    Nothing,
    Closed,
}

/// Takes in the next client at the `inside` of a door. What else comes goes to `closer`.
pub(super) fn admit(inside: impl AsFd, closer: &Closer) -> Knock {
    let mut byte = [0; 16];
    let received = match descriptors::receive_all(&inside, &mut byte, Wait::Never) {
        Ok(received) => received,
        Err(error) if error.peer_gone() => return Knock::Closed,
        Err(error) => {
            if !error.would_block() {
                tracing::debug!(%error, "somebody knocked in a way that nobody understands");
            }
            return Knock::Nothing;
        }
    };
    let mut strange = received.descriptors;
    // The end, or an empty message, which anybody can send and which must not shut the others out.
    if received.len == 0 && strange.is_empty() && hung_up(&inside) {
        return Knock::Closed;
    }
    let is_client = strange.len() == 1 && strange.first().is_some_and(socket::is_ours);
    let client = if is_client { strange.pop() } else { None };
    closer.strange(Source::Door, strange);
    client.map_or(Knock::Nothing, Knock::Client)
}

/// Whether nobody can knock any more.
fn hung_up(inside: impl AsFd) -> bool {
    let mut poll = [PollFd::new(&inside, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // If that fails the next message shows it.
    rustix::event::poll(&mut poll, Some(&now)).is_ok()
        && poll[0].revents().intersects(PollFlags::HUP | PollFlags::RDHUP)
}

/// Connects through the outside of a door.
pub(crate) fn knock(outside: impl AsFd) -> Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    descriptors::send(outside, &[IoSlice::new(&[KNOCK])], &[theirs.as_fd()], Wait::Block)?;
    Ok(ours)
}
