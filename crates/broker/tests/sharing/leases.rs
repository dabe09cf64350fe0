//! Rights on parts of a card, and resets.

use crate::raw::{self, CARD, Raw};
use crate::rig::{H2C0_WRITEBACK, Rig, XDMA};
use jitney_broker::protocol::{Reply, Request};
use jitney_broker::{CardId, Limits};
use jitney_vfio::{ErrorKind, LeaseRequest, Mode, Part, Will, WillStep};

fn exclusive(part: &str) -> LeaseRequest {
    LeaseRequest::exclusive(part.parse().unwrap())
}

fn shared(part: &str) -> LeaseRequest {
    LeaseRequest { mode: Mode::Shared, ..exclusive(part) }
}

#[test]
fn shared_rights_go_together_and_exclusive_ones_do_not() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let (first, second) = (first.card("*").unwrap(), second.card("*").unwrap());
    let held = |request| second.lease(request).unwrap_err().kind() == ErrorKind::Held;

    let one = first.lease(shared("flash")).unwrap();
    let two = second.lease(shared("flash")).unwrap();
    assert!(held(exclusive("flash")));
    drop(one);
    assert!(held(exclusive("flash")), "its own lease stands in the way, too");
    drop(two);
    let alone = first.lease(exclusive("flash")).unwrap();
    assert!(held(shared("flash")));
    assert!(held(exclusive("whole")), "whole overlaps every part");
    second.lease(exclusive("h2c0")).unwrap();
    drop(alone);
    let whole = second.lease(exclusive("whole")).unwrap();
    assert_eq!(first.lease(exclusive("anything")).unwrap_err().kind(), ErrorKind::Held);
    drop(whole);
}

#[test]
fn a_reset_is_refused_while_others_hold_a_part_of_the_card() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let (first, second) = (first.card("*").unwrap(), second.card("*").unwrap());
    let register = first.bar(XDMA).unwrap();
    register.write32(H2C0_WRITEBACK, 0x1000).unwrap();

    let lease = first.lease(exclusive("h2c0")).unwrap();
    let error = second.reset().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held);
    assert!(error.to_string().contains("h2c0 is held by pid "), "{error}");
    assert_eq!(register.read32(H2C0_WRITEBACK).unwrap(), 0x1000, "nothing was reset");
    drop(lease);
    second.reset().unwrap();
    assert_eq!(register.read32(H2C0_WRITEBACK).unwrap(), 0);
    // Both still have the card, so it can still do DMA.
    assert!(rig.emulated.look().bus_master().unwrap());
}

#[test]
fn the_last_one_out_leaves_the_card_reset_and_unable_to_start_dma() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let look = rig.emulated.look();
    assert!(!look.bus_master().unwrap(), "nobody has opened it yet");
    let (one, two) = (first.card("*").unwrap(), second.card("*").unwrap());
    assert!(look.bus_master().unwrap());
    one.bar(XDMA).unwrap().write32(H2C0_WRITEBACK, 0x1000).unwrap();
    drop(one);
    // The next request shows that the one before it is done.
    assert_eq!(first.usage().unwrap().len(), 2);
    assert_eq!(two.bar(XDMA).unwrap().read32(H2C0_WRITEBACK).unwrap(), 0x1000, "somebody has it still");
    drop(two);
    // An open waits for the reset that is under way.
    let again = second.card("*").unwrap();
    assert_eq!(again.bar(XDMA).unwrap().read32(H2C0_WRITEBACK).unwrap(), 0);
    assert!(look.bus_master().unwrap());
    drop(again);
    crate::rig::eventually("bus master is on", || !look.bus_master().unwrap());
}

#[test]
fn leases_are_only_for_who_has_opened_the_card_and_are_not_endless() {
    let rig = Rig::new();
    let mut raw = Raw::new(rig.broker.socket());
    let lease = |part: &str| raw::lease(exclusive(part));
    assert_eq!(raw.ask(&lease("h2c0")).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(raw.ask(&Request::Open { card: CardId(1) }).unwrap_err().kind(), ErrorKind::NotFound);
    raw.ask(&Request::Open { card: CARD }).unwrap();
    for number in 0..Limits::default().leases_of_client {
        raw.ask(&lease(&format!("part-{number}"))).unwrap();
    }
    assert_eq!(raw.ask(&lease("one-more")).unwrap_err().kind(), ErrorKind::Exhausted);
    // Others may have theirs.
    rig.broker.bus().card("*").unwrap().lease(exclusive("h2c0")).unwrap();
    // And what is not its own a client cannot end.
    let mut other = Raw::new(rig.broker.socket());
    let release = Request::Release { card: CARD, lease: jitney_vfio::LeaseId(0), will: false };
    assert_eq!(other.ask(&release).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(raw.ask(&release).unwrap(), Reply::Done);
}

#[test]
fn a_will_has_to_be_possible() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let ask = |writes| card.lease(LeaseRequest::exclusive(Part::whole()).with_will(Will(writes)));
    let write = |bar, offset| WillStep::write(bar, offset, 0);
    assert!(ask(vec![write(5, 0)]).is_err());
    assert!(ask(vec![write(2, 1 << 40)]).is_err());
    assert!(ask(vec![write(2, 2)]).is_err());
    assert!(ask(vec![write(2, 4); Will::MAX_STEPS + 1]).is_err());
    ask(vec![write(2, 4); Will::MAX_STEPS]).unwrap();
}
