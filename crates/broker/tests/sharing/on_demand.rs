//! A broker that takes cards when somebody asks for them.

use crate::rig::{Emulated, Serving, eventually};
use jitney_broker::{Broker, Bus, OwnerOptions, ServiceManager};
use jitney_vfio::{Card, CardAddress, DmaBuffer, DmaRequest, ErrorKind, Owner};
use jitney_xdma::Xdma;
use std::sync::Arc;

fn broker(cards: &[CardAddress]) -> Serving {
    let options = OwnerOptions { cards: cards.to_vec(), ..OwnerOptions::default() };
    Serving::of(Broker::on_demand(ServiceManager::default(), options).unwrap())
}

/// Whether another program could have the board: who has it first maps memory for it, and nobody else.
fn is_free(board: &Emulated) -> bool {
    let owner = Owner::open(std::slice::from_ref(&board.address)).unwrap();
    owner.dma_buffer(4096).is_ok()
}

fn card(bus: &Bus, board: &Emulated) -> Arc<dyn Card> {
    bus.card(&board.address.to_string()).unwrap()
}

/// Memory goes to the card and back.
fn moves(card: &Arc<dyn Card>, buffer: &DmaBuffer) {
    let xdma = Xdma::identify(Arc::clone(card), 2).unwrap();
    buffer.write(0, b"there").unwrap();
    xdma.h2c(0).unwrap().write(buffer, 0).unwrap();
    buffer.write(0, b".....").unwrap();
    xdma.c2h(0).unwrap().read(buffer, 0).unwrap();
    let mut bytes = [0; 5];
    buffer.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"there");
}

#[test]
fn a_card_is_taken_for_the_first_and_given_back_by_the_last() {
    let boards = [Emulated::new(), Emulated::new()];
    let broker = broker(&[boards[0].address.clone(), boards[1].address.clone()]);
    let (one, other) = (broker.bus(), broker.bus());
    assert_eq!(one.cards().len(), 2);
    assert!(boards.iter().all(is_free), "it has what nobody asked for");
    for _ in 0..3 {
        let first = card(&one, &boards[0]);
        let second = card(&other, &boards[0]);
        moves(&first, &first.dma_buffer(DmaRequest::new(4096)).unwrap());
        drop(first);
        moves(&second, &second.dma_buffer(DmaRequest::new(4096)).unwrap());
        assert!(!is_free(&boards[0]) && is_free(&boards[1]));
        drop(second);
        eventually("the card is kept", || is_free(&boards[0]));
    }
}

#[test]
fn a_card_that_comes_later_is_found_and_one_that_goes_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("later.sock");
    let first = Emulated::new();
    let broker = broker(&[first.address.clone(), CardAddress::VfioUser(place.clone())]);
    let before = broker.bus();
    assert_eq!(before.cards().len(), 1);
    let later = Emulated::at(&place);
    let bus = broker.bus();
    assert_eq!(bus.cards().len(), 2);
    let opened = card(&bus, &later);
    moves(&opened, &opened.dma_buffer(DmaRequest::new(4096)).unwrap());
    drop(opened);
    eventually("the card is kept", || is_free(&later));
    drop(later);
    assert_eq!(broker.bus().cards().len(), 1);
    assert_eq!(bus.card(&format!("vfio-user:{}", place.display())).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn one_buffer_is_for_all_cards_that_are_open_and_keeps_none() {
    let boards = [Emulated::new(), Emulated::new()];
    let broker = broker(&[boards[0].address.clone(), boards[1].address.clone()]);
    let bus = broker.bus();
    assert_eq!(bus.dma_buffer(4096).unwrap_err().kind(), ErrorKind::NotFound);
    let cards = [card(&bus, &boards[0]), card(&bus, &boards[1])];
    // More than one piece of a map.
    let buffer = bus.dma_buffer(40 << 20).unwrap();
    let small = bus.dma_buffer(4096).unwrap();
    cards.iter().for_each(|card| moves(card, &small));
    let [one, other] = cards;
    drop(one);
    eventually("the card is kept", || is_free(&boards[0]));
    moves(&other, &small);
    // It is another card's as well by the time that this is unmapped, which never had it.
    let again = card(&bus, &boards[0]);
    drop((buffer, small));
    moves(&again, &again.dma_buffer(DmaRequest::new(4096)).unwrap());
    moves(&other, &bus.dma_buffer(4096).unwrap());
}
