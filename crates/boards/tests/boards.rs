//! Identification and peripherals on fake cards.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use jitney_boards::axi_gpio::Channel;
use jitney_boards::xadc::Mode;
use jitney_boards::{Board, Catalogue, Error, Kind, Memory, MemoryKind, identify_in, probe};
use jitney_registers::RegisterSpace;
use jitney_vfio::{Card, ErrorKind, FakeBar, FakeBuilder, FakeCard, FakeHost};
use jitney_xdma_spec::{Direction, Identifier, Submodule, block};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Registers that keep what is written; one that nobody wrote is zero.
struct Registers(Mutex<BTreeMap<u64, u32>>);

impl Registers {
    fn new(values: impl IntoIterator<Item = (u64, u32)>) -> Self {
        Self(Mutex::new(values.into_iter().collect()))
    }

    /// What an XDMA with this many memory-mapped channels says.
    fn xdma(h2c: u8, c2h: u8) -> Self {
        let mut values = BTreeMap::new();
        let mut put = |submodule, channel| {
            values
                .insert(block::offset(submodule, channel), Identifier::of(submodule, channel, false).into());
        };
        for (direction, count) in [(Direction::HostToCard, h2c), (Direction::CardToHost, c2h)] {
            for channel in 0..count {
                put(direction.channel_block(), channel);
                put(direction.sgdma_block(), channel);
            }
        }
        for submodule in [Submodule::Irq, Submodule::Config, Submodule::SgdmaCommon] {
            put(submodule, 0);
        }
        Self(Mutex::new(values))
    }
}

impl FakeBar for Registers {
    fn read32(&self, offset: u64) -> u32 {
        self.0.lock().unwrap().get(&offset).copied().unwrap_or(0)
    }

    fn write32(&self, offset: u64, value: u32) {
        self.0.lock().unwrap().insert(offset, value);
    }
}

const NITE: u32 = 0x4e49_5445;
const LITE: u32 = 0x4c49_5445;

/// Sensors of the factory image.
const FACTORY: [(u64, u32); 22] = [
    (0x3200, 0x9c60),
    (0x3204, 0x57e0),
    (0x3208, 0x9830),
    (0x3218, 0x57d0),
    (0x3220, 0xff90),
    (0x3224, 0xff90),
    (0x3228, 0x7f),
    (0x32c0, 0xff50),
    (0x32c4, 0xff50),
    (0x32c8, 0x7f),
    (0x3280, 0xa3c0),
    (0x3284, 0),
    (0x3288, 0),
    (0x328c, 0),
    (0x3290, 0xa230),
    (0x3294, 0xfff0),
    (0x3298, 0xfff0),
    (0x329c, 0xfff0),
    (0x3300, 0),
    (0x3304, 0x3000),
    (0x3320, 0xffff),
    (0x3324, 0xffff),
];

/// A card with Project-0, whose id word is `word`, and `more` registers in BAR 0.
fn project_0(host: &FakeHost, word: u32, more: impl IntoIterator<Item = (u64, u32)>) -> FakeBuilder {
    let id = [(0x0, word), (0x8, 4)];
    FakeCard::builder(host, 0x10ee, 0x7011).bar(0, 0x2_0000, Registers::new(id.into_iter().chain(more))).bar(
        2,
        0x1_0000,
        Registers::xdma(1, 1),
    )
}

fn card(builder: FakeBuilder) -> Arc<dyn Card> {
    builder.build().unwrap()
}

fn identify(builder: FakeBuilder) -> Result<Board, Error> {
    identify_in(&Catalogue::built_in(), &card(builder))
}

/// A card of another author's design, with 64 KiB BARs 0 and 2.
fn design(device: u16, revision: u8, bar_0: Registers) -> FakeBuilder {
    FakeCard::builder(&FakeHost::new(), 0x10ee, 0x9038)
        .subsystem(2, device)
        .revision(revision)
        .bar(0, 0x1_0000, bar_0)
        .bar(2, 0x1_0000, Registers::xdma(2, 2))
}

#[test]
fn the_id_word_tells_nitefury_from_litefury() {
    for (word, name, size) in [(NITE, "NiteFury", 1 << 30), (LITE, "LiteFury", 512 << 20)] {
        let board = identify(project_0(&FakeHost::new(), word, [])).unwrap();
        assert_eq!((board.name(), board.version()), (name, Some(4)));
        assert_eq!(board.memory(), Some(Memory { kind: Some(MemoryKind::Ddr), base: 0, size }));
        assert_eq!(board.design().name, "Project-0");
        assert_eq!(board.xdma().unwrap().channels(Direction::HostToCard).len(), 1);
    }
}

#[test]
fn another_id_word_is_another_board() {
    let error = identify(project_0(&FakeHost::new(), 0x4d49_5445, [])).unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::UnknownBoard { .. }), "{said}");
    for part in ["fake (10ee:7011)", "0000:0000", "0x4d495445 (\"MITE\")", "JITNEY_BOARDS"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn unknown_ids_are_an_error_that_says_what_to_do() {
    let unknown = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7024)
        .subsystem(0x10ee, 7)
        .revision(3)
        .bar(0, 0x1000, Registers::new([]))
        .bar(1, 0x1_0000, Registers::xdma(3, 4));
    let card = card(unknown);
    let said = identify_in(&Catalogue::built_in(), &card).unwrap_err().to_string();
    assert!(said.contains("10ee:7024") && said.contains("10ee:0007, revision 0x03;"), "{said}");
    let xdma = probe(&card).unwrap().unwrap();
    assert_eq!((xdma.bar(), xdma.channels(Direction::CardToHost).len()), (1, 4));
}

#[test]
fn a_card_without_xdma_is_probed_in_vain() {
    let none = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7024).bar(0, 0x2_0000, Registers::new([]));
    assert!(probe(&card(none)).unwrap().is_none());
}

#[test]
fn the_number_of_channels_tells_builds_of_dma_blkram_apart() {
    for (channels, size) in [(1, 0x12_8000), (2, 0x12_0000)] {
        let builder = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7024).subsystem(2, 3).bar(
            0,
            0x1_0000,
            Registers::xdma(channels, channels),
        );
        let board = identify(builder).unwrap();
        assert_eq!((board.name(), board.memory().unwrap().size), ("TEF1001", size));
        assert_eq!(board.xdma().unwrap().bar(), 0);
        assert_eq!(board.peripherals().count(), 0);
    }
}

#[test]
fn the_revision_tells_memories_and_peripherals_apart() {
    let memory = |revision| identify(design(0x2e, revision, Registers::new([]))).unwrap().memory();
    assert_eq!(memory(2), Some(Memory { kind: Some(MemoryKind::Ddr), base: 32 << 30, size: 32 << 30 }));
    assert_eq!(memory(3), Some(Memory { kind: Some(MemoryKind::Ddr), base: 0, size: 16 << 30 }));
    assert_eq!(memory(5), None, "no such revision is known");

    let switch = |revision| {
        let board = identify(design(0x0a, revision, Registers::new([]))).unwrap();
        board.peripheral(Kind::StreamSwitch, 0).map(|frame| frame.peripheral().ports)
    };
    assert_eq!(switch(1).unwrap(), 4);
    let none = switch(0).unwrap_err().to_string();
    assert!(none.contains("no stream-switch number 0; it has quad-spi, sysmon, user-access"), "{none}");
}

#[test]
fn peripherals_that_do_not_fit_say_so() {
    let small = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7024)
        .subsystem(2, 6)
        .bar(0, 0x3800, Registers::new([]))
        .bar(2, 0x1_0000, Registers::xdma(2, 2));
    let board = identify(small).unwrap();
    let fit: Vec<bool> = board.peripherals().map(|frame| frame.is_ok()).collect();
    assert_eq!(fit, [true, true, true, false]);
    let said = board.ddr_status().unwrap_err().to_string();
    assert!(said.contains("0x3000 to 0x4000 of BAR 0") && said.contains("0x3800 bytes"), "{said}");

    let missing = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7024).subsystem(2, 6);
    let said = identify(missing).unwrap().xadc().unwrap_err().to_string();
    assert!(said.contains("has 0x0 bytes"), "{said}");
}

#[test]
fn the_factory_image_reads_as_it_was_seen() {
    let board = identify(project_0(&FakeHost::new(), NITE, FACTORY)).unwrap();
    let xadc = board.xadc().unwrap();
    let readings = xadc.readings().unwrap();
    assert_eq!(format!("{:.1}", readings.temperature.now), "34.7");
    assert_eq!(format!("{:.3}", readings.temperature.min.unwrap()), "46.141");
    assert_eq!(format!("{:.3}", readings.temperature.max.unwrap()), "49.217");
    let supplies = [readings.vccint, readings.vccaux, readings.vbram];
    assert_eq!(supplies.map(|supply| format!("{:.2}", supply.now)), ["1.03", "1.78", "1.03"]);
    assert!(supplies.iter().all(|supply| supply.min.is_none() && supply.max.is_none()));
    assert_eq!((readings.vp_vn, readings.vaux.len()), (None, 0), "one channel only is converted");

    let [a, b] = xadc.calibration().unwrap();
    assert_eq!([a.supply_offset, a.bipolar_offset, b.supply_offset, b.bipolar_offset], [-7, -7, -11, -11]);
    assert_eq!([a, b].map(|own| format!("{:.1}", own.gain_percent)), ["6.3", "6.3"]);
    assert_eq!(xadc.sequencer().unwrap().mode, Mode::SingleChannel);
    assert_eq!(xadc.temperature().unwrap(), readings.temperature.now);
}

#[test]
fn the_rebuilt_image_converts_inputs_too() {
    let rebuilt = [
        (0x3304, 0x2000),
        (0x3320, 0x4f01),
        (0x3324, 0x4000),
        (0x3330, 0x0800),
        (0x320c, 0xc000),
        (0x3278, 0x8000),
    ];
    let board = identify(project_0(&FakeHost::new(), NITE, FACTORY.into_iter().chain(rebuilt))).unwrap();
    let readings = board.xadc().unwrap().readings().unwrap();
    assert_eq!(readings.vp_vn, Some(-0.25));
    assert_eq!((readings.vrefp, readings.vrefn), (None, None));
    let json = serde_json::to_value(&readings).unwrap();
    assert_eq!(json["vaux"], serde_json::json!([{ "input": 14, "volts": 0.5, "bipolar": false }]));
    assert_eq!(json["vccint"]["min"], serde_json::Value::Null);
}

#[test]
fn gpios_have_two_channels() {
    let board = identify(project_0(&FakeHost::new(), NITE, [(0x1000, u32::MAX)])).unwrap();
    assert_eq!(board.gpio(0).unwrap().data(Channel::One).unwrap(), NITE);
    let led = board.gpio(2).unwrap();
    led.set_data(Channel::Two, 2).unwrap();
    led.set_tristate(Channel::Two, 0xffff_fffd).unwrap();
    assert_eq!((led.data(Channel::Two).unwrap(), led.data(Channel::One).unwrap()), (2, 0));
    assert_eq!(led.tristate(Channel::Two).unwrap(), 0xffff_fffd);
    assert_eq!(board.card().bar(0).unwrap().read32(0x2008).unwrap(), 2);
    assert_eq!(board.gpio(1).unwrap().data(Channel::One).unwrap(), u32::MAX, "all pins are high");
    assert!(matches!(board.gpio(3), Err(Error::NoPeripheral { index: 3, .. })));
}

#[test]
fn sysmons_of_all_dies_are_read() {
    let values = (0..3_u64).flat_map(|die| {
        let base = 0x2000 + die * 0x800;
        [(base + 0x400, 0x9ac0), (base + 0x404, 0x4880), (base + 0x490, 0xffc0), (base + 0x484, 0x4900)]
    });
    let board = identify(design(0x1e, 0, Registers::new(values.chain([(0x2cfc, 0x200)])))).unwrap();
    let dies = board.sysmon().unwrap().readings().unwrap();
    let seen: Vec<(u8, String, bool)> = dies
        .iter()
        .map(|die| (die.die, format!("{:.2}", die.temperature.now), die.internal_reference))
        .collect();
    let expected = [(0, "27.41", false), (1, "27.65", true), (2, "27.41", false)];
    assert_eq!(seen, expected.map(|(die, temperature, internal)| (die, temperature.to_owned(), internal)));
    assert_eq!(dies[2].temperature.min, None);
    assert_eq!(dies[2].vccint.max.map(|volts| format!("{volts:.3}")), Some("0.855".into()));
}

#[test]
fn small_peripherals_are_read() {
    let board = identify(design(6, 0, Registers::new([(0x2000, 0x8c34_d30f), (0x3000, 0b1110)]))).unwrap();
    let built = board.user_access().unwrap().build_timestamp().unwrap();
    assert_eq!(serde_json::to_string(&built).unwrap(), "\"2026-08-17 13:12:15\"");
    assert!(board.ddr_status().unwrap().state().unwrap().is_ready());

    let spi = board.peripheral(Kind::QuadSpi, 0).unwrap();
    spi.write32(0x40, 0x0a).unwrap();
    assert_eq!(spi.read32(0x40).unwrap(), 0x0a);
    for outside in [0xffe, 0x1000, u64::MAX] {
        assert!(matches!(spi.read32(outside), Err(Error::OutsideFrame { .. })));
        assert!(matches!(spi.write32(outside, 0), Err(Error::OutsideFrame { .. })));
    }
}

#[test]
fn all_ones_are_a_link_that_is_down() {
    let is_down = |error: Error| matches!(error, Error::Card(own) if own.kind() == ErrorKind::LinkDown);
    let host = FakeHost::new();
    let board = identify(project_0(&host, NITE, FACTORY)).unwrap();
    let build = identify(design(6, 0, Registers::new([(0x2000, u32::MAX), (0x3000, u32::MAX)]))).unwrap();
    assert!(is_down(build.user_access().unwrap().build_timestamp().unwrap_err()));
    assert!(is_down(build.ddr_status().unwrap().state().unwrap_err()));

    let (xadc, gpio) = (board.xadc().unwrap(), board.gpio(0).unwrap());
    host.set_link(false);
    for error in [
        xadc.temperature().unwrap_err(),
        xadc.readings().unwrap_err(),
        xadc.calibration().unwrap_err(),
        xadc.sequencer().unwrap_err(),
        gpio.data(Channel::One).unwrap_err(),
        gpio.tristate(Channel::Two).unwrap_err(),
        identify_in(&Catalogue::built_in(), board.card()).unwrap_err(),
    ] {
        assert!(is_down(error));
    }
    assert!(matches!(board.xdma(), Err(Error::Xdma(_))));
}

#[test]
fn designs_without_xdma_say_what_they_have() {
    let said =
        |device| identify(design(device, 0, Registers::new([]))).unwrap().xdma().unwrap_err().to_string();
    assert!(said(0x14).contains("XCKU5P_DUAL_QSFP_ibert") && said(0x14).contains("no DMA engine"));
    assert!(said(0x25).contains("QDMA"));
}

#[test]
fn a_users_design_wins_and_falls_back_on_its_word() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let text =
        "[[design]]\nname = \"mine\"\nboard = \"B\"\npci = [\"10ee:7011\"]\nsubsystem = \"0000:0000\"\n";
    let word = "id_word = { bar = 0, offset = 0 }\nvariants = [{ word = \"MITE\", board = \"MiteFury\" }]\n";

    std::fs::write(&file, text).unwrap();
    let plain = Catalogue::built_in().with_file(&file).unwrap();
    let board = identify_in(&plain, &card(project_0(&FakeHost::new(), NITE, []))).unwrap();
    assert_eq!((board.name(), board.design().name.as_str(), board.version()), ("B", "mine", None));

    std::fs::write(&file, format!("{text}{word}")).unwrap();
    let confirmed = Catalogue::built_in().with_file(&file).unwrap();
    let name = |word| {
        identify_in(&confirmed, &card(project_0(&FakeHost::new(), word, []))).unwrap().name().to_owned()
    };
    assert_eq!((name(0x4d49_5445), name(LITE)), ("MiteFury".into(), "LiteFury".into()));
}

#[test]
fn a_summary_is_for_programs() {
    let board = identify(project_0(&FakeHost::new(), LITE, [])).unwrap();
    let json = serde_json::to_value(board.summary()).unwrap();
    assert_eq!(json["board"], "LiteFury");
    assert_eq!((&json["memory"]["size"], &json["memory"]["kind"]), (&(512 << 20).into(), &"ddr".into()));
    assert_eq!(json["memories"], serde_json::json!([json["memory"]]));
    assert_eq!(json["dma"]["interface"], "memory-mapped");
    assert_eq!(json["peripherals"][1], serde_json::json!({ "kind": "axi-gpio", "bar": 0, "offset": 0x1000 }));
    assert_eq!(json["card"]["vendor"], 0x10ee);
}
