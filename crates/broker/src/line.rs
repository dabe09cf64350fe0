//! The line from a client to its broker: requests go out with numbers, replies come back with the same, in any order.
//!
//! Any number of threads ask at a time. One of those that wait reads for all of them, and when its own reply is there the next one
//! does. So there is no thread that only reads, and who waits long does not hold up others.

use crate::protocol::{self, Message, Notice, Reply, Request};
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most requests to whose replies nobody listens. The broker drops a client that lets 128 replies wait.
const MOST_POSTED: usize = 16;
/// The most requests that are under way. The broker refuses more than 64.
const MOST_UNDER_WAY: usize = 56;

pub(crate) struct Line {
    socket: OwnedFd,
    /// The process that the connection belongs to.
    process: u32,
    state: Mutex<State>,
    changed: Condvar,
    heard: Box<dyn Fn(Notice) + Send + Sync>,
}

#[derive(Default)]
struct State {
    last_number: u64,
    /// What somebody waits for, and what has come for them.
    awaited: HashMap<u64, Option<Answer>>,
    /// What nobody waits for: a failure is logged when it comes.
    posted: HashMap<u64, Request>,
    /// What somebody has given up waiting for: what comes is given back.
    abandoned: HashMap<u64, Request>,
    /// Somebody reads.
    reading: bool,
    /// Why there will be no more replies.
    ended: Option<Error>,
    /// What is read into, while nobody reads.
    buffer: Vec<u8>,
}

struct Answer {
    reply: Result<Reply>,
    descriptors: Vec<OwnedFd>,
}

/// How a look at the socket ended.
enum Looked {
    Came,
    Nothing,
    /// A signal's handler ran. Whoever installs one without SA_RESTART wants waits to end.
    Interrupted,
}

impl Line {
    /// `heard` is called with what the broker says without having been asked.
    pub(crate) fn new(socket: OwnedFd, heard: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self {
            socket,
            process: std::process::id(),
            state: Mutex::default(),
            changed: Condvar::new(),
            heard: Box::new(heard),
        }
    }

    /// Sets how long a reply may take; without a limit it may take for ever.
    pub(crate) fn limit_waiting(&self, limit: Option<Duration>) -> Result<()> {
        set_socket_timeout(&self.socket, Timeout::Recv, limit)
            .map_err(|errno| Error::from_errno(errno, "the time limit of the link to the broker"))
    }

    /// Whether this process has the connection, and did not inherit it by a fork.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// What the broker answers; [`ErrorKind::Disconnected`] if it is gone, or in a process that was forked from the one that
    /// has the connection; [`ErrorKind::System`] with `EINTR` if a signal's handler ran that was installed without `SA_RESTART`.
    pub(crate) fn exchange(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        loop {
            let Answer { reply, descriptors } = self.exchange_once(request, descriptor)?;
            match reply {
                Err(error) if protocol::was_lost(&error) => {}
                reply => return Ok((reply?, descriptors)),
            }
        }
    }

    fn exchange_once(&self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<Answer> {
        let number = self.send(request, descriptor, |state, number| {
            state.awaited.insert(number, None);
        })?;
        let mut state = self.state();
        loop {
            if let Some(answer) = state.awaited.get_mut(&number).and_then(Option::take) {
                state.awaited.remove(&number);
                return Ok(answer);
            }
            if let Some(error) = &state.ended {
                let error = error.clone();
                state.awaited.remove(&number);
                return Err(error);
            }
            let (next, looked) = self.look(state, Wait::Interruptible);
            state = next;
            match looked {
                Ok(Looked::Came | Looked::Nothing) => {}
                Ok(Looked::Interrupted) => {
                    state.awaited.remove(&number);
                    state.abandoned.insert(number, request.clone());
                    drop(state);
                    if matches!(request, Request::Lease { wait: 1.., .. }) {
                        self.post(&Request::Withdraw { number })?;
                    }
                    return Err(Error::from_errno(Errno::INTR, "a request to the broker")
                        .with_remedy("ask again, unless the signal was to end this"));
                }
                Err(error) => {
                    state.awaited.remove(&number);
                    return Err(error);
                }
            }
        }
    }

    /// Sends a request for memory and waits for its reply.
    pub(crate) fn allocate(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let some_on_the_way_back = !self.state().posted.is_empty();
        match self.exchange(request, None) {
            // What is short may be what they still had.
            Err(error) if some_on_the_way_back && error.kind() == ErrorKind::Exhausted => {
                self.settle(0)?;
                self.exchange(request, None)
            }
            outcome => outcome,
        }
    }

    /// Sends a request whose reply nobody waits for. If it is a failure it is logged when it comes.
    pub(crate) fn post(&self, request: &Request) -> Result<()> {
        self.settle(MOST_POSTED - 1)?;
        self.send(request, None, |state, number| {
            state.posted.insert(number, request.clone());
        })?;
        Ok(())
    }

    /// Whether the reply to such a request, for which nobody waits, has not come yet.
    pub(crate) fn is_posted(&self, request: &Request) -> bool {
        self.state().posted.values().any(|posted| posted == request)
    }

    /// Takes in what has come, without waiting.
    pub(crate) fn take_in(&self) -> Result<()> {
        let mut state = self.state();
        while state.ended.is_none() && !state.reading {
            let (next, looked) = self.look(state, Wait::Never);
            state = next;
            match looked? {
                Looked::Came => {}
                Looked::Nothing | Looked::Interrupted => break,
            }
        }
        Ok(())
    }

    /// Whether the broker is still there, as far as was heard.
    pub(crate) fn check(&self) -> Result<()> {
        self.state().ended.clone().map_or(Ok(()), Err)
    }

    /// Waits until at most `rest` of the posted requests are not answered.
    fn settle(&self, rest: usize) -> Result<()> {
        let mut state = self.state();
        while state.posted.len() > rest {
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            let (next, looked) = self.look(state, Wait::Block);
            state = next;
            looked?;
        }
        Ok(())
    }

    fn send(
        &self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
        note: impl FnOnce(&mut State, u64),
    ) -> Result<u64> {
        if !self.is_ours() {
            let what = format!(
                "the link to the broker belongs to process {}, of which this one was forked",
                self.process
            );
            return Err(Error::new(ErrorKind::Disconnected, what)
                .with_remedy("open a bus of its own in the forked process"));
        }
        let mut state = self.state();
        while state.awaited.len() + state.posted.len() + state.abandoned.len() >= MOST_UNDER_WAY {
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            let (next, looked) = self.look(state, Wait::Block);
            state = next;
            looked?;
        }
        state.last_number += 1;
        let number = state.last_number;
        note(&mut state, number);
        drop(state);
        let sent = protocol::encode_request(number, request).and_then(|message| {
            let with: &[BorrowedFd<'_>] = descriptor.as_slice();
            descriptors::send(&self.socket, &[IoSlice::new(&message)], with, Wait::Block).map_err(gone)
        });
        if let Err(error) = sent {
            let mut state = self.state();
            state.awaited.remove(&number);
            state.posted.remove(&number);
            // The broker's last word says more than that it has hung up.
            let (mut state, _) = self.look(state, Wait::Never);
            return Err(state.ended.take().inspect(|last| state.ended = Some(last.clone())).unwrap_or(error));
        }
        Ok(number)
    }

    /// Reads one message, or waits until somebody else has.
    fn look<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        wait: Wait,
    ) -> (MutexGuard<'a, State>, Result<Looked>) {
        if state.reading {
            return match wait {
                Wait::Never => (state, Ok(Looked::Nothing)),
                _ => (self.changed.wait(state).unwrap_or_else(PoisonError::into_inner), Ok(Looked::Came)),
            };
        }
        state.reading = true;
        let mut buffer = std::mem::take(&mut state.buffer);
        drop(state);
        buffer.resize(protocol::MAX_MESSAGE, 0);
        let received = self.receive(&mut buffer, wait);
        let mut state = self.state();
        (state.reading, state.buffer) = (false, buffer);
        let looked = match received {
            Ok(Some((message, descriptors))) => {
                self.take(&mut state, message, descriptors);
                Ok(Looked::Came)
            }
            Ok(None) => Ok(Looked::Nothing),
            Err(error) if error.errno() == Some(Errno::INTR) => Ok(Looked::Interrupted),
            Err(error) => {
                // A limit that is met says nothing about who waits for something else.
                if error.kind() != ErrorKind::TimedOut {
                    state.ended.get_or_insert(error.clone());
                }
                Err(error)
            }
        };
        self.changed.notify_all();
        (state, looked)
    }

    fn receive(&self, buffer: &mut [u8], wait: Wait) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let receive = |buffer: &mut [u8], wait| {
            descriptors::receive(&self.socket, buffer, protocol::MAX_DESCRIPTORS, wait)
        };
        // Of a peer that hung up on what it had not read the kernel tells first, and of its last word then.
        let received = match receive(buffer, wait) {
            Err(error) if error.peer_gone() => receive(buffer, Wait::Never).map_err(|_| error),
            received => received,
        };
        let received = match received {
            Ok(received) => received,
            Err(error) if error.would_block() && wait == Wait::Never => return Ok(None),
            Err(error) if error.would_block() => {
                return Err(Error::from_errno(Errno::TIMEDOUT, "the broker's answer"));
            }
            Err(error) => return Err(gone(error)),
        };
        if received.len == 0 {
            return Err(ended());
        }
        Ok(Some((protocol::decode_message(&buffer[..received.len])?, received.descriptors)))
    }

    fn take(&self, state: &mut State, message: Message, descriptors: Vec<OwnedFd>) {
        let (number, reply) = match message {
            Message::Notice(notice) => return notice.into_iter().for_each(&self.heard),
            Message::Reply(number, reply) => (number, reply),
        };
        if number == 0 {
            // The broker's last word to somebody whom it did not understand, or does not let in.
            if let Err(error) = reply {
                state.ended.get_or_insert(error);
            }
        } else if let Some(slot) = state.awaited.get_mut(&number) {
            *slot = Some(Answer { reply, descriptors });
        } else if let Some(request) = state.posted.remove(&number) {
            match reply {
                Err(error) if protocol::was_lost(&error) => self.post_now(state, request),
                Err(error) => tracing::warn!(%error, "the broker could not take something back"),
                Ok(_) => {}
            }
        } else if let Some(request) = state.abandoned.remove(&number) {
            self.give_back(state, &request, &reply);
        }
    }

    /// Gives back what came for somebody who had given up waiting.
    fn give_back(&self, state: &mut State, request: &Request, reply: &Result<Reply>) {
        let back = match (request, reply) {
            (_, Ok(Reply::Allocated { iova, .. } | Reply::Attached { iova, .. })) => {
                Request::Free { iova: *iova }
            }
            (Request::Share { iova, .. }, Ok(Reply::Shared { .. })) => Request::Unshare { iova: *iova },
            (Request::Lease { card, .. }, Ok(Reply::Leased(lease))) => {
                Request::Release { card: *card, lease: *lease, will: false }
            }
            (Request::Open { card }, Ok(Reply::Opened { .. })) => Request::Close { card: *card },
            (Request::Wire { card, vector }, Ok(_)) => Request::Silence { card: *card, vector: *vector },
            _ => return,
        };
        self.post_now(state, back);
    }

    /// Sends a request whose reply nobody waits for, in the middle of reading.
    fn post_now(&self, state: &mut State, back: Request) {
        state.last_number += 1;
        let number = state.last_number;
        let sent = protocol::encode_request(number, &back).and_then(|message| {
            descriptors::send(&self.socket, &[IoSlice::new(&message)], &[], Wait::Block).map_err(gone)
        });
        match sent {
            Ok(_) => {
                state.posted.insert(number, back);
            }
            Err(error) => tracing::debug!(%error, "something that nobody waited for could not be given back"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is complete in itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn gone(error: jitney_memory::Error) -> Error {
    if error.peer_gone() { ended() } else { error.into() }
}

fn ended() -> Error {
    Error::new(ErrorKind::Disconnected, "the broker is gone, or has ended this connection")
        .with_errno(Errno::PIPE)
        .with_remedy("start the program again, under a broker that runs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CardId;
    use crate::socket;
    use jitney_vfio::LeaseId;
    use std::sync::Arc;

    /// A line, and what stands for its broker.
    fn line() -> (Arc<Line>, OwnedFd) {
        let (ours, theirs) = socket::pair().unwrap();
        (Arc::new(Line::new(ours, |_| {})), theirs)
    }

    /// The next request that the broker hears; `None` if there is none now.
    fn hear(broker: &OwnedFd) -> Option<(u64, Request)> {
        let mut buffer = [0; 4096];
        let received = descriptors::receive(broker, &mut buffer, 0, Wait::Never).ok()?;
        (received.len > 0).then(|| protocol::decode_request(&buffer[..received.len]).unwrap())
    }

    fn say(broker: &OwnedFd, number: u64, reply: Result<Reply>) {
        let message = protocol::encode_reply(number, &reply).unwrap();
        descriptors::send(broker, &[IoSlice::new(&message)], &[], Wait::Block).unwrap();
    }

    /// A forked child has the socket, and would take its parent's answers, or say goodbye for it (C12 of the core's review).
    #[test]
    fn a_forked_process_says_nothing() {
        let (line, broker) = line();
        let mut line = Arc::into_inner(line).unwrap();
        line.process += 1;
        assert!(!line.is_ours());
        let error = line.exchange(&Request::Goodbye, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("forked"), "{error}");
        assert!(line.post(&Request::Free { iova: 0 }).is_err());
        assert_eq!(hear(&broker), None);
    }

    #[test]
    fn answers_come_in_any_order() {
        let (line, broker) = line();
        let asks: Vec<_> = (0..8u64)
            .map(|iova| {
                let line = Arc::clone(&line);
                std::thread::spawn(move || line.exchange(&Request::Free { iova }, None).unwrap().0)
            })
            .collect();
        let mut heard = Vec::new();
        while heard.len() < asks.len() {
            heard.extend(hear(&broker));
        }
        for (number, request) in heard.into_iter().rev() {
            let Request::Free { iova } = request else { panic!("{request:?}") };
            say(&broker, number, Ok(Reply::Allocated { iova, size: 0 }));
        }
        for (asked, answer) in (0..).zip(asks) {
            assert_eq!(answer.join().unwrap(), Reply::Allocated { iova: asked, size: 0 });
        }
    }

    /// A broker that was started anew knows nothing of what it was asked just then. Nobody else has to know that.
    #[test]
    fn what_a_broker_has_lost_is_asked_again() {
        let (line, broker) = line();
        let asks = {
            let line = Arc::clone(&line);
            std::thread::spawn(move || {
                line.exchange(&Request::Free { iova: 1 }, None).map(|(reply, _)| reply)
            })
        };
        let next = || loop {
            if let Some(heard) = hear(&broker) {
                break heard;
            }
        };
        for _ in 0..3 {
            let (number, request) = next();
            assert_eq!(request, Request::Free { iova: 1 });
            say(&broker, number, Err(protocol::lost()));
        }
        say(&broker, next().0, Ok(Reply::Done));
        assert_eq!(asks.join().unwrap().unwrap(), Reply::Done);
        // Nor what nobody waits for.
        line.post(&Request::Free { iova: 2 }).unwrap();
        let (number, request) = next();
        say(&broker, number, Err(protocol::lost()));
        line.take_in().unwrap();
        assert_eq!(next(), (number + 1, request));
    }

    /// Whoever was interrupted does not get the answer any more; what comes with it must not stay.
    #[test]
    fn what_nobody_waits_for_any_more_goes_back() {
        let (line, broker) = line();
        let card = CardId(3);
        let lease = Request::Lease {
            card,
            part: "h2c0".into(),
            mode: jitney_vfio::Mode::Shared,
            will: jitney_vfio::Will::none(),
            wait: 0,
        };
        let allocate = Request::Allocate { card: None, size: 1, align: 1, top: 1, page_shift: 12 };
        line.state().abandoned.extend([(71, lease), (72, allocate), (73, Request::Open { card })]);
        line.state().last_number = 73;
        say(&broker, 71, Ok(Reply::Leased(LeaseId(9))));
        say(&broker, 72, Ok(Reply::Allocated { iova: 0x1000, size: 4096 }));
        say(&broker, 73, Err(Error::new(ErrorKind::Invalid, "no")));
        line.take_in().unwrap();
        assert_eq!(hear(&broker), Some((74, Request::Release { card, lease: LeaseId(9), will: false })));
        assert_eq!(hear(&broker), Some((75, Request::Free { iova: 0x1000 })));
        assert_eq!(hear(&broker), None, "what was refused is nobody's");
    }

    /// A broker that turns somebody away has not read its hello.
    #[test]
    fn the_last_word_of_a_broker_that_did_not_listen_is_heard() {
        let (line, broker) = line();
        let asks = std::thread::spawn(move || line.exchange(&Request::Goodbye, None).unwrap_err());
        let mut there = [rustix::event::PollFd::new(&broker, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut there, None).unwrap();
        say(&broker, 0, Err(Error::new(ErrorKind::Exhausted, "too many")));
        drop(broker);
        let error = asks.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    }

    #[test]
    fn the_brokers_last_word_is_what_everybody_hears() {
        let (line, broker) = line();
        say(&broker, 0, Err(Error::new(ErrorKind::Exhausted, "too many")));
        drop(broker);
        for _ in 0..2 {
            let error = line.exchange(&Request::Goodbye, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
        }
    }
}
