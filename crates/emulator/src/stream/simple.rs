//! Ports without a memory: one that takes everything, and one that always has data.

use super::{Received, StreamSink, StreamSource};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// Takes everything at once and keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl StreamSink for Discard {
    fn poll_send(&self, _: &mut Context<'_>, data: &[u8], _: bool) -> Poll<usize> {
        Poll::Ready(data.len())
    }
}

/// Always has data: the same bytes again and again, in packets of one length or in one that never ends.
#[derive(Debug)]
pub struct FixedData {
    bytes: Vec<u8>,
    packet: Option<u64>,
    /// Bytes of the packet that have gone out.
    sent: Mutex<u64>,
}

impl FixedData {
    /// Repeats `bytes` (one zero if there are none) in packets of `packet` bytes; none has no end, as none of no bytes has.
    #[must_use]
    pub fn new(bytes: &[u8], packet: Option<u64>) -> Self {
        let bytes = if bytes.is_empty() { vec![0] } else { bytes.to_vec() };
        Self { bytes, packet: packet.filter(|length| *length > 0), sent: Mutex::new(0) }
    }
}

impl StreamSource for FixedData {
    fn poll_receive(&self, _: &mut Context<'_>, into: &mut [u8]) -> Poll<Received> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.packet.map_or(u64::MAX, |packet| packet - *sent);
        let length = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let period = self.bytes.len() as u64;
        let phase = usize::try_from(*sent % period).unwrap_or(0);
        let mut rest = &mut into[..length];
        let mut from = phase;
        while !rest.is_empty() {
            let part = rest.len().min(self.bytes.len() - from);
            let (now, later) = rest.split_at_mut(part);
            now.copy_from_slice(&self.bytes[from..from + part]);
            (rest, from) = (later, 0);
        }
        let last = self.packet.is_some() && length as u64 == left;
        *sent = match self.packet {
            Some(_) if last => 0,
            Some(_) => *sent + length as u64,
            None => (*sent + length as u64) % period,
        };
        Poll::Ready(Received { length, last })
    }

    fn reset(&self) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{receive, send};
    use super::*;

    #[test]
    fn a_sink_takes_everything() {
        assert_eq!(send(&Discard, &[1; 100], true), Poll::Ready(100));
    }

    #[test]
    fn fixed_data_repeats_itself_within_each_packet() {
        let source = FixedData::new(&[1, 2, 3], Some(7));
        assert_eq!(receive(&source, 5), Some((vec![1, 2, 3, 1, 2], false)));
        assert_eq!(receive(&source, 5), Some((vec![3, 1], true)));
        assert_eq!(receive(&source, 4), Some((vec![1, 2, 3, 1], false)));
        source.reset();
        assert_eq!(receive(&source, 9), Some((vec![1, 2, 3, 1, 2, 3, 1], true)));
    }

    #[test]
    fn a_packet_without_end_goes_on_where_it_was() {
        for packet in [None, Some(0)] {
            let source = FixedData::new(&[1, 2, 3], packet);
            assert_eq!(receive(&source, 4), Some((vec![1, 2, 3, 1], false)));
            assert_eq!(receive(&source, 4), Some((vec![2, 3, 1, 2], false)));
        }
        assert_eq!(receive(&FixedData::new(&[], None), 2), Some((vec![0, 0], false)));
    }
}
