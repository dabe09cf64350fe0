//! A FIFO for packets.

use super::{Received, StreamSink, StreamSource};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Bytes go in on one side and come out on the other, in packets. Between an H2C and a C2H channel it is a loopback.
#[derive(Debug)]
pub struct Fifo {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    /// Bytes in them.
    held: usize,
    /// Buffers that nobody needs now.
    spare: Vec<Vec<u8>>,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

/// Bytes of one packet.
#[derive(Debug)]
struct Chunk {
    buffer: Vec<u8>,
    /// Which of them have not gone out.
    left: Range<usize>,
    /// The last of them ends the packet.
    last: bool,
}

/// Small pieces of a packet are put together up to this many bytes.
const CHUNK: usize = 16 << 10;
/// Buffers that are kept for later.
const SPARE: usize = 8;

impl State {
    /// The chunk whose packet goes on, with room for `more` bytes; a new one if there is none.
    fn back(&mut self, more: usize) -> &mut Chunk {
        let goes_on =
            self.chunks.back().is_some_and(|back| !back.last && back.left.end.saturating_add(more) <= CHUNK);
        if !goes_on {
            let buffer = self.spare.pop().unwrap_or_default();
            self.chunks.push_back(Chunk { buffer, left: 0..0, last: false });
        }
        let at = self.chunks.len() - 1;
        &mut self.chunks[at]
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }
}

impl Fifo {
    /// As many bytes as keep both sides busy: a channel moves at most a quarter of it at a time.
    pub const DEFAULT_CAPACITY: usize = 256 << 10;

    /// An empty FIFO of `capacity` bytes, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), state: Mutex::default() }
    }

    /// Wakes whoever waits on either side, to look again.
    pub(super) fn wake(&self) {
        let mut state = self.state();
        let wakers = [state.sender.take(), state.receiver.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Takes `data`, the end of a packet, if there is room for all of it.
    pub(super) fn poll_send_whole(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<()> {
        self.take(context, data, true, data.len()).map(|_| ())
    }

    /// Takes the beginning of `data` if there is room for `least` bytes of it.
    fn take(&self, context: &mut Context<'_>, data: &[u8], last: bool, least: usize) -> Poll<usize> {
        let mut state = self.state();
        let room = (self.capacity - state.held).min(data.len());
        if room < least {
            state.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        let chunk = state.back(room);
        chunk.buffer.truncate(chunk.left.end);
        chunk.buffer.extend_from_slice(&data[..room]);
        chunk.left.end = chunk.buffer.len();
        chunk.last = last && room == data.len();
        state.held += room;
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
        Poll::Ready(room)
    }

    /// Takes a buffer as it is, if there is room for all that is asked for.
    fn take_buffer(&self, buffer: &mut Vec<u8>, length: usize, last: bool) -> bool {
        let mut state = self.state();
        if self.capacity - state.held < length {
            return false;
        }
        let spare = state.spare.pop().unwrap_or_default();
        let buffer = std::mem::replace(buffer, spare);
        state.chunks.push_back(Chunk { buffer, left: 0..length, last });
        state.held += length;
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
        true
    }

    /// Gives a chunk of at most `most` bytes as it is, if that comes next.
    fn give_buffer(&self, buffer: &mut Vec<u8>, most: usize) -> Option<Received> {
        let mut state = self.state();
        let front = state.chunks.front()?;
        if front.left.start > 0 || front.left.len() > most || front.left.len() < CHUNK {
            return None;
        }
        let Chunk { buffer: filled, left, last } = state.chunks.pop_front()?;
        state.held -= left.len();
        let empty = std::mem::replace(buffer, filled);
        state.keep(empty);
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
        Some(Received { length: left.len(), last })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Fifo {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CAPACITY)
    }
}

impl StreamSink for Fifo {
    fn poll_send(&self, context: &mut Context<'_>, data: &[u8], last: bool) -> Poll<usize> {
        self.take(context, data, last, 1)
    }

    fn poll_send_buffer(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        length: usize,
        last: bool,
    ) -> Poll<usize> {
        let length = length.min(buffer.len());
        if length >= CHUNK && self.take_buffer(buffer, length, last) {
            return Poll::Ready(length);
        }
        self.poll_send(context, &buffer[..length], last)
    }

    fn reset(&self) {
        let mut state = self.state();
        state.chunks.clear();
        state.held = 0;
        drop(state);
        self.wake();
    }
}

impl StreamSource for Fifo {
    fn poll_receive(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<Received> {
        let mut state = self.state();
        let mut length = 0;
        let mut last = false;
        while !last && length < into.len() {
            let Some(front) = state.chunks.front_mut() else { break };
            let part = front.left.len().min(into.len() - length);
            let from = front.left.start;
            into[length..length + part].copy_from_slice(&front.buffer[from..from + part]);
            front.left.start += part;
            length += part;
            if front.left.is_empty() {
                last = front.last;
                if let Some(Chunk { buffer, .. }) = state.chunks.pop_front() {
                    state.keep(buffer);
                }
            }
        }
        if length == 0 {
            state.receiver = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.held -= length;
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
        Poll::Ready(Received { length, last })
    }

    fn poll_receive_buffer(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        most: usize,
    ) -> Poll<Received> {
        let most = most.min(buffer.len());
        match self.give_buffer(buffer, most) {
            Some(received) => Poll::Ready(received),
            None => self.poll_receive(context, &mut buffer[..most]),
        }
    }

    fn reset(&self) {
        StreamSink::reset(self);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bell, receive, send};
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn a_full_fifo_holds_its_sender_up_and_wakes_it() {
        let fifo = Fifo::new(8);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        assert_eq!(fifo.poll_send(&mut context, &[1; 6], false), Poll::Ready(6));
        assert_eq!(fifo.poll_send(&mut context, &[2; 6], true), Poll::Ready(2));
        assert_eq!(fifo.poll_send(&mut context, &[2; 4], true), Poll::Pending);
        assert_eq!(bell.rings(), 0);
        assert_eq!(receive(&fifo, 3), Some((vec![1; 3], false)));
        assert_eq!(bell.rings(), 1);
        assert_eq!(receive(&fifo, 100), Some((vec![1, 1, 1, 2, 2], false)), "the rest was not sent yet");
    }

    #[test]
    fn an_empty_fifo_wakes_its_receiver_and_a_reset_empties_it() {
        let fifo = Fifo::default();
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut into = [0; 4];
        assert!(fifo.poll_receive(&mut Context::from_waker(&waker), &mut into).is_pending());
        assert_eq!(send(&fifo, &[7], true), Poll::Ready(1));
        assert_eq!(bell.rings(), 1);
        StreamSource::reset(&fifo);
        assert_eq!(receive(&fifo, 4), None);
        assert_eq!(send(&fifo, &[8; 2], true), Poll::Ready(2));
        assert_eq!(receive(&fifo, 4), Some((vec![8; 2], true)));
    }

    #[test]
    fn a_buffer_goes_through_as_it_is() {
        let fifo = Fifo::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut buffer = vec![7; 2 * CHUNK];
        let sent_from = buffer.as_ptr();
        assert_eq!(fifo.poll_send_buffer(&mut context, &mut buffer, CHUNK + 1, true), Poll::Ready(CHUNK + 1));
        let mut into = vec![0; 2 * CHUNK];
        let received = fifo.poll_receive_buffer(&mut context, &mut into, 2 * CHUNK);
        assert_eq!(received, Poll::Ready(Received { length: CHUNK + 1, last: true }));
        assert_eq!((into.as_ptr(), &into[..CHUNK + 1]), (sent_from, &[7; CHUNK + 1][..]));
        assert!(fifo.poll_receive_buffer(&mut context, &mut into, 1).is_pending());
    }

    proptest! {
        /// By buffers, too, of which some go through as they are, and some do not fit.
        #[test]
        fn packets_in_buffers_stay_whole(
            lengths in proptest::collection::vec(1usize..3 * CHUNK, 1..12),
            capacity in CHUNK..5 * CHUNK,
            receives in proptest::collection::vec((1usize..3 * CHUNK, any::<bool>()), 1..8),
        ) {
            let packets: Vec<Vec<u8>> = (0u8..)
                .zip(&lengths)
                .map(|(number, length)| (0..*length).map(|at| at.to_le_bytes()[0] ^ number).collect())
                .collect();
            let fifo = Fifo::new(capacity);
            let mut context = Context::from_waker(Waker::noop());
            let (mut came, mut packet) = (Vec::new(), Vec::new());
            let mut receives = receives.iter().cycle();
            let mut take = |packet: &mut Vec<u8>, came: &mut Vec<Vec<u8>>| {
                let (most, as_buffer) = *receives.next().unwrap();
                let mut buffer = vec![0; most];
                let polled = match as_buffer {
                    true => fifo.poll_receive_buffer(&mut Context::from_waker(Waker::noop()), &mut buffer, most),
                    false => fifo.poll_receive(&mut Context::from_waker(Waker::noop()), &mut buffer),
                };
                let Poll::Ready(Received { length, last }) = polled else { return false };
                packet.extend(&buffer[..length]);
                if last {
                    came.push(std::mem::take(packet));
                }
                true
            };
            for sent in &packets {
                let mut done = 0;
                while done < sent.len() {
                    let mut buffer = sent[done..].to_vec();
                    let length = buffer.len();
                    match fifo.poll_send_buffer(&mut context, &mut buffer, length, true) {
                        Poll::Ready(count) => done += count,
                        Poll::Pending => prop_assert!(take(&mut packet, &mut came)),
                    }
                }
            }
            while take(&mut packet, &mut came) {}
            prop_assert_eq!(came, packets);
        }

        /// However packets are cut up on either side, they come out as they went in.
        #[test]
        fn packets_stay_whole(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 1..20),
            capacity in 1usize..32,
            sends in proptest::collection::vec(1usize..20, 1..10),
            receives in proptest::collection::vec(1usize..20, 1..10),
        ) {
            let fifo = Fifo::new(capacity);
            let (mut came, mut packet) = (Vec::new(), Vec::new());
            let mut receives = receives.iter().cycle();
            let mut sends = sends.iter().cycle();
            for sent in &packets {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let part = rest.len().min(*sends.next().unwrap());
                    match send(&fifo, &rest[..part], part == rest.len()) {
                        Poll::Ready(count) => rest = &rest[count..],
                        Poll::Pending => {
                            let (bytes, last) = receive(&fifo, *receives.next().unwrap()).unwrap();
                            packet.extend(bytes);
                            if last {
                                came.push(std::mem::take(&mut packet));
                            }
                        }
                    }
                }
            }
            while let Some((bytes, last)) = receive(&fifo, *receives.next().unwrap()) {
                packet.extend(bytes);
                if last {
                    came.push(std::mem::take(&mut packet));
                }
            }
            prop_assert_eq!(came, packets);
            prop_assert!(packet.is_empty());
        }
    }
}
