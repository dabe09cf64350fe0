//! Levels in, eventfds out.

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
    assert!(!interrupts.pending(0));
}

#[test]
fn taking_the_set_down_and_arming_it_again_loses_nothing() {
    let interrupts = Interrupts::new();
    let (client, server) = wire();
    interrupts.arm(InterruptKind::MsiX, 0, vec![server], ONE);
    interrupts.disable(InterruptKind::Msi);
    assert_eq!(interrupts.kind(), InterruptKind::MsiX, "it is another kind");
    interrupts.disable(InterruptKind::MsiX);
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
fn the_line_is_up_while_any_vector_is() {
    let interrupts = Interrupts::new();
    let (client, server) = wire();
    interrupts.arm(InterruptKind::Intx, 0, vec![server], ONE);
    interrupts.set(5, true);
    interrupts.set(9, true);
    assert_eq!(client.take().unwrap(), 1);
    interrupts.set(5, false);
    interrupts.mask([0], false);
    assert_eq!((client.take().unwrap(), interrupts.line_up()), (1, true));
    interrupts.set(9, false);
    interrupts.mask([0], false);
    assert_eq!((client.take().unwrap(), interrupts.line_up()), (0, false));
    // With messages set up, nothing asserts the line.
    interrupts.disable(InterruptKind::Intx);
    interrupts.disarm(InterruptKind::Msi, 0, 1);
    interrupts.set(9, true);
    assert!(!interrupts.line_up());
}

#[test]
fn with_fewer_messages_of_msi_the_low_bits_of_a_vector_choose() {
    let interrupts = Interrupts::new();
    let (clients, servers): (Vec<_>, Vec<_>) = (0..3).map(|_| wire()).unzip();
    interrupts.arm(InterruptKind::Msi, 0, servers, ONE);
    let rung = || clients.iter().map(|client| client.take().unwrap()).collect::<Vec<_>>();
    // Three are four for the function.
    for (vector, expected) in [(1, [0, 1, 0]), (4, [1, 0, 0]), (30, [0, 0, 1]), (7, [0, 0, 0])] {
        interrupts.set(vector, true);
        assert_eq!(rung(), expected, "vector {vector}");
    }
    assert!(interrupts.pending(7) && !interrupts.pending(30));
    // Each source sends its own message.
    interrupts.set(5, true);
    assert_eq!(rung(), [0, 1, 0]);
    interrupts.disable(InterruptKind::Msi);
    let (client, server) = wire();
    interrupts.arm(InterruptKind::Msi, 0, vec![server], ONE);
    assert_eq!(client.take().unwrap(), 1);
    interrupts.set(31, true);
    assert_eq!(client.take().unwrap(), 1, "one message is for all");
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
