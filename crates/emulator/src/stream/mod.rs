//! What sits behind the channels of a core with AXI4-Streams: ports that take packets and ports that give them.
//!
//! [`StreamSink`] and [`StreamSource`] are the seam between a core's channels and the design behind them. The ports here
//! are those of designs that are in use: a [`Fifo`] (a loopback, if one channel writes it and another reads it), a
//! [`Switch`] that routes, a [`Crc64`] for each packet, a source of [`FixedData`], and a [`Discard`].

mod crc64;
mod fifo;
mod simple;
mod switch;

use std::task::{Context, Poll};

pub use crc64::{Crc64, crc64};
pub use fifo::Fifo;
pub use simple::{Discard, FixedData};
pub use switch::Switch;

/// Where an H2C channel's packets go (an AXI4-Stream slave).
///
/// A port that has no room answers [`Poll::Pending`] and wakes the context's waker when there may be some: that is the
/// back-pressure, and the channel stays busy as long as it lasts.
pub trait StreamSink: Send + Sync {
    /// Takes the beginning of `data`, which is never empty, and says how many bytes that were: one at least. If `last` is
    /// set, the last byte of `data` ends a packet (TLAST).
    fn poll_send(&self, context: &mut Context<'_>, data: &[u8], last: bool) -> Poll<usize>;

    /// The same with the first `length` bytes of `buffer`: the fast way for a port that keeps the buffer as it is, and leaves
    /// another one in its place.
    fn poll_send_buffer(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        length: usize,
        last: bool,
    ) -> Poll<usize> {
        let length = length.min(buffer.len());
        self.poll_send(context, &buffer[..length], last)
    }

    /// The card's reset reaches the port: what it holds is lost.
    fn reset(&self) {}
}

/// Where a C2H channel's packets come from (an AXI4-Stream master).
///
/// A port that has no data answers [`Poll::Pending`] and wakes the context's waker when there may be some.
pub trait StreamSource: Send + Sync {
    /// Fills the beginning of `into`, which is never empty, and says how far: one byte at least, and none behind the end of
    /// a packet.
    fn poll_receive(&self, context: &mut Context<'_>, into: &mut [u8]) -> Poll<Received>;

    /// The same into the first `most` bytes of `buffer`: the fast way for a port that has such a buffer already, and keeps
    /// this one in its place.
    fn poll_receive_buffer(
        &self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        most: usize,
    ) -> Poll<Received> {
        let most = most.min(buffer.len());
        self.poll_receive(context, &mut buffer[..most])
    }

    /// The card's reset reaches the port: what it holds is lost.
    fn reset(&self) {}
}

/// What came out of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes.
    pub length: usize,
    /// Whether the last of them ends a packet (TLAST).
    pub last: bool,
}

#[cfg(test)]
mod testing {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::task::{Wake, Waker};

    /// Counts how often it was woken.
    #[derive(Default)]
    pub(super) struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Bell {
        pub(super) fn rings(&self) -> u32 {
            self.0.load(SeqCst)
        }
    }

    pub(super) fn send(sink: &dyn StreamSink, data: &[u8], last: bool) -> Poll<usize> {
        sink.poll_send(&mut Context::from_waker(Waker::noop()), data, last)
    }

    /// What is there of the next packet, up to `most` bytes.
    pub(super) fn receive(source: &dyn StreamSource, most: usize) -> Option<(Vec<u8>, bool)> {
        let mut bytes = vec![0; most];
        match source.poll_receive(&mut Context::from_waker(Waker::noop()), &mut bytes) {
            Poll::Ready(Received { length, last }) => Some((bytes[..length].to_vec(), last)),
            Poll::Pending => None,
        }
    }
}
