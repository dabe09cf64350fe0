//! How a function's interrupt requests reach the clients: levels in, eventfds out.
//!
//! A function asks for a vector by a level. A request that rises fires the vector's eventfd; one that finds no eventfd,
//! or a masked vector, stays, and fires when an eventfd is armed or the mask lifted. So nothing is lost when QEMU takes
//! the whole set down and arms it again, which it does for each vector that its guest adds.
//!
//! As with several openings of one VFIO device there is one set of wires per board, and whoever arms a vector last has
//! it; the eventfds of a connection leave with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jitney_memory::EventFd;

use super::dma_table::ConnectionId;
use crate::function::InterruptKind;

/// One vector.
#[derive(Debug, Default)]
struct Vector {
    requested: bool,
    masked: bool,
    /// A request that rose while messages were held back: it is sent when they may go.
    held: bool,
    wire: Option<(ConnectionId, EventFd)>,
}

/// Both ends of all wires.
#[derive(Debug, Default)]
struct State {
    /// Grows as the function requests vectors and clients arm them; a board without interrupts has none.
    vectors: Vec<Vector>,
    /// The kind that a client has set up; loopback triggers need one.
    active: InterruptKind,
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
        let before = std::mem::replace(&mut state.vector(index).requested, requested);
        if requested && !before {
            state.fire(index);
        } else if !requested {
            state.vector(index).held = false;
        }
    }

    /// Whether a vector's request is up.
    pub(crate) fn requested(&self, vector: u16) -> bool {
        self.state().vectors.get(usize::from(vector)).is_some_and(|vector| vector.requested)
    }

    /// Whether a vector's request is up and has not reached a client: the pending bit of MSI-X.
    pub(crate) fn pending(&self, vector: u16) -> bool {
        self.state()
            .vectors
            .get(usize::from(vector))
            .is_some_and(|vector| vector.requested && (vector.masked || vector.held || vector.wire.is_none()))
    }

    /// Follows the Interrupt Disable bit of the command register.
    pub(crate) fn disable_line(&self, disabled: bool) {
        let mut state = self.state();
        state.line_disabled = disabled;
        if state.active == InterruptKind::Intx && !state.vectors.is_empty() {
            state.fire(0);
        }
    }

    /// Follows Bus Master Enable of the command register: holds messages back, or sends what was held.
    pub(crate) fn hold_messages(&self, hold: bool) {
        let mut state = self.state();
        state.hold_messages = hold;
        for index in 0..state.vectors.len() {
            if !hold && std::mem::take(&mut state.vectors[index].held) {
                state.fire(index);
            }
        }
    }

    /// Arms the vectors from `start` on, one eventfd each. A request that is up fires at once.
    pub(crate) fn arm(&self, kind: InterruptKind, start: usize, wires: Vec<EventFd>, owner: ConnectionId) {
        let mut state = self.state();
        state.active = kind;
        for (index, wire) in (start..).zip(wires) {
            let vector = state.vector(index);
            vector.wire = Some((owner, wire));
            if kind == InterruptKind::Intx {
                vector.masked = false;
            }
            state.fire(index);
        }
    }

    /// Enables the interrupt and takes the eventfds of `count` vectors away: "present, not armed".
    pub(crate) fn disarm(&self, kind: InterruptKind, start: usize, count: usize) {
        let mut state = self.state();
        state.active = kind;
        for index in start..start.saturating_add(count).min(state.vectors.len()) {
            state.vectors[index].wire = None;
        }
    }

    /// Takes everything down that clients have set up. Requests stay.
    pub(crate) fn disable(&self) {
        let mut state = self.state();
        state.active = InterruptKind::None;
        for vector in &mut state.vectors {
            vector.wire = None;
            vector.masked = false;
        }
    }

    /// Masks vectors, or lifts their masks, which fires those whose request is up.
    pub(crate) fn mask(&self, vectors: impl IntoIterator<Item = usize>, masked: bool) {
        let mut state = self.state();
        for index in vectors {
            let before = std::mem::replace(&mut state.vector(index).masked, masked);
            if before && !masked {
                state.fire(index);
            }
        }
    }

    /// Fires vectors without a request, so that a client can test its wires.
    pub(crate) fn trigger(&self, vectors: impl IntoIterator<Item = usize>) -> Result<(), NotEnabled> {
        let state = self.state();
        if state.active == InterruptKind::None {
            return Err(NotEnabled);
        }
        vectors.into_iter().filter_map(|index| state.vectors.get(index)).for_each(Vector::signal);
        Ok(())
    }

    /// Takes away the eventfds of a connection that has ended.
    pub(crate) fn release(&self, owner: ConnectionId) {
        let mut state = self.state();
        for vector in &mut state.vectors {
            if vector.wire.as_ref().is_some_and(|(of, _)| *of == owner) {
                vector.wire = None;
                vector.masked = false;
            }
        }
        if state.vectors.iter().all(|vector| vector.wire.is_none()) {
            state.active = InterruptKind::None;
        }
    }
}

impl State {
    fn vector(&mut self, index: usize) -> &mut Vector {
        if self.vectors.len() <= index {
            self.vectors.resize_with(index + 1, Vector::default);
        }
        &mut self.vectors[index]
    }

    /// Fires a vector if its request is up and nothing stands in the way. INTx masks itself (VFIO: AUTOMASKED).
    fn fire(&mut self, index: usize) {
        let is_line = self.active == InterruptKind::Intx;
        let held = is_line && self.line_disabled;
        let messages_held = !is_line && self.hold_messages;
        let vector = self.vector(index);
        if vector.requested && !vector.masked && messages_held {
            vector.held = true;
        } else if vector.requested && !vector.masked && !held && vector.wire.is_some() {
            vector.masked = is_line;
            vector.signal();
        }
    }
}

impl Vector {
    fn signal(&self) {
        if let Some((_, wire)) = &self.wire
            && let Err(error) = wire.signal()
        {
            crate::limited::warn_limited!("an interrupt did not reach its client: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    /// An eventfd and a second descriptor of it, as a client and the server have them.
    fn wire() -> (EventFd, EventFd) {
        let event = EventFd::new().unwrap();
        let copy: OwnedFd = event.as_fd().try_clone_to_owned().unwrap();
        (event, EventFd::try_from(copy).unwrap())
    }

    #[test]
    fn without_bus_mastering_messages_wait_and_lines_do_not() {
        let interrupts = Interrupts::new();
        let (event, copy) = wire();
        interrupts.arm(InterruptKind::MsiX, 3, vec![copy], ONE);
        interrupts.hold_messages(true);
        interrupts.set(3, true);
        assert_eq!(event.take().unwrap(), 0);
        assert!(interrupts.pending(3));
        interrupts.hold_messages(false);
        assert_eq!(event.take().unwrap(), 1);
        // What was sent is not sent again, and a request that fell is forgotten.
        interrupts.hold_messages(true);
        interrupts.hold_messages(false);
        interrupts.set(3, false);
        interrupts.hold_messages(true);
        interrupts.set(3, true);
        interrupts.set(3, false);
        interrupts.hold_messages(false);
        assert_eq!(event.take().unwrap(), 0);

        let (line, copy) = wire();
        interrupts.hold_messages(true);
        interrupts.arm(InterruptKind::Intx, 0, vec![copy], ONE);
        interrupts.set(0, true);
        assert_eq!(line.take().unwrap(), 1);
    }

    #[test]
    fn a_request_fires_once_when_it_rises() {
        let interrupts = Interrupts::new();
        let (client, server) = wire();
        interrupts.arm(InterruptKind::MsiX, 3, vec![server], ONE);
        interrupts.set(3, true);
        interrupts.set(3, true);
        assert_eq!(client.take().unwrap(), 1);
        interrupts.set(3, false);
        interrupts.set(3, true);
        assert_eq!(client.take().unwrap(), 1);
        interrupts.set(2, true);
        assert_eq!(client.take().unwrap(), 0);
    }

    #[test]
    fn a_request_waits_for_a_wire_and_for_the_mask() {
        let interrupts = Interrupts::new();
        interrupts.set(0, true);
        assert!(interrupts.pending(0));
        let (client, server) = wire();
        interrupts.disarm(InterruptKind::MsiX, 0, 1);
        interrupts.mask([0], true);
        interrupts.arm(InterruptKind::MsiX, 0, vec![server], ONE);
        assert_eq!(client.take().unwrap(), 0);
        interrupts.mask([0], false);
        assert_eq!(client.take().unwrap(), 1);
        assert!(interrupts.requested(0) && !interrupts.pending(0));
    }

    #[test]
    fn taking_the_set_down_and_arming_it_again_loses_nothing() {
        let interrupts = Interrupts::new();
        let (client, server) = wire();
        interrupts.arm(InterruptKind::MsiX, 0, vec![server], ONE);
        interrupts.disable();
        interrupts.set(0, true);
        assert_eq!(client.take().unwrap(), 0);
        let (client, server) = wire();
        interrupts.arm(InterruptKind::MsiX, 0, vec![server], ONE);
        assert_eq!(client.take().unwrap(), 1);
    }

    #[test]
    fn a_line_masks_itself_and_fires_again_while_its_level_is_up() {
        let interrupts = Interrupts::new();
        let (client, server) = wire();
        interrupts.arm(InterruptKind::Intx, 0, vec![server], ONE);
        interrupts.set(0, true);
        interrupts.set(0, false);
        interrupts.set(0, true);
        assert_eq!(client.take().unwrap(), 1);
        interrupts.mask([0], false);
        assert_eq!(client.take().unwrap(), 1);
        interrupts.set(0, false);
        interrupts.mask([0], false);
        assert_eq!(client.take().unwrap(), 0);
    }

    #[test]
    fn the_command_register_holds_a_line_back() {
        let interrupts = Interrupts::new();
        let (client, server) = wire();
        interrupts.arm(InterruptKind::Intx, 0, vec![server], ONE);
        interrupts.disable_line(true);
        interrupts.set(0, true);
        assert_eq!(client.take().unwrap(), 0);
        interrupts.disable_line(false);
        assert_eq!(client.take().unwrap(), 1);
    }

    #[test]
    fn a_connection_takes_only_its_own_wires_along() {
        let interrupts = Interrupts::new();
        let (_first, first_server) = wire();
        let (second, second_server) = wire();
        interrupts.arm(InterruptKind::MsiX, 0, vec![first_server], ONE);
        interrupts.arm(InterruptKind::MsiX, 1, vec![second_server], TWO);
        interrupts.release(ONE);
        interrupts.set(0, true);
        interrupts.set(1, true);
        assert!(interrupts.pending(0));
        assert_eq!(second.take().unwrap(), 1);
        interrupts.release(TWO);
        assert_eq!(interrupts.trigger([1]), Err(NotEnabled));
    }

    #[test]
    fn loopback_needs_an_interrupt_that_is_set_up() {
        let interrupts = Interrupts::new();
        assert_eq!(interrupts.trigger([0]), Err(NotEnabled));
        let (client, server) = wire();
        interrupts.arm(InterruptKind::Msi, 1, vec![server], ONE);
        assert_eq!(interrupts.trigger([0, 1, 2000]), Ok(()));
        assert_eq!(client.take().unwrap(), 1);
    }
}
