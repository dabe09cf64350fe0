//! What the machine does with memory: DMA buffers from the request to the end.

use super::requests::{Answer, too_many};
use super::{
    Buffer, BufferState, ClientId, Effect, MAX_BUFFERS, Machine, Outcome, Space, Task, TaskId, Work, invalid,
};
use crate::protocol::Reply;
use jitney_vfio::{DmaPlace, Error};

impl Machine {
    pub(super) fn allocate(
        &mut self,
        client: ClientId,
        number: u64,
        space: Space,
        (size, align, top, page_shift): (u64, u64, u64, u8),
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let physical = self.is_physical(space);
        // Those that are still being made are in nobody's books.
        let made = |task: &&Task| matches!(task, Task::Place { client: of, .. } if *of == client);
        let placing = if physical { self.tasks.values().filter(made).count() } else { 0 };
        let Some(state) = self.clients.get_mut(&client) else { return Ok(None) };
        if state.buffers.len() + placing >= MAX_BUFFERS {
            return Err(too_many("DMA buffers", MAX_BUFFERS));
        }
        if !matches!(page_shift, 12 | 21 | 30) {
            return Err(invalid(format!("there are no pages of 2^{page_shift} bytes; use 12, 21 or 30")));
        }
        let page = 1u64 << page_shift;
        let Some(size) = size.checked_next_multiple_of(page).filter(|&size| size > 0 && size < 1 << 63)
        else {
            return Err(invalid(format!("a DMA buffer cannot have {size} bytes")));
        };
        if physical {
            let work = Work::Place { space, size, align, top, page_shift };
            self.start(Task::Place { client, number, space }, work, effects);
            return Ok(None);
        }
        // One that is no power of two is left for the allocator to refuse.
        let align = if align.is_power_of_two() { align.max(page) } else { align };
        let request = jitney_iova::Request { size, align, top };
        let range = self
            .iovas
            .allocate(request)
            .map_err(|error| Error::from(error).context(format!("a DMA buffer of {size:#x} bytes")))?;
        // The allocator's granule may be larger than the page.
        let (iova, size) = (range.start, range.end - range.start);
        state.buffers.insert(iova, Buffer { space, size, state: BufferState::Mapping });
        self.start(Task::Map { client, number, iova }, Work::Map { space, iova, size, page_shift }, effects);
        Ok(None)
    }

    pub(super) fn free(
        &mut self,
        client: ClientId,
        number: u64,
        iova: u64,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let buffer = self.clients.get_mut(&client).and_then(|client| client.buffers.get_mut(&iova));
        match buffer {
            Some(buffer @ Buffer { state: BufferState::Live, .. }) => {
                buffer.state = BufferState::Unmapping;
                let work = buffer.unmap(iova);
                self.start(Task::Unmap { client, number: Some(number), iova }, work, effects);
                Ok(None)
            }
            _ => Err(invalid(format!("this client has no DMA buffer at IOVA {iova:#x}"))),
        }
    }

    /// Whether memory of this space is mapped where it lies, not where an allocator chooses.
    fn is_physical(&self, space: Space) -> bool {
        let cards = self.cards.iter().map(|card| &card.description);
        let mut own = cards.filter(|card| space == Space::All || space == Space::One(card.space));
        own.any(|card| card.physical)
    }

    /// Takes in where a buffer's memory lies. From here on it is as if the allocator had chosen that.
    pub(super) fn placed(
        &mut self,
        client: ClientId,
        number: u64,
        space: Space,
        id: TaskId,
        outcome: Result<Outcome, Error>,
        effects: &mut Vec<Effect>,
    ) {
        let DmaPlace { iova, size } = match outcome {
            Ok(Outcome::Placed(place)) => place,
            Ok(_) => unreachable!("a server says where it has placed memory"),
            Err(error) => return self.reply(client, number, Err(error), None, effects),
        };
        if let Err(error) = self.iovas.reserve(iova..iova.saturating_add(size)) {
            // Another buffer has some of that already, and keeps it: this one is unmapped again, and nobody waits for that.
            self.start(Task::Discard { client }, Work::Unmap { space, iova, size }, effects);
            return self.reply(client, number, Err(error.into()), None, effects);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.buffers.insert(iova, Buffer { space, size, state: BufferState::Mapping });
        }
        self.mapped(client, number, iova, id, Ok(Outcome::Done), effects);
    }

    pub(super) fn mapped(
        &mut self,
        client: ClientId,
        number: u64,
        iova: u64,
        id: TaskId,
        outcome: Result<Outcome, Error>,
        effects: &mut Vec<Effect>,
    ) {
        let present = self.is_present(client);
        let Some(state) = self.clients.get_mut(&client) else { return };
        let Some(buffer) = state.buffers.get_mut(&iova) else { return };
        match outcome {
            Ok(_) if present => {
                buffer.state = BufferState::Live;
                let reply = Ok(Reply::Allocated { iova, size: buffer.size });
                self.reply(client, number, reply, Some(id), effects);
            }
            Ok(_) => {
                // It left while its memory was being mapped.
                buffer.state = BufferState::Unmapping;
                let work = buffer.unmap(iova);
                self.start(Task::Unmap { client, number: None, iova }, work, effects);
            }
            Err(error) => {
                state.buffers.remove(&iova);
                self.release_iova(iova);
                self.reply(client, number, Err(error), None, effects);
            }
        }
    }

    pub(super) fn unmapped(
        &mut self,
        client: ClientId,
        number: Option<u64>,
        iova: u64,
        outcome: Result<Outcome, Error>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(state) = self.clients.get_mut(&client) {
            state.buffers.remove(&iova);
        }
        // After a failure a card may still reach that memory: its IOVA is never handed out again.
        if outcome.is_ok() {
            self.release_iova(iova);
        }
        self.settle(
            client,
            number,
            outcome,
            "a DMA buffer could not be unmapped; its IOVA stays taken",
            effects,
        );
    }

    fn release_iova(&mut self, iova: u64) {
        if let Err(error) = self.iovas.free(iova) {
            tracing::error!(iova, %error, "the broker's books do not agree with its allocator");
        }
    }
}
