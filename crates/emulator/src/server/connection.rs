//! One connection: reads messages until the client is gone or talks nonsense, then clears up after it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use jitney_memory::descriptors::{self, Wait};
use jitney_vfio_user::{FrameError, Frames, Header, HeaderFlags, MAX_MESSAGE_FDS, errno};

use super::board::Board;
use super::session::{End, Session};
use crate::host::{ConnectionId, Link};

/// A message longer than this makes the buffer grow; afterwards it is given back.
const KEPT: u32 = 16 << 10;

/// Serves one client to its end.
pub(crate) fn serve(board: &Board, link: &Arc<Link>) {
    let id = board.new_connection();
    let _farewell = Farewell { board, link, id };
    tracing::debug!("connection {} begins", id.0);
    match converse(board, link, id) {
        Ok(()) => tracing::debug!("connection {} ends", id.0),
        Err(end) => tracing::warn!("connection {} is dropped: {end}", id.0),
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

fn converse(board: &Board, link: &Arc<Link>, id: ConnectionId) -> Result<(), End> {
    let mut session = Session::new(board, link, id);
    let mut frames = Frames::new();
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    loop {
        let message = match frames.next_message() {
            Ok(message) => message,
            Err(error) => return refuse(&mut session, &error),
        };
        if let Some(message) = message {
            let size = message.header.size;
            session.handle(message, std::mem::take(&mut descriptors))?;
            // Messages are read one at a time, so nothing of the next is in the buffer.
            if size > KEPT {
                frames = Frames::new();
            }
            continue;
        }
        let room = MAX_MESSAGE_FDS as usize - descriptors.len();
        let part = match descriptors::receive(link.socket(), frames.space(), room, Wait::Block) {
            Ok(part) => part,
            Err(error) if error.peer_gone() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if part.len == 0 {
            return Ok(());
        }
        frames.filled(part.len);
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
