//! Transfers of streams, which have packets and no addresses.
//!
//! A write is one packet. A read ends at the end of a packet, or when the program's memory is full; what is left of the packet then
//! comes with the next read. A stream that is read belongs to the program that has it open, as the driver has it.

use crate::card::Card;
use crate::channel::{FOR_EVER, in_line};
use crate::failure::{Failure, Outcome};
use crate::machine::{Machine, lock};
use crate::placeholder::Watch;
use crate::user_memory::UserMemory;
use crate::wait::{Waited, wait};
use jitney_vfio::{DmaBuffer, DmaRequest};
use jitney_xdma::C2h;
use rustix::io::Errno;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What is received at once, which is one descriptor.
const PIECE: usize = 4 << 20;
/// Lengths of which a card fills multiples.
const WIDTH: usize = 64;

/// How long to wait for something that may never come.
fn end() -> Option<Instant> {
    Machine::get().settings.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Sends all of the program's memory as one packet.
///
/// # Errors
/// EFAULT, EBUSY, EIO; ETIMEDOUT if nobody takes it, EINTR if a signal came meanwhile.
pub(crate) fn write(card: &Card, channel: u8, from: UserMemory) -> Outcome<()> {
    let mut lease = card.h2c(channel)?;
    let top = lease.channel()?.limits().top();
    let length = from.len() as u64;
    let buffer = lease.buffer(card, 0, length, top)?;
    from.read_into(&buffer)?;
    let pending = lease.channel()?.submit(&buffer, 0..length, 0)?;
    // The channel has a time-out of its own, which says more.
    match wait(pending, None)? {
        Waited::Over(_) => lease.keep(0, buffer),
        Waited::TimedOut | Waited::Interrupted => return Err(Failure::silent(Errno::INTR)),
    }
    Ok(())
}

/// The streams of a card that are open for reading, by the channel's number.
#[derive(Debug, Default)]
pub(crate) struct Receivers([Place; crate::node::CHANNELS as usize]);

type Place = Mutex<Option<Arc<Receiver>>>;

/// A stream that is open for reading.
#[derive(Debug)]
pub(crate) struct Receiver {
    name: String,
    /// None if another process opened it and this one has inherited it: then it is there until this one ends.
    watch: Option<Watch>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    channel: C2h,
    buffer: Option<DmaBuffer>,
    /// Bytes of a packet that the last read had no room for.
    left: Vec<u8>,
}

impl Receivers {
    fn place(&self, channel: u8) -> Outcome<&Place> {
        self.0.get(usize::from(channel)).ok_or_else(|| Failure::silent(Errno::NOENT))
    }

    /// Opens a stream for a placeholder with this watch.
    ///
    /// # Errors
    /// EBUSY if it is open, here or in another program.
    pub(crate) fn open(&self, card: &Card, channel: u8, watch: Watch) -> Outcome<()> {
        let mut place = lock(self.place(channel)?);
        if let Some(receiver) = &*place
            && !receiver.is_closed()
        {
            let why = "this program has it open already, and a stream has one reader";
            return Err(Failure::new(Errno::BUSY, why));
        }
        *place = None;
        *place = Some(Arc::new(Receiver::new(card, channel, Some(watch))?));
        Ok(())
    }

    /// Closes the streams of which the program has no descriptor any more.
    pub(crate) fn look(&self) {
        for place in &self.0 {
            let mut place = lock(place);
            if place.as_ref().is_some_and(|receiver| receiver.is_closed()) {
                *place = None;
            }
        }
    }

    /// Closes all, at the end of the process.
    pub(crate) fn let_go_at_once(&self) {
        for place in &self.0 {
            if let Ok(mut place) = place.try_lock() {
                *place = None;
            }
        }
    }

    /// Reads from an open stream; how many bytes came.
    ///
    /// # Errors
    /// EFAULT, EIO; ETIMEDOUT if nothing came for too long, EINTR if a signal came; EBUSY if the stream was opened by another process,
    /// which still has it.
    pub(crate) fn read(&self, card: &Card, channel: u8, to: UserMemory) -> Outcome<usize> {
        let receiver = {
            let mut place = lock(self.place(channel)?);
            match &*place {
                Some(receiver) => Arc::clone(receiver),
                None => Arc::clone(place.insert(Arc::new(Receiver::new(card, channel, None)?))),
            }
        };
        receiver.read(card, to)
    }
}

impl Receiver {
    fn new(card: &Card, channel: u8, watch: Option<Watch>) -> Outcome<Self> {
        let opened =
            in_line(Machine::get().settings.wait_to_open, || card.xdma.c2h(channel)).map_err(|failure| {
                match failure.errno {
                    Errno::BUSY => Failure {
                        why: failure.why.map(|why| format!("a stream has one reader: {why}")),
                        ..failure
                    },
                    _ => failure,
                }
            })?;
        let state = State { channel: opened.with_timeout(FOR_EVER), buffer: None, left: Vec::new() };
        Ok(Self { name: format!("c2h{channel}"), watch, state: Mutex::new(state) })
    }

    fn is_closed(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::is_closed)
    }

    fn read(&self, card: &Card, to: UserMemory) -> Outcome<usize> {
        let mut state = lock(&self.state);
        if !state.left.is_empty() {
            let length = state.left.len().min(to.len());
            let part = state.left.get(..length).unwrap_or_default();
            to.write(part)?;
            state.left.drain(..length);
            return Ok(length);
        }
        let end = end();
        let mut done = 0;
        while done < to.len() {
            let wanted = (to.len() - done).min(PIECE);
            let room = wanted.next_multiple_of(WIDTH);
            let buffer = state.take_buffer(card, room)?;
            let pending = state.channel.receive(&buffer, 0..room as u64)?;
            let completed = match wait(pending, end)? {
                Waited::Over(completed) => completed,
                // What came before is not lost.
                Waited::TimedOut | Waited::Interrupted if done > 0 => return Ok(done),
                Waited::Interrupted => return Err(Failure::silent(Errno::INTR)),
                Waited::TimedOut => return Err(self.nothing_came()),
            };
            let came = usize::try_from(completed.bytes).unwrap_or(room).min(room);
            let copied = state.hand_over(&buffer, to.part(done, came.min(wanted)), came);
            state.buffer = Some(buffer);
            copied?;
            done += came.min(wanted);
            if completed.ends_packet || came < room {
                break;
            }
        }
        Ok(done)
    }

    fn nothing_came(&self) -> Failure {
        let time = Machine::get().settings.timeout.unwrap_or_default();
        let why = format!(
            "nothing came on {} for {time:?} (jitney xdma-compat --timeout says how long)",
            self.name
        );
        Failure::new(Errno::TIMEDOUT, why)
    }
}

impl State {
    fn take_buffer(&mut self, card: &Card, room: usize) -> Outcome<DmaBuffer> {
        match self.buffer.take() {
            Some(buffer) if buffer.size() >= room as u64 => Ok(buffer),
            _ => {
                let request = DmaRequest::new(room as u64).below(self.channel.limits().top());
                Ok(card.xdma.card().dma_buffer(request)?)
            }
        }
    }

    /// Gives the program what came, as much as there is room for, and keeps the rest. What cannot be given is kept as a whole.
    fn hand_over(&mut self, buffer: &DmaBuffer, to: UserMemory, came: usize) -> Outcome<()> {
        let given = to.write_from(buffer);
        let from = if given.is_ok() { to.len() } else { 0 };
        let mut left = vec![0; came - from];
        buffer.read(from as u64, &mut left)?;
        self.left = left;
        given
    }
}
