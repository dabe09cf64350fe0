//! Identification, and what it leaves alone.

use crate::model::Bench;
use jitney_vfio::{FakeCard, FakeHost};
use jitney_xdma::{Alignments, ChannelInfo, Direction, Error, Xdma};

#[test]
fn an_xdma_is_found_and_described_without_a_write() {
    let bench = Bench::new();
    assert_eq!(Xdma::find(&*bench.fake).unwrap(), Some(2));
    let xdma = Xdma::identify(bench.card(), 2).unwrap();
    let [h2c] = xdma.channels(Direction::HostToCard) else { panic!("one channel") };
    assert_eq!(
        *h2c,
        ChannelInfo {
            direction: Direction::HostToCard,
            index: 0,
            stream: false,
            alignments: Alignments::ANY,
            version: 6,
            interrupt: 0,
        }
    );
    assert_eq!(xdma.channels(Direction::CardToHost).len(), 1);
    assert_eq!(xdma.channels(Direction::CardToHost)[0].to_string(), "c2h0");
    assert_eq!(xdma.channels(Direction::CardToHost)[0].interrupt, 1);
    assert!(bench.model.state().writes.is_empty());
    assert!(bench.fake.granted().is_empty(), "others may be using the channels");
}

#[test]
fn every_block_that_is_not_what_it_has_to_be_is_named() {
    for (offset, value, says) in [
        (0x0000, 0, "H2C channel 0 reads 0x00000000, expected subsystem 0x1fc, block 0, channel 0"),
        (0x0000, 0x1fc1_0006, "H2C channel 0 reads 0x1fc10006"),
        (0x4000, 0x1fc4_8006, "the SGDMA block of h2c0 reads 0x1fc48006"),
        (0x5000, u32::MAX, "the SGDMA block of c2h0 reads 0xffffffff"),
        (0x6000, 0x1fc7_0006, "the SGDMA common block reads"),
        (0x2000, 0, "the IRQ block reads"),
        (0x3000, 0x2fc3_0006, "the config block reads"),
    ] {
        let bench = Bench::new();
        bench.model.state().overrides.push((offset, value));
        let error = Xdma::identify(bench.card(), 2).unwrap_err();
        assert!(matches!(error, Error::NoXdma { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with("BAR 2 of fake") && text.contains(says), "{text}");
    }
}

#[test]
fn channels_are_counted_to_the_first_that_is_not_there() {
    let bench = Bench::new();
    for (block, index) in [(0, 1), (4, 1), (0, 3), (4, 3)] {
        let value = 0x1fc0_0006 | block << 16 | index << 8;
        bench.model.state().overrides.push((u64::from(block << 12 | index << 8), value));
    }
    let xdma = Xdma::identify(bench.card(), 2).unwrap();
    assert_eq!(xdma.channels(Direction::HostToCard).len(), 2, "the fourth is behind a gap");
    assert_eq!(xdma.channels(Direction::CardToHost)[0].interrupt, 2, "behind those of the other direction");
    let error = xdma.h2c(2).unwrap_err().to_string();
    assert!(error.contains("h2c2 of fake") && error.contains("has 2 h2c channels"), "{error}");
    assert!(matches!(xdma.c2h(u8::MAX), Err(Error::NoChannel { there: 1, .. })));
}

#[test]
fn bars_that_hold_no_xdma_are_told_apart() {
    let bench = Bench::new();
    assert!(matches!(Xdma::identify(bench.card(), 0), Err(Error::NoXdma { .. })));
    assert!(matches!(Xdma::identify(bench.card(), 1), Err(Error::Card(_))), "there is no BAR 1");
    bench.host.set_link(false);
    assert!(matches!(Xdma::identify(bench.card(), 2), Err(Error::LinkDown(_))));
    assert_eq!(Xdma::find(&*bench.fake).unwrap(), None);

    let small = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7024)
        .bar(1, 0x8000, std::sync::Arc::clone(&bench.model))
        .build()
        .unwrap();
    assert_eq!(Xdma::find(&*small).unwrap(), None);
    let error = Xdma::identify(small, 1).unwrap_err().to_string();
    assert!(error.contains("it has 0x8000 bytes, and an XDMA takes 0x10000"), "{error}");
}

#[test]
fn a_stream_has_packets_and_no_addresses() {
    let bench = Bench::new();
    for (offset, value) in
        [(0x0000, 0x1fc0_8006), (0x4000, 0x1fc4_8006), (0x1000, 0x1fc1_8006), (0x5000, 0x1fc5_8006)]
    {
        bench.model.state().overrides.push((offset, value));
    }
    let xdma = Xdma::identify(bench.card(), 2).unwrap();
    assert!(xdma.channels(Direction::HostToCard)[0].stream);
    let buffer = bench.card().dma_buffer(0x1_0000.into()).unwrap();
    let c2h = xdma.c2h(0).unwrap();
    assert!(matches!(c2h.read(&buffer, 0), Err(Error::Stream { stream: true, .. })));
    let refused = |range| c2h.receive(&buffer, range).unwrap_err().to_string();
    assert!(refused(0..100).contains("no multiple of 64"), "{}", refused(0..100));
    assert!(refused(0..0x1_0040).contains("not within the buffer"), "{}", refused(0..0x1_0040));

    let h2c = xdma.h2c(0).unwrap().descriptors_of_at_most(100);
    h2c.write_range(&buffer, 0..200, 0).unwrap();
    let ran = bench.model.state().ran.clone();
    let ends: Vec<bool> = ran.iter().map(|(flags, _)| flags & 1 << 4 != 0).collect();
    assert_eq!(ends, [false, false, false, true]);
    assert_eq!(ran.iter().map(|(_, length)| *length).collect::<Vec<_>>(), [64, 64, 64, 8]);

    bench.model.state().ran.clear();
    h2c.write_range(&buffer, 0..64 * 130, 0).unwrap();
    let ran = bench.model.state().ran.clone();
    let ends: Vec<usize> = (0..ran.len()).filter(|&index| ran[index].0 & 1 << 4 != 0).collect();
    assert_eq!(ends, [129], "one packet, however many rounds it takes");
}
