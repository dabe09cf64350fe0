//! The ways into a broker: sockets with names, and doors that child processes inherit.

use super::closer::{Closer, Source};
use super::door::{self, Door};
use super::listener::Listener;
use super::token::Token;
use crate::machine::Way;
use crate::manager::ListeningSocket;
use jitney_vfio::Result;
use rustix::event::epoll;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

#[derive(Default)]
pub(super) struct Entrances {
    open: HashMap<u64, Entrance>,
    next: u64,
    /// Who comes waits where it is.
    paused: bool,
}

enum Entrance {
    Listener(Listener),
    Door(OwnedFd),
}

impl Entrances {
    pub(super) fn listen(
        &mut self,
        path: &Path,
        mode: u32,
        group: Option<u32>,
        poll: impl AsFd,
    ) -> Result<()> {
        self.open_listener(Listener::bind(path, mode, group)?, poll)
    }

    pub(super) fn listen_at(&mut self, socket: ListeningSocket, poll: impl AsFd) -> Result<()> {
        self.open_listener(Listener::inherited(socket), poll)
    }

    /// Goes on with a socket that a broker before this one has bound.
    pub(super) fn resume(
        &mut self,
        number: u64,
        socket: OwnedFd,
        lock: OwnedFd,
        poll: impl AsFd,
    ) -> Result<()> {
        self.next = self.next.max(number);
        self.open_as(number, Listener::resume(socket, lock)?, poll)
    }

    /// The sockets that this broker has bound, with their numbers and locks.
    pub(super) fn bound(&self) -> impl Iterator<Item = (u64, &Listener, BorrowedFd<'_>)> {
        self.open.iter().filter_map(|(number, entrance)| match entrance {
            Entrance::Listener(listener) => Some((*number, listener, listener.lock()?)),
            Entrance::Door(_) => None,
        })
    }

    fn open_listener(&mut self, listener: Listener, poll: impl AsFd) -> Result<()> {
        let number = self.number();
        self.open_as(number, listener, poll)
    }

    fn open_as(&mut self, number: u64, listener: Listener, poll: impl AsFd) -> Result<()> {
        super::watch(poll, &listener, Token::Entrance(number))?;
        self.open.insert(number, Entrance::Listener(listener));
        Ok(())
    }

    pub(super) fn door(&mut self, poll: impl AsFd) -> Result<Door> {
        let (inside, door) = Door::new()?;
        let number = self.number();
        super::watch(poll, &inside, Token::Entrance(number))?;
        self.open.insert(number, Entrance::Door(inside));
        Ok(door)
    }

    /// Whether who comes waits outside, as long as nobody could be kept for a broker that comes after this one.
    pub(super) fn pause(&mut self, pause: bool, poll: impl AsFd) {
        if std::mem::replace(&mut self.paused, pause) == pause {
            return;
        }
        let flags = if pause { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        for (number, entrance) in &self.open {
            let data = epoll::EventData::new_u64(Token::Entrance(*number).into_u64());
            let changed = match entrance {
                Entrance::Listener(listener) => epoll::modify(poll.as_fd(), listener, data, flags),
                Entrance::Door(inside) => epoll::modify(poll.as_fd(), inside, data, flags),
            };
            if let Err(errno) = changed {
                tracing::error!(%errno, "an entrance cannot be paused");
            }
        }
    }

    /// Whether who comes cannot be let in, nor be hung up on, for lack of descriptors.
    pub(super) fn are_starved(&mut self) -> bool {
        self.open.values_mut().any(|entrance| match entrance {
            Entrance::Listener(listener) => listener.is_starved(),
            Entrance::Door(_) => false,
        })
    }

    /// Who is next at an entrance, if anybody is.
    pub(super) fn next(&mut self, number: u64, closer: &Closer) -> Option<(OwnedFd, Way)> {
        match self.open.get_mut(&number)? {
            Entrance::Listener(listener) => listener.accept(closer).map(|socket| (socket, Way::Listener)),
            Entrance::Door(inside) => match door::admit(inside, closer) {
                door::Knock::Client(socket) => Some((socket, Way::Door)),
                door::Knock::Nothing => None,
                door::Knock::Closed => {
                    self.close(number, closer);
                    None
                }
            },
        }
    }

    /// Lets nobody in any more.
    pub(super) fn close_all(&mut self, closer: &Closer) {
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(number, closer);
        }
    }

    fn close(&mut self, number: u64, closer: &Closer) {
        // There may be knocks in it that nobody has heard, with whatever came along.
        if let Some(Entrance::Door(inside)) = self.open.remove(&number) {
            closer.strange(Source::Door, vec![inside]);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}
