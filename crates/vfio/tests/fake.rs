//! The owner's card, by way of the fake: what a driver may rely on whatever card it has.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_vfio::{
    AddressSpace, Card, DmaPlace, DmaRequest, ErrorKind, FakeBar, FakeCard, FakeHost, Fired, LeaseRequest,
    Mode, Notice, OpenedSpace, Owner, Part, Requests, Will, WillStep,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Registers that keep what is written to them.
#[derive(Default)]
struct Plain(Mutex<BTreeMap<u64, u32>>);

impl FakeBar for Plain {
    fn read32(&self, offset: u64) -> u32 {
        self.0.lock().unwrap().get(&offset).copied().unwrap_or(0)
    }

    fn write32(&self, offset: u64, value: u32) {
        self.0.lock().unwrap().insert(offset, value);
    }

    fn reset(&self) {
        self.0.lock().unwrap().clear();
    }
}

fn card() -> (FakeHost, Arc<FakeCard>) {
    let host = FakeHost::new();
    let card = FakeCard::builder(&host, 0x10ee, 0x7011)
        .subsystem(0x10ee, 7)
        .revision(2)
        .bar(0, 0x1000, Plain::default())
        .bar(2, 0x100, Plain::default())
        .vectors(3)
        .build()
        .unwrap();
    (host, card)
}

fn part(name: &str) -> Part {
    name.parse().unwrap()
}

fn shared(name: &str) -> LeaseRequest {
    LeaseRequest { mode: Mode::Shared, ..LeaseRequest::exclusive(part(name)) }
}

#[test]
fn a_card_says_who_it_is() {
    let (_, card) = card();
    let identity = card.identity();
    assert_eq!((identity.vendor, identity.device, identity.revision), (0x10ee, 0x7011, 2));
    assert_eq!((identity.subsystem_vendor, identity.subsystem_device), (0x10ee, 7));
    assert_eq!(card.bars().map(|bar| bar.size), [0x1000, 0, 0x100, 0, 0, 0]);
    assert_eq!(card.config().unwrap().read32(0).unwrap(), 0x7011_10ee);
    for selector in ["fake", "10ee:7011", "10EE:7011", "*"] {
        assert!(identity.matches(selector), "{selector}");
    }
    assert!(!identity.matches("10ee:7012"));
}

#[test]
fn registers_have_a_width_and_an_end() {
    let (_, card) = card();
    let bar = card.bar(2).unwrap();
    bar.write32(0xfc, 0x0403_0201).unwrap();
    assert_eq!(bar.read32(0xfc).unwrap(), 0x0403_0201);
    assert_eq!(bar.read16(0xfe).unwrap(), 0x0403);
    assert_eq!(bar.read8(0xfd).unwrap(), 2);
    assert_eq!(bar.write16(0xfe, 1).unwrap_err().kind(), ErrorKind::Unsupported);
    for offset in [0x100, 0x104, u64::MAX - 3] {
        let error = bar.read32(offset).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfBounds);
        assert!(error.to_string().contains("BAR 2 of fake"), "{error}");
    }
    assert_eq!(bar.write32(0x42, 0).unwrap_err().kind(), ErrorKind::Invalid);
    let error = card.bar(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("it has BAR 0, 2"), "{error}");
    assert_eq!(card.bar(6).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_buffer_is_where_the_card_sees_it_until_its_last_clone_is_gone() {
    let (host, card) = card();
    let buffer = card.dma_buffer(DmaRequest::new(5000)).unwrap();
    assert_eq!(buffer.size(), 8192);
    buffer.write(4090, b"across a page").unwrap();
    let mut seen = [0; 13];
    host.read(buffer.iova() + 4090, &mut seen).unwrap();
    assert_eq!(&seen, b"across a page");
    host.write(buffer.iova(), b"back").unwrap();
    let mut back = [0; 4];
    buffer.read(0, &mut back).unwrap();
    assert_eq!(&back, b"back");
    assert_eq!(buffer.read(8190, &mut back).unwrap_err().kind(), ErrorKind::OutOfBounds);

    let clone = buffer.clone();
    let iova = buffer.iova();
    assert_eq!(buffer.free().unwrap_err().kind(), ErrorKind::Held);
    assert_eq!(host.mapped().len(), 1);
    clone.free().unwrap();
    assert_eq!(host.mapped(), []);
    assert_eq!(host.read(iova, &mut back).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn buffers_that_cannot_be_are_refused() {
    let (host, card) = card();
    for (request, kind) in [
        (DmaRequest::new(0), ErrorKind::Invalid),
        (DmaRequest::new(u64::MAX), ErrorKind::Invalid),
        (DmaRequest::new(1 << 62), ErrorKind::Exhausted),
        (DmaRequest::new(4096).aligned(3), ErrorKind::Invalid),
        (DmaRequest::new(4096).aligned(1 << 31), ErrorKind::Invalid),
        (DmaRequest::new(2 << 20).below(1 << 20), ErrorKind::Exhausted),
    ] {
        assert_eq!(card.dma_buffer(request).unwrap_err().kind(), kind, "{request:?}");
    }
    assert_eq!(host.mapped(), []);
    let aligned = card.dma_buffer(DmaRequest::new(4096).aligned(1 << 30)).unwrap();
    assert!(aligned.iova().is_multiple_of(1 << 30));
}

#[test]
fn cards_of_one_owner_see_the_same_buffers() {
    let hosts = [FakeHost::new(), FakeHost::new()];
    let cards: Vec<_> = hosts
        .iter()
        .map(|host| FakeCard::builder(host, 1, 2).bar(0, 0x1000, Plain::default()).open().unwrap())
        .collect();
    let space = AddressSpace::new(cards.iter().map(|card| Arc::clone(card.mapper())).collect());
    let owner = Owner::of(vec![OpenedSpace { cards, space }]).unwrap();
    let buffer = owner.dma_buffer(4096).unwrap();
    buffer.write(0, &[7]).unwrap();
    for host in &hosts {
        let mut byte = [0];
        host.read(buffer.iova(), &mut byte).unwrap();
        assert_eq!(byte, [7]);
    }
    // What outlives the owner stays valid, and nothing is left when it goes too.
    drop(owner);
    assert_eq!(hosts[1].mapped().len(), 1);
    drop(buffer);
    assert_eq!((hosts[0].mapped(), hosts[1].mapped()), (vec![], vec![]));
}

#[test]
fn isolated_cards_see_their_own_buffers_and_those_of_all() {
    let hosts = [FakeHost::new(), FakeHost::new()];
    let spaces = hosts.each_ref().map(|host| {
        let card = FakeCard::builder(host, 1, 2).bar(0, 0x1000, Plain::default()).open().unwrap();
        OpenedSpace { space: AddressSpace::new(vec![Arc::clone(card.mapper())]), cards: vec![card] }
    });
    let owner = Owner::of(spaces.into()).unwrap();
    let own = owner.cards()[1].dma_buffer(DmaRequest::new(4096)).unwrap();
    let common = owner.dma_buffer(4096).unwrap();
    assert_eq!(hosts[0].mapped().len(), 1);
    assert_eq!(hosts[1].mapped().len(), 2);
    assert_ne!(own.iova(), common.iova());
    drop((own, common));
    assert_eq!((hosts[0].mapped(), hosts[1].mapped()), (vec![], vec![]));
}

#[test]
fn where_one_card_cannot_map_a_buffer_it_is_mapped_for_none() {
    let hosts = [FakeHost::new(), FakeHost::new()];
    let cards: Vec<_> = hosts
        .iter()
        .map(|host| FakeCard::builder(host, 1, 2).bar(0, 0x1000, Plain::default()).open().unwrap())
        .collect();
    let space = AddressSpace::new(cards.iter().map(|card| Arc::clone(card.mapper())).collect());
    let both = Owner::of(vec![OpenedSpace { cards, space }]).unwrap();
    // An owner of the second card alone begins at the same address as one of both.
    let card = FakeCard::builder(&hosts[1], 1, 2).bar(0, 0x1000, Plain::default()).build().unwrap();
    let first = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    let second = both.dma_buffer(4096).unwrap();
    assert!(second.iova() < first.iova());
    let there = DmaPlace { iova: second.iova(), size: 4096 };
    assert_eq!(hosts[0].mapped(), [there], "what the first card had mapped elsewhere was undone");
    drop((first, second));
    assert_eq!(hosts[1].mapped(), []);
}

#[test]
fn leases_exclude_each_other() {
    let (_, card) = card();
    let first = card.lease(LeaseRequest::exclusive(part("h2c0"))).unwrap();
    let error = card.lease(LeaseRequest::exclusive(part("h2c0"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held);
    let me = std::process::id().to_string();
    assert!(error.to_string().contains("this process itself") && error.to_string().contains(&me), "{error}");
    assert_eq!(card.lease(shared("h2c0")).unwrap_err().kind(), ErrorKind::Held);
    let error = card.lease(LeaseRequest::exclusive(Part::whole())).unwrap_err();
    assert!(error.to_string().contains("h2c0"), "{error}");
    let others = [card.lease(shared("c2h0")).unwrap(), card.lease(shared("c2h0")).unwrap()];
    assert_eq!(card.leases().len(), 3);
    drop(first);
    drop(others);
    card.lease(LeaseRequest::exclusive(Part::whole())).unwrap();
    assert_eq!((card.leases().len(), card.granted().len()), (0, 4));
}

#[test]
fn a_will_has_to_fit_the_card() {
    let (_, card) = card();
    let lease = |steps: Vec<WillStep>| {
        card.lease(LeaseRequest::exclusive(part("h2c0")).with_will(Will(steps))).map(drop)
    };
    let write = |bar, offset| WillStep::write(bar, offset, 0);
    lease(vec![write(0, 0xffc), write(2, 0xfc)]).unwrap();
    lease(vec![write(0, 0); Will::MAX_STEPS]).unwrap();
    let kind = |writes| lease(writes).unwrap_err().kind();
    assert_eq!(kind(vec![write(0, 0); Will::MAX_STEPS + 1]), ErrorKind::Invalid);
    assert_eq!(kind(vec![write(1, 0)]), ErrorKind::NotFound);
    assert_eq!(kind(vec![write(255, 0)]), ErrorKind::NotFound);
    assert_eq!(kind(vec![write(2, 0x100)]), ErrorKind::OutOfBounds);
    assert_eq!(kind(vec![write(2, u64::MAX - 3)]), ErrorKind::OutOfBounds);
    assert_eq!(kind(vec![write(0, 2)]), ErrorKind::Invalid);
    let wait = |bar, offset, within_ms| WillStep::WaitUntil { bar, offset, mask: 1, value: 0, within_ms };
    lease(vec![wait(0, 4, 2000), write(0, 0), wait(0, 4, 3000)]).unwrap();
    assert_eq!(kind(vec![wait(0, 4, 2000), wait(0, 4, 3001)]), ErrorKind::Invalid);
    assert_eq!(kind(vec![wait(0, 4, u32::MAX); 2]), ErrorKind::Invalid);
    assert_eq!(kind(vec![wait(1, 4, 1)]), ErrorKind::NotFound);
    assert_eq!(kind(vec![wait(0, 6, 1)]), ErrorKind::Invalid);
    assert_eq!(card.leases().len(), 0);
}

#[test]
fn an_interrupt_reaches_who_holds_its_vector() {
    let (host, card) = card();
    assert!(!host.fire(1), "nobody has it");
    let interrupt = card.interrupt(1).unwrap();
    assert_eq!((interrupt.vector(), interrupt.lease().part().name()), (1, "irq1"));
    assert!(!interrupt.wait(Some(Duration::ZERO)).unwrap());
    assert!(host.fire(1));
    assert!(interrupt.wait(None).unwrap());
    assert!(!interrupt.wait(Some(Duration::ZERO)).unwrap(), "it was taken");
    assert_eq!(card.interrupt(1).unwrap_err().kind(), ErrorKind::Held);
    assert_eq!(card.interrupt(3).unwrap_err().kind(), ErrorKind::NotFound);
    drop(interrupt);
    assert!(!host.fire(1));
    card.interrupt(1).unwrap();
}

#[test]
fn a_shared_vector_fires_for_the_source_that_requests() {
    let (host, card) = card();
    assert_eq!(card.vectors().unwrap(), 3);
    assert_eq!(card.shared_interrupt(1, 32).unwrap_err().kind(), ErrorKind::Invalid);
    let first = card.shared_interrupt(1, 0).unwrap();
    let alone = |sources: u32| -> Requests { panic!("nobody shares it: {sources}") };
    assert!(host.fire(1));
    assert_eq!(first.wait(None, alone).unwrap(), Fired::Alone);
    assert_eq!(first.wait(Some(Duration::ZERO), alone).unwrap(), Fired::No);

    let second = card.shared_interrupt(1, 31).unwrap();
    assert_eq!(card.leases().len(), 1);
    assert_eq!(card.interrupt(1).unwrap_err().kind(), ErrorKind::Held);
    let requested = |expected: u32, sources: u32, again: bool| {
        move |all: u32| {
            assert_eq!(all, expected);
            Requests { sources, again }
        }
    };
    let (both, now) = (1 | 1 << 31, Some(Duration::ZERO));
    assert!(host.fire(1));
    assert_eq!(first.wait(now, requested(both, 1 << 31, false)).unwrap(), Fired::No, "it was the other");
    let nothing = |sources: u32| -> Requests { panic!("nothing has come: {sources}") };
    assert_eq!(first.wait(now, nothing).unwrap(), Fired::No);
    assert_eq!(second.wait(None, nothing).unwrap(), Fired::Silenced);
    // One that is to be looked at again, and one that is found without having been heard of.
    assert!(host.fire(1));
    assert_eq!(second.wait(now, requested(both, both, true)).unwrap(), Fired::Silenced);
    assert_eq!(first.wait(now, requested(both, 0, false)).unwrap(), Fired::Silenced);
    assert_eq!(first.wait(now, nothing).unwrap(), Fired::No);
    let soon = Some(Duration::from_millis(1));
    assert_eq!(first.wait(soon, requested(both, 1, false)).unwrap(), Fired::Silenced);

    first.leave();
    assert!(host.fire(1));
    assert_eq!(first.wait(now, requested(1 << 31, 1 << 31, false)).unwrap(), Fired::No);
    assert_eq!(second.wait(now, nothing).unwrap(), Fired::Silenced);
    drop(first);
    assert!(host.fire(1), "the other has it still");
    drop(second);
    assert!(!host.fire(1) && card.leases().is_empty());
    card.interrupt(1).unwrap();
}

#[test]
fn a_card_without_vectors_says_so() {
    let card = FakeCard::builder(&FakeHost::new(), 1, 2).build().unwrap();
    assert_eq!(card.interrupt(0).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_reset_needs_the_whole_card_and_leaves_it_usable() {
    let (host, card) = card();
    let bar = card.bar(0).unwrap();
    bar.write32(0, 1).unwrap();
    let lease = card.lease(shared("h2c0")).unwrap();
    assert_eq!(card.reset().unwrap_err().kind(), ErrorKind::Held);
    assert_eq!(host.resets(), 0);
    drop(lease);
    let interrupt = card.interrupt(0).unwrap();
    drop(interrupt);
    card.reset().unwrap();
    assert_eq!((host.resets(), bar.read32(0).unwrap(), host.bus_master()), (1, 0, true));
    let interrupt = card.interrupt(2).unwrap();
    assert!(host.fire(2));
    assert!(interrupt.wait(None).unwrap());
}

#[test]
fn with_the_link_down_the_card_reads_all_ones() {
    let (host, card) = card();
    let buffer = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    let interrupt = card.interrupt(0).unwrap();
    let bar = card.bar(0).unwrap();
    bar.write32(0, 1).unwrap();
    host.set_link(false);
    bar.write32(0, 2).unwrap();
    assert_eq!((bar.read32(0).unwrap(), bar.read8(1).unwrap()), (u32::MAX, u8::MAX));
    assert_eq!(host.read(buffer.iova(), &mut [0]).unwrap_err().kind(), ErrorKind::Denied);
    assert!(!host.fire(0));
    host.set_link(true);
    assert_eq!(bar.read32(0).unwrap(), 1);
    assert!(host.fire(0));
    assert!(interrupt.wait(None).unwrap());
}

#[test]
fn a_card_that_is_wanted_back_tells_who_looks_and_disturbs_no_vector() {
    let (host, card) = card();
    let (notices, vector) = (card.notices().unwrap(), card.interrupt(0).unwrap());
    assert_eq!(notices.look().unwrap(), None);
    assert!(host.notify(Notice::Failed));
    assert_eq!(notices.look().unwrap(), Some(Notice::Failed));
    assert!(host.notify(Notice::Leaving));
    card.reset().unwrap_err();
    assert_eq!(card.notices().unwrap().look().unwrap(), Some(Notice::Leaving), "it stays said");
    assert!(!vector.wait(Some(Duration::ZERO)).unwrap());
    drop(vector);
    card.reset().unwrap();
    assert!(host.notify(Notice::Leaving), "a reset silences vectors, not this");
    let error = Notice::Leaving.explain(card.identity());
    assert_eq!(error.kind(), ErrorKind::LinkDown);
    assert!(error.to_string().starts_with("card fake (10ee:7011) is being unplugged"), "{error}");
}

#[test]
fn a_card_with_its_link_down_cannot_be_opened() {
    let host = FakeHost::new();
    host.set_link(false);
    let error = FakeCard::builder(&host, 1, 2).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LinkDown);
}

#[test]
fn bars_that_no_card_has_are_refused() {
    let builder = || FakeCard::builder(&FakeHost::new(), 1, 2).bar(0, 0x1000, Plain::default());
    for builder in [
        builder().bar(6, 0x1000, Plain::default()),
        builder().bar(0, 0x1000, Plain::default()),
        builder().bar(1, 0, Plain::default()),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Invalid);
    }
}
