//! What the machine does with memory: DMA buffers from the request to the end.

use super::quarantine::{Traces, What, add_traces};
use super::requests::Answer;
use super::{ClientId, Effect, Failure, Machine, Outcome, Space, TaskId, Work, invalid};
use crate::protocol::{CardId, Reply};
use crate::seldom::Seldom;
use jitney_vfio::{DmaPlace, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often other addresses are tried if something else is mapped where a buffer was to be.
const MOST_TRIES: u8 = 4;

/// A DMA buffer. It is there until the last hold of it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Buffer {
    pub(super) space: Space,
    pub(super) size: u64,
    /// It lies where it lies in the machine: unmapping it keeps no card from it.
    pub(super) placed: bool,
    pub(super) state: BufferState,
    /// Who has it, and whether to write to it.
    pub(super) holders: BTreeMap<ClientId, Rights>,
    /// Cards that may still be at work in it for somebody whose hold has ended.
    pub(super) traces: Traces,
}

/// What the holder of a buffer may do to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Rights {
    Read,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum BufferState {
    /// Being mapped, and what was asked for, should that have to be tried again elsewhere.
    Mapping(Wish),
    Live,
    Unmapping,
}

/// What a client wants of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) size: u64,
    pub(super) align: u64,
    pub(super) top: u64,
    pub(super) page_shift: u8,
    /// How often it was tried.
    pub(super) tries: u8,
}

impl Machine {
    pub(super) fn allocate(
        &mut self,
        client: ClientId,
        number: u64,
        space: Space,
        wish: Wish,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let Wish { size, align, top, page_shift, .. } = wish;
        if !matches!(page_shift, 12 | 21 | 30) {
            return Err(invalid(format!("there are no pages of 2^{page_shift} bytes; use 12, 21 or 30")));
        }
        let page = 1u64 << page_shift;
        let physical = self.is_physical(space);
        // No map is smaller than the largest page that the cards' IOMMU takes, and that is what counts.
        let unit = if physical { page } else { page.max(self.iovas.granule()) };
        let Some(size) = size.checked_next_multiple_of(unit).filter(|&size| size > 0 && size < 1 << 63)
        else {
            return Err(invalid(format!("a DMA buffer cannot have {size} bytes")));
        };
        self.check_buffers(client, size)?;
        if physical {
            self.start(Work::Place { space, size, align, top, page_shift }, client, Some(number), effects);
            return Ok(None);
        }
        // One that is no power of two is left for the allocator to refuse.
        let align = if align.is_power_of_two() { align.max(page) } else { align };
        self.map(
            client,
            number,
            space,
            Wish { size, align, top, page_shift, tries: wish.tries + 1 },
            effects,
        )?;
        Ok(None)
    }

    /// Chooses an address and has memory mapped there.
    fn map(
        &mut self,
        client: ClientId,
        number: u64,
        space: Space,
        wish: Wish,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let Wish { size, align, top, page_shift, .. } = wish;
        let request = jitney_iova::Request { size, align, top };
        let range = self
            .iovas
            .allocate(request)
            .map_err(|error| Error::from(error).context(format!("a DMA buffer of {size:#x} bytes")))?;
        let (iova, size) = (range.start, range.end - range.start);
        self.insert_buffer(client, iova, (space, size, false), BufferState::Mapping(wish));
        self.start(Work::Map { space, iova, size, page_shift }, client, Some(number), effects);
        Ok(())
    }

    pub(super) fn free(
        &mut self,
        client: ClientId,
        number: u64,
        iova: u64,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let buffer = self.held(client, iova)?;
        if buffer.holders.len() > 1 {
            self.end_hold(client, iova, effects);
            return Ok(Some(Reply::Done));
        }
        let stuck = self.clients.get(&client).and_then(|state| state.stuck.keys().next().copied());
        let (space, size) = (buffer.space, buffer.size);
        match stuck {
            Some(CardId(card)) if buffer.placed => {
                let what = format!(
                    "an engine of card {card} did not stop, and nothing keeps it from the DMA buffer at {iova:#x}"
                );
                return Err(Error::new(ErrorKind::Held, what).with_remedy("reset the card first"));
            }
            // Nor does anything keep a card from it that worked for somebody who had it before; that is not this client's fault.
            _ if buffer.placed && !buffer.traces.is_empty() => {
                self.withdraw(iova, effects);
                self.keep_memory(client, iova);
                return Ok(Some(Reply::Done));
            }
            _ => {}
        }
        self.withdraw(iova, effects);
        self.set_state(iova, BufferState::Unmapping);
        self.start(Work::Unmap { space, iova, size }, client, Some(number), effects);
        Ok(None)
    }

    /// The buffer at `iova`, if `client` has it and it is neither being made nor unmade.
    pub(super) fn held(&self, client: ClientId, iova: u64) -> Result<&Buffer, Error> {
        let held = self
            .buffers
            .get(&iova)
            .filter(|buffer| buffer.state == BufferState::Live && buffer.holders.contains_key(&client));
        held.ok_or_else(|| invalid(format!("this client has no DMA buffer at IOVA {iova:#x}")))
    }

    /// Whether memory of this space is mapped where it lies, not where an allocator chooses.
    pub(super) fn is_physical(&self, space: Space) -> bool {
        let cards = self.cards.values().map(|card| &card.description);
        let mut own = cards.filter(|card| space == Space::All || space == Space::One(card.space));
        own.any(|card| card.physical)
    }

    /// How many buffers of `client` are still being made that no book has, and their bytes.
    pub(super) fn placing(&self, client: ClientId) -> (usize, u64) {
        let tasks = self.clients.get(&client).map(|client| &client.pending);
        let tasks = tasks.into_iter().flatten().filter_map(|id| self.tasks.get(id));
        let sizes = tasks.filter_map(|task| match task.work {
            Work::Place { size, .. } => Some(size),
            _ => None,
        });
        sizes.fold((0, 0), |(count, bytes): (usize, u64), size| (count + 1, bytes.saturating_add(size)))
    }

    /// Takes in where a buffer's memory lies. From here on it is as if the allocator had chosen that.
    pub(super) fn placed(
        &mut self,
        client: ClientId,
        number: u64,
        space: Space,
        id: TaskId,
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let DmaPlace { iova, size } = match outcome {
            Ok(Outcome::Placed(place)) => place,
            Ok(_) => {
                let error = Error::new(ErrorKind::System, "memory was made, and nobody said where it lies");
                return self.reply(client, number, Err(error), None, effects);
            }
            Err(failure) => return self.reply(client, number, Err(failure.error), None, effects),
        };
        if let Err(error) = self.iovas.reserve(iova..iova.saturating_add(size)) {
            // Another buffer has some of that already, and keeps it: this one is unmapped again, and nobody waits for that.
            let stray = self.start(Work::Unmap { space, iova, size }, client, None, effects);
            self.strays.insert(stray);
            return self.reply(client, number, Err(error.into()), None, effects);
        }
        self.insert_buffer(client, iova, (space, size, true), BufferState::Live);
        self.reply(client, number, Ok(Reply::Allocated { iova, size }), Some(id), effects);
    }

    pub(super) fn mapped(
        &mut self,
        client: ClientId,
        number: u64,
        iova: u64,
        id: TaskId,
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(buffer) = self.buffers.get_mut(&iova) else { return };
        let (space, BufferState::Mapping(wish)) = (buffer.space, buffer.state) else { return };
        let failure = match outcome {
            Ok(_) => {
                // If the client left meanwhile its departure unmaps it.
                buffer.state = BufferState::Live;
                let size = buffer.size;
                return self.reply(client, number, Ok(Reply::Allocated { iova, size }), Some(id), effects);
            }
            Err(failure) => failure,
        };
        self.remove_buffer(iova);
        if failure.lost {
            self.lose(iova);
        } else {
            self.rest(iova);
        }
        // Somebody who should not be able to has mapped something there. It is not the client who suffers for that.
        if failure.lost
            && failure.error.kind() == ErrorKind::Held
            // All of the card's addresses are another owner's: none will do.
            && failure.error.errno() != Some(rustix::io::Errno::PERM)
            && wish.tries < MOST_TRIES
            && self.is_present(client)
        {
            let wish = Wish { tries: wish.tries + 1, ..wish };
            if self.map(client, number, space, wish, effects).is_ok() {
                return;
            }
        }
        self.reply(client, number, Err(failure.error), None, effects);
    }

    /// Takes in that something was unmapped, or could not be.
    pub(super) fn unmapped(
        &mut self,
        (client, answer): (Option<ClientId>, Option<u64>),
        iova: u64,
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let departing = client.is_some_and(|client| !self.is_present(client));
        let traces = client.map(|client| self.traces(client, iova)).unwrap_or_default();
        match client {
            Some(_) => drop(self.remove_buffer(iova)),
            None => self.is_over(iova),
        }
        match (&outcome, client) {
            // After a failure a card may still reach that memory: its IOVA is never handed out again.
            (Err(_), _) => self.lose(iova),
            (Ok(_), Some(client)) if !traces.is_empty() => self.quarantine_address(client, iova, traces),
            (Ok(_), _) => self.rest(iova),
        }
        let outcome = outcome.map_err(|failure| failure.error);
        match (client, answer) {
            (Some(client), Some(number)) if !departing => {
                self.reply(client, number, outcome.map(|_| Reply::Done), None, effects);
            }
            _ => {
                static SELDOM: Seldom = Seldom::new();
                if let Err(error) = outcome
                    && let Some(before) = SELDOM.allows()
                {
                    tracing::warn!(iova, %error, before, "a DMA buffer could not be unmapped; its IOVA stays taken");
                }
            }
        }
    }

    /// Begins to take back the memory of a client that is gone: what others have stays theirs, and what lies where it lies stays
    /// until its cards are quiet.
    pub(super) fn unmap_buffers(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        let Some(state) = self.clients.get(&client) else { return };
        for iova in state.buffers.iter().copied().collect::<Vec<_>>() {
            let Ok(buffer) = self.held(client, iova) else { continue };
            let (space, size, placed) = (buffer.space, buffer.size, buffer.placed);
            if buffer.holders.len() > 1 {
                self.end_hold(client, iova, effects);
            } else if placed && !self.traces(client, iova).is_empty() {
                self.keep_memory(client, iova);
            } else {
                self.set_state(iova, BufferState::Unmapping);
                self.start(Work::Unmap { space, iova, size }, client, None, effects);
            }
        }
    }

    /// The cards that may still be at work in a buffer for `client`, or for somebody who had it before.
    fn traces(&self, client: ClientId, iova: u64) -> Traces {
        let mut traces = self.buffers.get(&iova).map(|buffer| buffer.traces.clone()).unwrap_or_default();
        if let Some(state) = self.clients.get(&client) {
            add_traces(&mut traces, state.unquiet());
        }
        traces
    }

    /// Ends a client's hold of a buffer that others have as well. What its cards may still do there is remembered.
    fn end_hold(&mut self, client: ClientId, iova: u64, effects: &mut Vec<Effect>) {
        if self.offers.get(&iova).is_some_and(|offer| offer.maker == client) {
            self.pass_on(iova, effects);
        }
        let traces = self.traces(client, iova);
        self.let_go_of(client, iova);
        if let Some(buffer) = self.buffers.get_mut(&iova) {
            buffer.traces = traces;
        }
    }

    /// Puts memory into quarantine as it is, of which `client` has the last hold.
    fn keep_memory(&mut self, client: ClientId, iova: u64) {
        let traces = self.traces(client, iova);
        if let Some(Buffer { space, size, .. }) = self.remove_buffer(iova) {
            self.quarantine(client, What::Memory { iova, space, size }, traces);
        }
    }

    fn set_state(&mut self, iova: u64, state: BufferState) {
        if let Some(buffer) = self.buffers.get_mut(&iova) {
            buffer.state = state;
        }
    }

    fn insert_buffer(
        &mut self,
        client: ClientId,
        iova: u64,
        (space, size, placed): (Space, u64, bool),
        state: BufferState,
    ) {
        let (holders, traces) = (BTreeMap::new(), Traces::new());
        self.buffers.insert(iova, Buffer { space, size, placed, state, holders, traces });
        self.hold(client, iova, Rights::Write);
    }

    /// Enters a hold into the books.
    pub(super) fn hold(&mut self, client: ClientId, iova: u64, rights: Rights) {
        let Some(buffer) = self.buffers.get_mut(&iova) else { return };
        if let Some(state) = self.clients.get_mut(&client) {
            buffer.holders.insert(client, rights);
            state.bytes += buffer.size;
            state.buffers.insert(iova);
        }
    }

    /// Strikes a hold out of the books.
    fn let_go_of(&mut self, client: ClientId, iova: u64) {
        let Some(buffer) = self.buffers.get_mut(&iova) else { return };
        buffer.holders.remove(&client);
        if let Some(state) = self.clients.get_mut(&client)
            && state.buffers.remove(&iova)
        {
            state.bytes -= buffer.size;
        }
    }

    fn remove_buffer(&mut self, iova: u64) -> Option<Buffer> {
        let holders: Vec<ClientId> = self.buffers.get(&iova)?.holders.keys().copied().collect();
        for client in holders {
            self.let_go_of(client, iova);
        }
        self.buffers.remove(&iova)
    }

    /// Gives an address back, to be used again as late as possible.
    pub(super) fn rest(&mut self, iova: u64) {
        if let Err(error) = self.iovas.free(iova) {
            tracing::error!(iova, %error, "the broker's books do not agree with its allocator");
        }
    }

    /// Gives an address up.
    fn lose(&mut self, iova: u64) {
        if let Err(error) = self.iovas.lose(iova) {
            tracing::error!(iova, %error, "the broker's books do not agree with its allocator");
        }
    }
}
