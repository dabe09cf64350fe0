//! One program, alone and as a client: the same results.

use crate::rig::{Emulated, Rig, XDMA};
use jitney_broker::Bus;
use jitney_vfio::{DmaRequest, ErrorKind, Identity, LeaseRequest};
use jitney_xdma::Xdma;

/// What a small driver finds out and does, without any word of who owns the card.
#[derive(Debug, PartialEq)]
struct Results {
    identities: Vec<Identity>,
    bars: Vec<u64>,
    id_word: u32,
    descriptors: u64,
    read_back: Vec<u8>,
    second_lease: ErrorKind,
    outside: ErrorKind,
    no_bar: ErrorKind,
    no_card: ErrorKind,
    odd_alignment: ErrorKind,
    low: bool,
}

fn program(bus: &Bus) -> Results {
    let card = bus.card("10ee:7011").unwrap();
    let xdma = Xdma::identify(std::sync::Arc::clone(&card), XDMA).unwrap();
    let (h2c, c2h) = (xdma.h2c(0).unwrap(), xdma.c2h(0).unwrap());
    let buffer = bus.dma_buffer(0x10_0000).unwrap();
    let data: Vec<u8> = (0..buffer.size()).map(|at| (at * 7 % 251).to_le_bytes()[0]).collect();
    buffer.write(0, &data).unwrap();
    let descriptors = h2c.write(&buffer, 0x4000).unwrap().descriptors;
    let back = bus.dma_buffer(DmaRequest::new(0x10_0000).below(0xffff_ffff)).unwrap();
    c2h.read(&back, 0x4000).unwrap();
    let mut read_back = vec![0; data.len()];
    back.read(0, &mut read_back).unwrap();
    assert_eq!(read_back, data);
    Results {
        identities: bus.cards(),
        bars: card.bars().iter().map(|bar| bar.size).collect(),
        id_word: card.bar(0).unwrap().read32(0).unwrap(),
        descriptors,
        read_back,
        second_lease: card.lease(LeaseRequest::exclusive("h2c0".parse().unwrap())).unwrap_err().kind(),
        outside: card.bar(0).unwrap().read32(1 << 40).unwrap_err().kind(),
        no_bar: card.bar(5).unwrap_err().kind(),
        no_card: bus.card("dead:beef").unwrap_err().kind(),
        odd_alignment: bus.dma_buffer(DmaRequest::new(4096).aligned(3)).unwrap_err().kind(),
        low: back.iova() + back.size() <= 1 << 32,
    }
}

#[test]
fn a_program_does_the_same_alone_and_as_a_client() {
    let rig = Rig::new();
    let shared = program(&rig.broker.bus());
    let again = program(&rig.broker.bus());
    assert_eq!(shared, again, "nothing is left of the first");
    let address = rig.emulated.address.clone();
    drop(rig.broker);
    let alone = program(&Bus::alone(&[address]).unwrap());
    assert_eq!(alone, shared);
    assert!(alone.low);
}

#[test]
fn a_bus_without_cards_says_so() {
    let bus = Bus::alone(&[]).unwrap();
    assert!(bus.cards().is_empty() && bus.open_cards().unwrap().is_empty());
    assert_eq!(bus.dma_buffer(4096).unwrap_err().kind(), ErrorKind::NotFound);
    let error = bus.card("10ee:7011").unwrap_err();
    assert!(error.to_string().contains("there is no card at all"), "{error}");
}

#[test]
fn two_owners_of_one_board_are_told_of_each_other() {
    let emulated = Emulated::new();
    let first = Bus::alone(std::slice::from_ref(&emulated.address)).unwrap();
    let second = Bus::alone(std::slice::from_ref(&emulated.address)).unwrap();
    let _buffer = first.dma_buffer(4096).unwrap();
    // The board takes memory from the first of them: exactly what one owner is for.
    let error = second.dma_buffer(4096).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Held, Some(rustix::io::Errno::PERM)));
    let text = error.to_string();
    assert!(
        text.contains("another program owns the board") && text.contains("start them under one broker"),
        "{text}"
    );
    // At the first address that was tried: no other would do.
    assert!(text.contains("0x7ffffff000"), "{text}");
}
