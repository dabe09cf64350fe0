//! Every design of the catalogue, emulated by a server and driven over its socket: each is identified as itself, its
//! memories hold what is written, its streams bring what they have to, and its sensors show something.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

mod cmac;
mod cms;
mod i2c;
mod rig;
mod streams;

use jitney_boards::{Catalogue, Design, Error, Kind, Memory, identify_in};
use jitney_xdma::Direction;
use rig::{Emulated, data};

/// Bytes written and read at either end of a memory.
const PART: u64 = 0x1_0000;

#[test]
fn every_design_is_identified_as_itself() {
    for design in Catalogue::built_in().designs() {
        for name in design.names() {
            let emulated = Emulated::new(name);
            let board = identify_in(&Catalogue::built_in(), &emulated.card).unwrap();
            assert_eq!(board.design().name, design.name, "{name}");
            let variant = design.variants.iter().find(|variant| variant.name.as_deref() == Some(name));
            if let Some(variant) = variant {
                assert_eq!(board.name(), variant.board.as_ref().unwrap_or(&design.board), "{name}");
                assert_eq!(board.memories(), variant.memory, "{name}");
            }
            for frame in board.peripherals() {
                frame.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            look_at_sensors(name, &board);
        }
    }
}

fn look_at_sensors(name: &str, board: &jitney_boards::Board) {
    let has = |kind| board.peripheral(kind, 0).is_ok();
    if has(Kind::Xadc) {
        let celsius = board.xadc().unwrap().readings().unwrap().temperature.now;
        assert!((20.0..70.0).contains(&celsius), "{name}: {celsius}");
    }
    if has(Kind::Sysmon) {
        let dies = board.sysmon().unwrap().readings().unwrap();
        let slaves = board.peripheral(Kind::Sysmon, 0).unwrap().peripheral().slaves;
        assert_eq!(dies.len(), usize::from(slaves) + 1, "{name}");
        for die in dies {
            assert!((20.0..70.0).contains(&die.temperature.now), "{name}: {die:?}");
            assert!((0.8..0.9).contains(&die.vccint.now), "{name}: {die:?}");
        }
    }
    assert_eq!(board.has_sensors(), has(Kind::Xadc) || has(Kind::Sysmon) || has(Kind::Cms), "{name}");
    for monitor in board.monitors().unwrap() {
        let readings = monitor.readings().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(readings.len() >= 4, "{name}: {readings:?}");
        assert!(readings.iter().all(|own| own.alarm != Some(true)), "{name}: {readings:?}");
    }
    if has(Kind::Iic) {
        let bus = board.iic(0).unwrap().lease().unwrap();
        for device in bus.iic().known() {
            assert!(bus.probe(device.address).unwrap(), "{name}: {device:?}");
        }
    }
    if has(Kind::UserAccess) {
        let built = board.user_access().unwrap().build_timestamp().unwrap();
        assert!((1..=12).contains(&built.month()) && built.day() > 0, "{name}: {built}");
    }
    if has(Kind::DdrStatus) {
        assert!(board.ddr_status().unwrap().state().unwrap().is_ready(), "{name}");
    }
}

#[test]
fn every_xdma_has_the_channels_of_its_design() {
    for design in with_xdma(|_| true) {
        let emulated = Emulated::new(&design.name);
        let xdma = emulated.board().xdma().unwrap();
        let dma = design.dma.unwrap();
        let expected = [dma.h2c.unwrap_or(1), dma.c2h.unwrap_or(1)].map(usize::from);
        assert_eq!(
            Direction::ALL.map(|direction| xdma.channels(direction).len()),
            expected,
            "{}",
            design.name
        );
        let all = Direction::ALL.into_iter().flat_map(|direction| xdma.channels(direction));
        assert!(all.into_iter().all(|channel| channel.stream == dma.has_streams()), "{}", design.name);
    }
}

#[test]
fn every_memory_holds_what_is_written() {
    let mut tested = 0;
    for design in with_xdma(|design| !design.dma.unwrap().has_streams()) {
        // Variants have other memories, by name or by revision.
        let named = design.names().map(Emulated::new);
        let revisions = design.variants.iter().flat_map(|variant| variant.revisions.clone());
        for emulated in named.chain(revisions.map(|revision| Emulated::with(&design.name, revision.into()))) {
            for memory in emulated.board().memories() {
                write_and_read(&emulated, *memory);
                tested += 1;
            }
        }
    }
    assert_eq!(tested, 14 + 5, "memories of the catalogue that an XDMA reaches");
}

/// Writes both ends of a memory over each H2C channel and reads them over each C2H channel.
fn write_and_read(emulated: &Emulated, memory: Memory) {
    let board = emulated.board();
    let name = &board.design().name;
    let xdma = board.xdma().unwrap();
    let length = PART.min(memory.size / 2);
    let bytes = usize::try_from(length).unwrap();
    let (sent, received) = (emulated.buffer(length), emulated.buffer(length));
    let count = |direction| u8::try_from(xdma.channels(direction).len()).unwrap();
    for address in [memory.base, memory.base + memory.size - length] {
        for channel in 0..count(Direction::HostToCard).max(count(Direction::CardToHost)) {
            let expected = data(bytes, channel);
            sent.write(0, &expected).unwrap();
            let h2c = channel.min(count(Direction::HostToCard) - 1);
            xdma.h2c(h2c).unwrap().write(&sent, address).unwrap();
            received.write(0, &vec![0; bytes]).unwrap();
            let c2h = channel.min(count(Direction::CardToHost) - 1);
            xdma.c2h(c2h).unwrap().read(&received, address).unwrap();
            let mut back = vec![0; bytes];
            received.read(0, &mut back).unwrap();
            assert!(back == expected, "{name}: h2c{h2c} and c2h{c2h} at {address:#x}");
        }
    }
}

#[test]
fn a_qdma_is_identified_and_has_no_driver() {
    for design in Catalogue::built_in().designs().filter(|design| design.name.contains("qdma")) {
        let emulated = Emulated::new(&design.name);
        assert!(matches!(emulated.board().xdma(), Err(Error::NoXdma { .. })), "{}", design.name);
        assert!(jitney_boards::probe(&emulated.card).unwrap().is_none(), "{}", design.name);
    }
}

/// The designs of the catalogue with an XDMA, as far as `wanted`.
fn with_xdma(wanted: impl Fn(&Design) -> bool) -> impl Iterator<Item = std::sync::Arc<Design>> {
    let designs: Vec<_> = Catalogue::built_in().designs().cloned().collect();
    designs.into_iter().filter(move |design| design.has_xdma() && wanted(design))
}
