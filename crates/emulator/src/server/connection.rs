//! One connection: reads messages until the client is gone or talks nonsense, then clears up after it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use jitney_memory::descriptors::{self, Wait};
use jitney_vfio_user::{FrameError, Frames, Header, HeaderFlags, MAX_MESSAGE_FDS, errno};

use super::board::{Arrival, Board};
use super::session::{End, Session};
use crate::host::{ConnectionId, Link};

/// A message longer than this makes the buffer grow; afterwards it is given back.
const KEPT: u32 = 16 << 10;

/// What is read at the beginning of a message, whatever its length: all of a register access of four bytes, so that it
/// takes one system call and not one for the header and one for the rest.
///
/// The start of a next message may come along, and descriptors with it. Still they find theirs: the two commands that
/// take descriptors have 48 bytes (`DMA_MAP`) and 36 or more (`DEVICE_SET_IRQS`), so only one of them can begin in what
/// is read, and the kernel does not read on behind bytes that came with descriptors.
const FIRST: usize = 36;

/// Serves one client to its end.
pub(crate) fn serve(board: &Board, link: &Arc<Link>, arrival: Arrival) {
    let id = arrival.id;
    let _farewell = Farewell { board, link, id };
    tracing::debug!("connection {} begins", id.0);
    match converse(board, link, arrival) {
        Ok(()) => tracing::debug!("connection {} ends", id.0),
        Err(end) => {
            crate::limited::warn_limited!("connection {} of {} is dropped: {end}", id.0, link.client())
        }
    }
}

/// Clears up, also after a panic in a function.
struct Farewell<'a> {
    board: &'a Board,
    link: &'a Link,
    id: ConnectionId,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        // First of all, so that no engine waits for the client any more.
        self.link.close();
        self.board.close(self.id);
    }
}

fn converse(board: &Board, link: &Arc<Link>, arrival: Arrival) -> Result<(), End> {
    let mut session = Session::new(board, link, arrival);
    let mut frames = Frames::new();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut greeting = Some(Instant::now());
    loop {
        let message = match frames.next_message() {
            Ok(message) => message,
            Err(error) => return refuse(&mut session, &error),
        };
        if let Some(message) = message {
            let size = message.header.size;
            session.handle(message, &mut descriptors)?;
            if session.is_open() && greeting.take().is_some() {
                link.socket().set_read_timeout(None).map_err(End::Clock)?;
            }
            if !frames.is_partial() {
                // What nobody took is nobody's.
                descriptors.clear();
                if size > KEPT {
                    frames = Frames::new();
                }
            }
            continue;
        }
        let room = MAX_MESSAGE_FDS as usize - descriptors.len();
        let mut first = [0; FIRST];
        let at_start = !frames.is_partial();
        let space = if at_start { &mut first[..] } else { frames.space() };
        if let Some(since) = greeting {
            // Of connections there are only so many: one that says nothing does not keep its place.
            let left = link.patience().saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(End::Silent(link.patience()));
            }
            link.socket().set_read_timeout(Some(left)).map_err(End::Clock)?;
        }
        let part = match descriptors::receive(link.socket(), space, room, Wait::Block) {
            Ok(part) => part,
            Err(error) if error.would_block() => continue,
            Err(error) if error.peer_gone() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if part.len == 0 {
            return Ok(());
        }
        if at_start {
            frames.push(&first[..part.len]);
        } else {
            frames.filled(part.len);
        }
        descriptors.extend(part.descriptors);
    }
}

/// Answers a message whose size cannot be: nothing after it can be understood.
fn refuse(session: &mut Session<'_>, error: &FrameError) -> Result<(), End> {
    let (id, command, size, errno) = match *error {
        FrameError::Undersized { id, command, size } => (id, command, size, errno::EINVAL),
        FrameError::Oversized { id, command, size, .. } => (id, command, size, errno::E2BIG),
        _ => (0, 0, 0, errno::EINVAL),
    };
    session.end(&Header { id, command, size, flags: HeaderFlags::new(), error: 0 }, errno, error.to_string())
}
