//! How a function's interrupt requests reach the clients: levels in, eventfds out.
//!
//! A function asks for a vector by a level. Which message a vector has is a matter of the kind of interrupt that a client
//! has set up: its own with MSI-X, one of those that are enabled with MSI, the one line with INTx. A request that rises
//! fires its message's eventfd; one that finds no eventfd, or a masked message, stays, and fires when an eventfd is armed
//! or the mask lifted. So nothing is lost when QEMU takes the whole set down and arms it again, which it does for each
//! vector that its guest adds.
//!
//! As with several openings of one VFIO device there is one set of wires per board, and whoever arms a message last has
//! it; the eventfds of a connection leave with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jitney_memory::EventFd;

use super::dma_table::ConnectionId;
use crate::function::InterruptKind;

/// What the function asks for.
#[derive(Debug, Default)]
struct Vector {
    requested: bool,
    /// A request that rose while messages were held back: it is sent when they may go.
    held: bool,
}

/// What a client has set up for one message, or for the line.
#[derive(Debug, Default)]
struct Message {
    masked: bool,
    wire: Option<(ConnectionId, EventFd)>,
}

/// Both ends of all wires.
#[derive(Debug, Default)]
struct State {
    /// Grows as the function requests vectors; a board without interrupts has none.
    vectors: Vec<Vector>,
    /// Grows as clients arm and mask them.
    messages: Vec<Message>,
    /// The kind that a client has set up.
    active: InterruptKind,
    /// How many messages have been enabled since it was set up: as many as MSI's address and data allow for.
    enabled: usize,
    /// The Interrupt Disable bit of the command register, which holds for INTx alone.
    line_disabled: bool,
    /// Bus Master Enable is off: MSI and MSI-X, which are writes to memory, do not go out.
    hold_messages: bool,
}

/// A loopback trigger without a client that has set the interrupt up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotEnabled;

/// The interrupts of one board.
#[derive(Debug)]
pub(crate) struct Interrupts(Mutex<State>);

impl Interrupts {
    /// No requests, no wires.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { active: InterruptKind::None, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change below is complete in itself, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function's side: sets the level of a vector's request.
    pub(crate) fn set(&self, vector: u16, requested: bool) {
        let mut state = self.state();
        let index = usize::from(vector);
        if state.vectors.len() <= index {
            state.vectors.resize_with(index + 1, Vector::default);
        }
        let before = std::mem::replace(&mut state.vectors[index].requested, requested);
        if requested && !before {
            state.send(index);
        } else if !requested {
            state.vectors[index].held = false;
        }
    }

    /// Whether the line is up: a vector is requested, and no kind of message has been set up instead.
    pub(crate) fn line_up(&self) -> bool {
        let state = self.state();
        matches!(state.active, InterruptKind::None | InterruptKind::Intx)
            && state.vectors.iter().any(|vector| vector.requested)
    }

    /// Whether a vector's request is up and has not reached a client: the pending bit of MSI-X.
    pub(crate) fn pending(&self, vector: u16) -> bool {
        let state = self.state();
        let index = usize::from(vector);
        let message = state.messages.get(state.message_of(index));
        let stuck = message.is_none_or(|message| message.masked || message.wire.is_none());
        state.vectors.get(index).is_some_and(|vector| vector.requested && (vector.held || stuck))
    }

    /// The kind that a client has set up.
    pub(crate) fn kind(&self) -> InterruptKind {
        self.state().active
    }

    /// Whether this kind can be set up, or is: no other one is.
    pub(crate) fn is_free_for(&self, kind: InterruptKind) -> bool {
        let active = self.state().active;
        active == InterruptKind::None || active == kind
    }

    /// Follows the Interrupt Disable bit of the command register.
    pub(crate) fn disable_line(&self, disabled: bool) {
        let mut state = self.state();
        state.line_disabled = disabled;
        if state.active == InterruptKind::Intx {
            state.fire(0);
        }
    }

    /// Follows Bus Master Enable of the command register: holds messages back, or sends what was held.
    pub(crate) fn hold_messages(&self, hold: bool) {
        let mut state = self.state();
        state.hold_messages = hold;
        for index in 0..state.vectors.len() {
            if !hold && std::mem::take(&mut state.vectors[index].held) {
                state.send(index);
            }
        }
    }

    /// Arms the messages from `start` on, one eventfd each. A request that is up fires at once.
    pub(crate) fn arm(&self, kind: InterruptKind, start: usize, wires: Vec<EventFd>, owner: ConnectionId) {
        let mut state = self.state();
        state.enable(kind, start + wires.len());
        for (index, wire) in (start..).zip(wires) {
            let message = state.message(index);
            message.wire = Some((owner, wire));
            if kind == InterruptKind::Intx {
                message.masked = false;
            }
            state.fire(index);
        }
    }

    /// Enables the interrupt and takes the eventfds of `count` messages away: "present, not armed".
    pub(crate) fn disarm(&self, kind: InterruptKind, start: usize, count: usize) {
        let mut state = self.state();
        let end = start.saturating_add(count);
        state.enable(kind, end);
        for message in state.messages.iter_mut().take(end).skip(start) {
            message.wire = None;
        }
    }

    /// Takes everything down that clients have set up of this kind. Requests stay.
    pub(crate) fn disable(&self, kind: InterruptKind) {
        let mut state = self.state();
        if state.active == kind {
            state.take_down();
        }
    }

    /// Masks messages, or lifts their masks, which fires those whose request is up.
    pub(crate) fn mask(&self, messages: impl IntoIterator<Item = usize>, masked: bool) {
        let mut state = self.state();
        for index in messages {
            let before = std::mem::replace(&mut state.message(index).masked, masked);
            if before && !masked {
                state.fire(index);
            }
        }
    }

    /// Fires messages without a request, so that a client can test its wires.
    pub(crate) fn trigger(&self, messages: impl IntoIterator<Item = usize>) -> Result<(), NotEnabled> {
        let state = self.state();
        if state.active == InterruptKind::None {
            return Err(NotEnabled);
        }
        messages.into_iter().filter_map(|index| state.messages.get(index)).for_each(Message::signal);
        Ok(())
    }

    /// Takes away the eventfds of a connection that has ended.
    pub(crate) fn release(&self, owner: ConnectionId) {
        let mut state = self.state();
        for message in &mut state.messages {
            if message.wire.as_ref().is_some_and(|(of, _)| *of == owner) {
                *message = Message::default();
            }
        }
        if state.messages.iter().all(|message| message.wire.is_none()) {
            state.take_down();
        }
    }
}

impl State {
    fn message(&mut self, index: usize) -> &mut Message {
        if self.messages.len() <= index {
            self.messages.resize_with(index + 1, Message::default);
        }
        &mut self.messages[index]
    }

    /// Which message a vector has. Of MSI's data a function fills in as many low bits as software has allowed for.
    fn message_of(&self, vector: usize) -> usize {
        match self.active {
            InterruptKind::Intx => 0,
            InterruptKind::Msi => vector & (self.enabled.max(1).next_power_of_two() - 1),
            InterruptKind::None | InterruptKind::MsiX => vector,
        }
    }

    fn enable(&mut self, kind: InterruptKind, messages: usize) {
        self.active = kind;
        self.enabled = self.enabled.max(messages);
    }

    fn take_down(&mut self) {
        self.active = InterruptKind::None;
        self.enabled = 0;
        self.messages.clear();
    }

    /// A vector's request has risen: its message fires, or waits until messages may go.
    fn send(&mut self, vector: usize) {
        let message = self.message_of(vector);
        let masked = self.messages.get(message).is_some_and(|message| message.masked);
        if self.active != InterruptKind::Intx && self.hold_messages {
            self.vectors[vector].held = !masked;
        } else {
            self.fire(message);
        }
    }

    /// Fires a message if a request for it is up and nothing stands in the way. INTx masks itself (VFIO: AUTOMASKED).
    fn fire(&mut self, index: usize) {
        let is_line = self.active == InterruptKind::Intx;
        let masked = self.messages.get(index).is_none_or(|message| message.masked);
        if masked || (is_line && self.line_disabled) {
            return;
        }
        let mut requested = false;
        for vector in 0..self.vectors.len() {
            if self.vectors[vector].requested && self.message_of(vector) == index {
                requested = true;
                self.vectors[vector].held |= !is_line && self.hold_messages;
            }
        }
        let sends = requested && (is_line || !self.hold_messages);
        let message = self.message(index);
        if sends && message.wire.is_some() {
            message.masked = is_line;
            message.signal();
        }
    }
}

impl Message {
    fn signal(&self) {
        if let Some((_, wire)) = &self.wire
            && let Err(error) = wire.signal()
        {
            crate::limited::warn_limited!("an interrupt did not reach its client: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
