//! Interrupts through eventfds.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use jitney_emulator::InterruptKinds;
use jitney_memory::EventFd;
use jitney_vfio_user::{IrqAction, IrqData};

use crate::client::{Client, EINVAL, ENOTSUP, Fixture};
use crate::toy;

const INTX: u32 = 0;
const MSIX: u32 = 2;

fn arm(client: &mut Client, index: u32, start: u32, wires: &[&EventFd]) -> Result<(), u32> {
    let wires: Vec<BorrowedFd<'_>> = wires.iter().map(|wire| wire.as_fd()).collect();
    client.interrupts((index, start, wires.len() as u32), IrqAction::Trigger, IrqData::Eventfds, &wires)
}

fn fired(wire: &EventFd) -> bool {
    wire.wait(Some(Duration::from_secs(5))).unwrap() && wire.take().unwrap() > 0
}

#[test]
fn requests_reach_the_eventfd_of_their_vector() {
    let server = Fixture::new();
    let mut client = server.open();
    let wires: Vec<EventFd> = (0..16).map(|_| EventFd::new().unwrap()).collect();
    arm(&mut client, MSIX, 2, &wires.iter().collect::<Vec<_>>()).unwrap();
    client.set(toy::RAISE, 5);
    assert!(fired(&wires[3]));
    client.set(toy::RAISE, 17);
    assert!(fired(&wires[15]));
    assert!(wires.iter().all(|wire| wire.take().unwrap() == 0));
}

#[test]
fn the_set_can_be_rearmed_again_and_again_as_qemu_does() {
    let server = Fixture::new();
    let mut client = server.open();
    for vectors in 1..=18_u32 {
        client.interrupts((MSIX, 0, 0), IrqAction::Trigger, IrqData::None, &[]).unwrap();
        // Present, not armed.
        client.interrupts((MSIX, 0, 1), IrqAction::Trigger, IrqData::Eventfds, &[]).unwrap();
        client.set(toy::LOWER, vectors - 1);
        client.set(toy::RAISE, vectors - 1);
        let wires: Vec<EventFd> = (0..vectors).map(|_| EventFd::new().unwrap()).collect();
        for (start, part) in wires.chunks(16).enumerate() {
            arm(&mut client, MSIX, 16 * start as u32, &part.iter().collect::<Vec<_>>()).unwrap();
        }
        // All requests made so far are still up: each new wire hears of its own.
        assert!(wires.iter().all(fired));
    }
}

#[test]
fn loopback_fires_what_is_chosen() {
    let server = Fixture::new();
    let mut client = server.open();
    let trigger = |client: &mut Client, range, data| client.interrupts(range, IrqAction::Trigger, data, &[]);
    assert_eq!(trigger(&mut client, (MSIX, 0, 1), IrqData::None), Err(EINVAL));
    let (first, second) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    arm(&mut client, MSIX, 0, &[&first, &second]).unwrap();
    trigger(&mut client, (MSIX, 0, 3), IrqData::Bools(&[0, 1, 1])).unwrap();
    assert_eq!((first.take().unwrap(), second.take().unwrap()), (0, 1));
    trigger(&mut client, (MSIX, 0, 2), IrqData::None).unwrap();
    assert_eq!((first.take().unwrap(), second.take().unwrap()), (1, 1));
}

#[test]
fn masks_hold_requests_back() {
    let server = Fixture::new();
    let mut client = server.open();
    let wire = EventFd::new().unwrap();
    arm(&mut client, MSIX, 4, &[&wire]).unwrap();
    client.interrupts((MSIX, 4, 1), IrqAction::Mask, IrqData::None, &[]).unwrap();
    client.set(toy::RAISE, 4);
    assert_eq!(wire.take().unwrap(), 0);
    client.interrupts((MSIX, 3, 2), IrqAction::Unmask, IrqData::Bools(&[1, 1]), &[]).unwrap();
    assert!(fired(&wire));
}

#[test]
fn a_line_is_a_level() {
    let server = Fixture::with(InterruptKinds { line: true, ..InterruptKinds::default() });
    let mut client = server.open();
    let wire = EventFd::new().unwrap();
    arm(&mut client, INTX, 0, &[&wire]).unwrap();
    client.set(toy::RAISE, 0);
    assert!(fired(&wire));
    // The status register shows it.
    assert_eq!(client.read(7, 6, 1).unwrap()[0] & 8, 8);
    client.interrupts((INTX, 0, 1), IrqAction::Unmask, IrqData::None, &[]).unwrap();
    assert!(fired(&wire));
    client.set(toy::LOWER, 0);
    client.interrupts((INTX, 0, 1), IrqAction::Unmask, IrqData::None, &[]).unwrap();
    assert_eq!(wire.take().unwrap(), 0);
    // Interrupt Disable.
    client.write(7, 4, &[6, 4]).unwrap();
    client.set(toy::RAISE, 0);
    assert_eq!(wire.take().unwrap(), 0);
    client.write(7, 4, &[6, 0]).unwrap();
    assert!(fired(&wire));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = Fixture::new();
    let mut client = server.open();
    let wire = EventFd::new().unwrap();
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    let mut set =
        |range, action, data, wires: &[BorrowedFd<'_>]| client.interrupts(range, action, data, wires);
    let eventfds = IrqData::Eventfds;
    assert_eq!(set((MSIX, 18, 1), IrqAction::Trigger, eventfds, &[wire.as_fd()]), Err(EINVAL));
    assert_eq!(set((MSIX, 17, 2), IrqAction::Mask, IrqData::None, &[]), Err(EINVAL));
    assert_eq!(set((MSIX, 0, 2), IrqAction::Trigger, eventfds, &[wire.as_fd()]), Err(EINVAL));
    assert_eq!(set((MSIX, 0, 1), IrqAction::Trigger, eventfds, &[pipe.as_fd()]), Err(EINVAL));
    assert_eq!(set((INTX, 0, 1), IrqAction::Trigger, eventfds, &[wire.as_fd()]), Err(EINVAL));
    assert_eq!(set((3, 0, 1), IrqAction::Trigger, eventfds, &[wire.as_fd()]), Err(EINVAL));
    assert_eq!(set((9, 0, 0), IrqAction::Trigger, IrqData::None, &[]), Err(EINVAL));
    assert_eq!(set((MSIX, 0, 1), IrqAction::Unmask, eventfds, &[wire.as_fd()]), Err(ENOTSUP));
    // Taking down what was never there is not nonsense.
    for index in 0..5 {
        assert_eq!(set((index, 0, 0), IrqAction::Trigger, IrqData::None, &[]), Ok(()));
    }
}

/// One after the other, as a driver does that is told to use another kind.
#[test]
fn all_kinds_that_a_function_has_can_be_used_one_at_a_time() {
    let server = Fixture::with(InterruptKinds { line: true, msi: 4, ..toy::MSIX });
    let mut client = server.open();
    client.set(toy::RAISE, 6);
    for index in [MSIX, 1, INTX] {
        let wires: Vec<EventFd> = (0..[1, 4, 18][index as usize]).map(|_| EventFd::new().unwrap()).collect();
        for (start, part) in wires.chunks(16).enumerate() {
            arm(&mut client, index, 16 * start as u32, &part.iter().collect::<Vec<_>>()).unwrap();
        }
        // Vector 6: itself, the low two bits, the line.
        assert!(fired(&wires[[0, 2, 6][index as usize]]), "kind {index}");
        for other in (0..3).filter(|other| *other != index) {
            assert_eq!(arm(&mut client, other, 0, &[&wires[0]]), Err(EINVAL), "{other} beside {index}");
            // Taking down what is not set up changes nothing.
            client.interrupts((other, 0, 0), IrqAction::Trigger, IrqData::None, &[]).unwrap();
        }
        client.set(toy::LOWER, 6);
        client.set(toy::RAISE, 6);
        if index == INTX {
            client.interrupts((INTX, 0, 1), IrqAction::Unmask, IrqData::None, &[]).unwrap();
        }
        assert!(fired(&wires[[0, 2, 6][index as usize]]), "kind {index} is still set up");
        client.interrupts((index, 0, 0), IrqAction::Trigger, IrqData::None, &[]).unwrap();
    }
}
