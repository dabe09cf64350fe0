//! A FIFO for packets.

use super::{Received, StreamSink, StreamSource};
use std::collections::VecDeque;
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
    bytes: VecDeque<u8>,
    /// Where packets end, counted from the first byte that ever came in.
    ends: VecDeque<u64>,
    /// How many bytes have gone out.
    taken: u64,
    sender: Option<Waker>,
    receiver: Option<Waker>,
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
        let room = (self.capacity - state.bytes.len()).min(data.len());
        if room < least {
            state.sender = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.bytes.extend(&data[..room]);
        if last && room == data.len() {
            let end = state.taken + state.bytes.len() as u64;
            state.ends.push_back(end);
        }
        let receiver = state.receiver.take();
        drop(state);
        receiver.into_iter().for_each(Waker::wake);
        Poll::Ready(room)
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

    fn reset(&self) {
        let mut state = self.state();
        state.bytes.clear();
        state.ends.clear();
        drop(state);
        self.wake();
    }
}

impl StreamSource for Fifo {
    fn poll_receive(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<Received> {
        let mut state = self.state();
        if state.bytes.is_empty() {
            state.receiver = Some(context.waker().clone());
            return Poll::Pending;
        }
        let to_end = state.ends.front().map(|end| usize::try_from(end - state.taken).unwrap_or(usize::MAX));
        let length = into.len().min(state.bytes.len()).min(to_end.unwrap_or(usize::MAX));
        let (front, back) = state.bytes.as_slices();
        let in_front = front.len().min(length);
        into[..in_front].copy_from_slice(&front[..in_front]);
        into[in_front..length].copy_from_slice(&back[..length - in_front]);
        state.bytes.drain(..length);
        state.taken += length as u64;
        let last = to_end == Some(length);
        if last {
            state.ends.pop_front();
        }
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
        Poll::Ready(Received { length, last })
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

    proptest! {
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
