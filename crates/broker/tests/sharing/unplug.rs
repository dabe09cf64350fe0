//! A card that is wanted back, as its clients and the broker's other cards meet it. What the kernel says of a real card is said
//! by the test.

use crate::rig::{Emulated, Serving, eventually};
use jitney_memory::EventFd;
use jitney_vfio::{Card, DmaRequest, ErrorKind, Notice, Notices, OpenOptions, open_all_with};
use jitney_xdma::{Error, Xdma};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A broker of two boards, and what says that the first is wanted back, or has failed.
struct Rig {
    broker: Serving,
    boards: [Emulated; 2],
    leaving: EventFd,
    failed: EventFd,
}

impl Rig {
    fn new() -> Self {
        let boards = [Emulated::new(), Emulated::new()];
        let addresses = [boards[0].address.clone(), boards[1].address.clone()];
        let mut spaces = open_all_with(&addresses, OpenOptions::default()).unwrap();
        let [leaving, failed] = [EventFd::new().unwrap(), EventFd::new().unwrap()];
        let copy = |event: &EventFd| Some(event.as_fd().try_clone_to_owned().unwrap().try_into().unwrap());
        let notices = Notices::new(copy(&leaving), copy(&failed)).unwrap();
        let card = spaces[0].cards.remove(0).with_notices(notices);
        spaces[0].cards.insert(0, card);
        Self { broker: Serving::new(spaces), boards, leaving, failed }
    }

    fn card(&self, number: usize) -> Arc<dyn Card> {
        self.broker.bus().card(&self.boards[number].address.to_string()).unwrap()
    }
}

#[test]
fn a_transfer_on_a_card_that_is_wanted_back_ends_and_others_go_on() {
    let rig = Rig::new();
    let (card, other) = (rig.card(0), rig.card(1));
    rig.boards[0].board.inject("hang:h2c0".parse().unwrap());
    let channel = Xdma::identify(Arc::clone(&card), 2).unwrap().h2c(0).unwrap();
    let buffer = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    let pending = channel.submit(&buffer, 0..4096, 0).unwrap();
    rig.leaving.signal().unwrap();
    let since = Instant::now();
    let error = pending.wait().unwrap_err();
    assert!(matches!(&error, Error::LinkDown(_)), "{error}");
    assert!(error.to_string().contains("is being unplugged"), "{error}");
    assert!(since.elapsed() < Duration::from_secs(3));
    let refused = rig.broker.bus().card(&rig.boards[0].address.to_string()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LinkDown);
    assert!(refused.to_string().contains("is being unplugged"), "{refused}");

    drop((channel, buffer, card));
    let bus = rig.broker.bus();
    let open = || bus.card(&rig.boards[0].address.to_string()).unwrap_err().kind();
    eventually("the broker has closed the card", || open() == ErrorKind::NotFound);
    // Asked again, as the kernel does when something holds it up.
    rig.leaving.signal().unwrap();
    assert_eq!(rig.broker.bus().cards().len(), 1, "it is in no list any more");
    let channel = Xdma::identify(other, 2).unwrap().h2c(0).unwrap();
    let buffer = bus.dma_buffer(4096).unwrap();
    assert_eq!(channel.write(&buffer, 0).unwrap().bytes, 4096, "the other card goes on");
}

#[test]
fn a_client_hears_once_and_for_all_from_when_it_opened_the_card() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let open = || bus.card(&rig.boards[0].address.to_string()).unwrap();
    let (first, second) = (open(), rig.card(0));
    let look = |card: &Arc<dyn Card>| card.notices().unwrap().look().unwrap();
    assert_eq!(look(&first), None);
    rig.failed.signal().unwrap();
    eventually("both hear of the failure", || [&first, &second].map(look) == [Some(Notice::Failed); 2]);
    let anew = rig.card(0);
    assert_eq!(look(&anew), None, "that was before");
    rig.leaving.signal().unwrap();
    eventually("all hear", || look(&anew) == Some(Notice::Leaving));
    assert_eq!(look(&rig.card(1)), None);
}
