//! The data of a stream's descriptor: packets out of host memory, and into it (PG195, "AXI4-Stream" channels).

use super::engine::{Ended, Engine};
use super::state::Job;
use crate::fault::FaultKind;
use crate::limited::warn_limited;
use crate::stream::{Received, StreamSink, StreamSource};
use jitney_xdma_spec::{Descriptor, StreamSlot, StreamStatus};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Most bytes that go at a time: what the caches hold.
const PIECE: u64 = 64 << 10;

impl Engine<'_> {
    /// H2C: the descriptor's data goes to `sink`, and ends a packet if the descriptor says so.
    ///
    /// Clearing RUN does not end it: the descriptor is finished, however long the sink takes (PG195, "Run").
    pub(super) fn send(
        &self,
        sink: &dyn StreamSink,
        descriptor: &Descriptor,
        length: u64,
        fault: Option<FaultKind>,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, Ended> {
        if descriptor.source.checked_add(length.saturating_sub(1)).is_none() {
            return Err(Ended::Errors(self.host_error()));
        }
        let stalls_at = if fault == Some(FaultKind::Stall) { length / 2 } else { u64::MAX };
        let mut done = 0;
        while done < length {
            if done >= stalls_at {
                return Err(Ended::Never);
            }
            let piece = self.piece_of(PIECE.min(length.min(stalls_at) - done))?;
            let bytes = part(buffer, piece);
            self.over_link(piece, || {
                let read = self.card.host.read(descriptor.source + done, bytes, &self.live());
                read.map_err(|fault| self.host_fault(fault))
            })?;
            done += piece;
            let last = descriptor.control.end_of_packet() && done == length;
            let length = bytes.len();
            let send = |context: &mut Context<'_>| sink.poll_send_buffer(context, buffer, length, last);
            let mut sent = self.wait(self.is_reset, Ended::Never, None, send)?.max(1);
            while let Some(rest @ [_, ..]) = buffer.get(sent..length) {
                let send = |context: &mut Context<'_>| sink.poll_send(context, rest, last);
                sent += self.wait(self.is_reset, Ended::Never, None, send)?.max(1);
            }
        }
        Ok(length)
    }

    /// C2H: fills the descriptor's memory from `source` up to its end or that of a packet, and then its slot; says how many
    /// bytes came. Clearing RUN abandons a descriptor that waits for data; one that has some is closed with that, as it is
    /// after the time that the config block has for it.
    ///
    /// Data comes in whole beats, but for the end of a packet: memory that is no multiple of the data path long is written
    /// beyond its end, as cards do.
    pub(super) fn receive(
        &self,
        source: &dyn StreamSource,
        job: &Job,
        descriptor: &Descriptor,
        length: u64,
        mut fault: Option<FaultKind>,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, Ended> {
        let room = length.next_multiple_of(self.card.data_width);
        if descriptor.destination.checked_add(room - 1).is_none() {
            return Err(Ended::Errors(self.host_error()));
        }
        let (mut done, mut last) = (0, false);
        while done < room && !last {
            let piece = self.piece_of(PIECE.min(room - done))?;
            let most = part(buffer, piece).len();
            let received = match self.next(source, (buffer, most), done > 0, &mut fault) {
                Ok(Some(received)) => received,
                Ok(None) => break,
                // What came already is the host's.
                Err(Ended::Abandoned) if done > 0 && self.live()() => break,
                Err(ended) => return Err(ended),
            };
            let bytes = &buffer[..received.length.min(most).min(buffer.len())];
            let (iova, host) = (descriptor.destination + done, &self.card.host);
            self.over_link(bytes.len() as u64, || {
                let written = match self.busy.go_to(iova, bytes.len() as u64) {
                    true => host.write_past_caches(iova, bytes, &self.live()),
                    false => host.write(iova, bytes, &self.live()),
                };
                written.map_err(|fault| self.host_fault(fault))
            })?;
            done += bytes.len() as u64;
            last = received.last;
        }
        if done > length {
            warn_limited!(
                channel = self.channel,
                "a C2H stream wrote {done} bytes into {length}: the length is no multiple of its data path"
            );
        }
        if !job.control.stream_writeback_disable() {
            self.write_slot(descriptor.source, done, last)?;
        }
        Ok(done)
    }

    /// The next data of `source`, with what a fault makes of it; none if the descriptor has `begun` and may wait no longer.
    fn next(
        &self,
        source: &dyn StreamSource,
        (buffer, most): (&mut Vec<u8>, usize),
        begun: bool,
        fault: &mut Option<FaultKind>,
    ) -> Result<Option<Received>, Ended> {
        if fault.take_if(|fault| *fault == FaultKind::Overrun).is_some() {
            self.discard(source)?;
        }
        let timeout = if begun { self.card.config.flush_timeout() } else { None };
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let receive = |context: &mut Context<'_>| source.poll_receive_buffer(context, buffer, most);
        let received = self.wait(self.is_stopped, Ended::Abandoned, deadline, receive);
        let Received { length, last } = match received {
            Err(Ended::Flushed) => return Ok(None),
            received => received?,
        };
        match fault.take_if(|fault| last || *fault == FaultKind::ShortPacket) {
            Some(FaultKind::ShortPacket) => {
                if !last {
                    self.discard(source)?;
                }
                Ok(Some(Received { length: length.div_ceil(2), last: true }))
            }
            Some(FaultKind::LostEop) => Ok(Some(Received { length, last: false })),
            _ => Ok(Some(Received { length, last })),
        }
    }

    /// Loses what comes, up to the end of a packet.
    fn discard(&self, source: &dyn StreamSource) -> Result<(), Ended> {
        let mut bytes = [0; 4096];
        let mut last = false;
        while !last {
            let receive = |context: &mut Context<'_>| source.poll_receive(context, &mut bytes);
            last = self.wait(self.is_stopped, Ended::Abandoned, None, receive)?.last;
        }
        Ok(())
    }

    /// Writes the slot at `iova`: its length first, so that who sees the magic finds it.
    fn write_slot(&self, iova: u64, length: u64, last: bool) -> Result<(), Ended> {
        let (host, live) = (&self.card.host, self.live());
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let slot = StreamSlot { status: StreamStatus::new().with_end_of_packet(last), length };
        let bytes = slot.to_bytes();
        host.write(iova.wrapping_add(4), &bytes[4..], &live)
            .and_then(|()| host.write_word(iova, slot.status.into(), &live))
            .map_err(|fault| self.host_fault(fault))
    }

    /// Asks a port until it is ready, or until the channel has `ended`, or until the deadline; sleeps in between.
    fn wait<T>(
        &self,
        ended: &dyn Fn() -> bool,
        how: Ended,
        deadline: Option<Instant>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Ended> {
        let waker = Waker::from(Arc::clone(self.bell));
        loop {
            self.bell.clear();
            let polling = self.polling.lock().unwrap_or_else(PoisonError::into_inner);
            if ended() {
                return Err(how);
            }
            let polled = poll(&mut Context::from_waker(&waker));
            drop(polling);
            match polled {
                Poll::Ready(ready) => return Ok(ready),
                // A fuzz target has one thread: nobody would come.
                Poll::Pending if cfg!(fuzzing) => return Err(how),
                Poll::Pending if self.bell.wait(deadline) => self.busy.begin(),
                Poll::Pending => return Err(Ended::Flushed),
            }
        }
    }
}

/// The first `length` bytes of a buffer, which grows to that.
fn part(buffer: &mut Vec<u8>, length: u64) -> &mut [u8] {
    let length = usize::try_from(length).unwrap_or(0);
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}
