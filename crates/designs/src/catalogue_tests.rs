//! Boards files that are right, and files that are wrong in every way.

use super::*;
use crate::bars::BarShape;
use crate::check::check;
use crate::design::{IdWord, Interrupt, Link, Programmer, Variant};
use crate::dma::{Bypass, Dma, DmaIp, Interface, Stream};
use crate::file::File;
use crate::ids::IdPattern;
use crate::memory::{Memory, MemoryKind};
use crate::peripheral::{Flash, I2cDevice, I2cKind, Kind, Led, Peripheral, Pins};
use crate::place::KeyPath;
use proptest::prelude::*;
use std::fs;

const HEAD: &str =
    "[[design]]\nname = \"mine\"\nboard = \"B\"\npci = [\"10ee:7024\"]\nsubsystem = \"1234:0001\"\n";

fn read(text: &str) -> Result<Vec<Design>> {
    file::read(Path::new("my.toml"), text, std::iter::empty())
}

/// What adding a file with `text` says.
fn complaint(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn the_built_in_files_are_right() {
    assert_eq!(Catalogue::built_in().designs().count(), 51);
    assert_eq!(BUILT_IN.len(), fs::read_dir("catalogue").unwrap().count(), "every file is built in");
}

#[test]
fn an_empty_file_is_right() {
    read("# nothing yet\n").unwrap();
}

#[test]
fn wrong_words_are_named_with_line_and_key() {
    for (text, line, said) in [
        ("colour = 1\n", 6, "unknown field `colour`"),
        ("peripherals = [\n  { kind = \"xadc\", bar = 0, ofset = 0 },\n]", 7, "unknown field `ofset`"),
        (
            "peripherals = [\n  { kind = \"xdac\", bar = 0, offset = 0 },\n]",
            7,
            "peripherals[0].kind: unknown variant `xdac`",
        ),
        ("\nmemory = { base = 0, size = \"1G\" }", 7, "design[0].memory.size: invalid type: string"),
        ("memory = { base = 0, size = -1 }", 6, "design[0].memory.size: invalid value"),
        ("memory = { base = 0 }", 6, "missing field `size`"),
        ("dma = { ip = \"xdma\", bar = 300 }", 6, "design[0].dma.bar: invalid value"),
        ("link = {", 6, "inline table"),
    ] {
        let complaint = complaint(&format!("{HEAD}{text}"));
        assert!(
            complaint.starts_with(&format!("my.toml:{line}: ")) && complaint.contains(said),
            "{complaint}"
        );
    }
    let short = complaint("[[design]]\nname = \"a\"\nboard = \"b\"\npci = [\n\"10ee\"]\n");
    assert!(short.starts_with("my.toml:4: design[0].pci: \"10ee\" is no pair of ids"), "{short}");
    assert!(complaint("[[desing]]\n").contains("my.toml:1: desing: unknown field"));
}

#[test]
fn wrong_sense_is_named_with_line_and_key() {
    let at = |fields: &str| {
        format!("peripherals = [\n  {{ kind = \"iic\", bar = 0, offset = 0 }},\n  {{ {fields} }},\n]")
    };
    for (text, line, said) in [
        (
            at("kind = \"xadc\", bar = 0, offset = 0xffc"),
            8,
            "peripherals[1].offset: the xadc at 0xffc overlaps the iic at 0x0",
        ),
        (at("kind = \"xadc\", bar = 6, offset = 0"), 8, "peripherals[1].bar: there is no BAR 6"),
        (at("kind = \"xadc\", bar = 0, offset = 0x1001"), 8, "0x1001 is no multiple of 4"),
        (at("kind = \"ram\", bar = 0, offset = 0x1000, size = 0"), 8, "peripherals[1].size: 0x0 is no"),
        (at("kind = \"xadc\", bar = 0, offset = 0xffff_f004"), 8, "beyond 4 GiB"),
        (at("kind = \"xadc\", bar = 0, offset = 0x7fff_ffff_ffff_fffc"), 8, "beyond 4 GiB"),
        (at("kind = \"xadc\", bar = 0, offset = 0x1000, ports = 2"), 8, "only a stream-switch has ports"),
        (at("kind = \"stream-switch\", bar = 0, offset = 0x1000"), 8, "say how many"),
        (at("kind = \"xadc\", bar = 0, offset = 0x1000, slaves = 1"), 8, "only a sysmon"),
        (at("kind = \"sysmon\", bar = 0, offset = 0x1000, slaves = 2"), 8, "3 dies need 0x1800 bytes"),
        (
            at("kind = \"xadc\", bar = 0, offset = 0x1000, flash = \"s25fl256s\""),
            8,
            "flash: only a quad-spi has a flash",
        ),
        (
            at("kind = \"quad-spi\", bar = 0, offset = 0x1000, flash = \"w25q80\""),
            8,
            "unknown variant `w25q80`",
        ),
        ("fpga = [\"xc7a200t\"]".into(), 6, "fpga[0]: \"xc7a200t\" is no part"),
        (
            "variants = [\n{ revisions = [1], fpga = [\"XC7A200T-FBG484\"] }]".into(),
            7,
            "variants[0].fpga[0]: \"XC7A200T-FBG484\" is no part",
        ),
        ("dma = { ip = \"xdma\", bar = 6 }".into(), 6, "design[0].dma.bar: there is no BAR 6"),
        ("dma = { ip = \"xdma\", bar = 0, h2c = 5 }".into(), 6, "4 channels"),
        (
            format!("dma = {{ ip = \"xdma\", bar = 0 }}\n{}", at("kind = \"ram\", bar = 1, offset = 0")),
            8,
            "BAR 0 is the DMA engine's",
        ),
        ("dma = { ip = \"qdma\", bar = 0 }\nmemory = { base = 0, size = 0 }".into(), 7, "no bytes"),
        ("dma = { ip = \"qdma\", bar = 0 }\nmemory = { base = 0, size = 6 }".into(), 7, "multiples of 4 KiB"),
        (
            "dma = { ip = \"xdma\", bar = 0 }\nmemory = { base = 0, size = 0x1000_0000_1000 }".into(),
            7,
            "design[0].memory: no card has more than 16 TiB",
        ),
        (format!("aliases = [\"{}\"]", "x".repeat(65)), 6, "a name has 1 to 64 bytes"),
        (
            "dma = { ip = \"xdma\", bar = 0, interface = \"stream\" }\nmemory = { base = 0, size = 4096 }".into(),
            7,
            "design[0].memory: its DMA engine moves streams",
        ),
        (
            "dma = { ip = \"xdma\", bar = 0 }\nmemory = [\n{ base = 0, size = 8192 },\n{ base = 4096, size = 8192 }]"
                .into(),
            9,
            "design[0].memory[1]: the memory at 0x1000 overlaps",
        ),
        ("dma = { ip = \"xdma\", bar = 0, width = 100 }".into(), 6, "dma.width: a data path has 64, 128"),
        ("dma = { ip = \"xdma\", bar = 0, stream = \"loopback\" }".into(), 6, "dma.stream: only an XDMA"),
        ("dma = { ip = \"xdma\", bar = 0, user_interrupts = 17 }".into(), 6, "16 user interrupts at most"),
        (
            "dma = { ip = \"xdma\", bar = 0, bypass = { bar = 2 } }".into(),
            6,
            "dma.bypass.size: the design has no",
        ),
        ("dma = { ip = \"xdma\", bar = 0, bypass = { bar = 2, size = 12288 } }".into(), 6, "no power of two"),
        (
            "dma = { ip = \"xdma\", bar = 0, interface = \"stream\", bypass = { bar = 2, size = 4096 } }".into(),
            6,
            "dma.bypass: its DMA engine moves streams",
        ),
        (
            "dma = { ip = \"xdma\", bar = 0, bypass = { bar = 1, size = 0x1_0000_0000 } }".into(),
            6,
            "design[0].dma: BAR 1 has 0x100000000 bytes",
        ),
        ("bars = [{ bar = 0 }]".into(), 6, "bars[0].bar: there is nothing in BAR 0; say how large"),
        ("bars = [{ bar = 0, size = 0x3000 }]".into(), 6, "bars[0].size: 0x3000 is no power of two"),
        ("bars = [{ bar = 1, size = 0x1000, bits = 64 }]".into(), 6, "bars[0].bits: 64 is not possible"),
        (
            at("kind = \"dna\", bar = 0, offset = 0x1000, words = [1, 2, 3, 4]"),
            8,
            "words: a dna of 0x1000 bytes has 3",
        ),
        (at("kind = \"iic\", bar = 0, offset = 0x1000, pins = [\"both\"]"), 8, "pins: only an axi-gpio"),
        (
            at("kind = \"xadc\", bar = 0, offset = 0x1000, i2c = [{ address = 0x50, device = \"24c02\" }]"),
            8,
            "peripherals[1].i2c: only an iic",
        ),
        (
            at(
                "kind = \"iic\", bar = 0, offset = 0x1000, i2c = [{ address = 9, device = \"24c02\", millivolts = [1] }]",
            ),
            8,
            "i2c[0].millivolts: a 24c02 has 0 outputs",
        ),
        (
            at(
                "kind = \"iic\", bar = 0, offset = 0x1000, i2c = [{ address = 9, device = \"ltm4676a\", millivolts = [1, 6000] }]",
            ),
            8,
            "i2c[0].millivolts: a ltm4676a gives 5500 mV",
        ),
        (
            at("kind = \"iic\", bar = 0, offset = 0x1000, i2c = [{ address = 0xa0, device = \"24c02\" }]"),
            8,
            "peripherals[1].i2c[0].address: 0xa0 is no address",
        ),
        (
            at(
                "kind = \"iic\", bar = 0, offset = 0x1000, i2c = [{ address = 9, device = \"other\" }, { address = 9, device = \"other\" }]",
            ),
            8,
            "i2c[1].address: there is a device at 0x09 already",
        ),
        (at("kind = \"iic\", bar = 0, offset = 0x1000, i2c = [{ address = 9, device = \"eeprom\" }]"), 8, "24c02"),
        (at("kind = \"iic\", bar = 0, offset = 0x1000, leds = [{ channel = 1, bit = 0 }]"), 8, "only an axi-gpio"),
        (
            at("kind = \"axi-gpio\", bar = 0, offset = 0x1000, leds = [{ channel = 3, bit = 0 }]"),
            8,
            "leds[0].channel: an axi-gpio has channels 1 and 2",
        ),
        (at("kind = \"axi-gpio\", bar = 0, offset = 0x1000, leds = [{ channel = 1, bit = 32 }]"), 8, "leds[0].bit"),
        (
            at("kind = \"axi-gpio\", bar = 0, offset = 0x1000, pins = [\"inputs\"], leds = [{ channel = 1, bit = 1 }]"),
            8,
            "are inputs",
        ),
        (
            at("kind = \"axi-gpio\", bar = 0, offset = 0x1000, pins = [\"outputs\"], leds = [{ channel = 2, bit = 1 }]"),
            8,
            "no second channel",
        ),
        ("usual_device = 0x7025".into(), 6, "usual_device: 0x7025 is none of the device ids"),
        ("revisions = [1]\nusual_revision = 2".into(), 7, "usual_revision: 2 is none of"),
        ("class = 0x1000000".into(), 6, "class: 0x1000000 has more than three bytes"),
        ("interrupts = [\"msi\"]".into(), 6, "interrupts: only an XDMA"),
        ("link = { gt_per_s = 5.1 }".into(), 6, "link.gt_per_s: a lane has"),
        ("programmer = {}".into(), 6, "programmer: name a cable or a board"),
        ("programmer = { cable = \"-x\" }".into(), 6, "programmer.cable: a name does not start"),
        ("link = { lanes = 3 }".into(), 6, "link.lanes: a link has 1, 2"),
        ("aliases = [\"a/b\"]".into(), 6, "aliases[0]: a name has"),
        ("aliases = [\"mine\"]".into(), 6, "aliases[0]: \"mine\" is a name of this design already"),
        ("variants = [\n{ board = \"other\" }]".into(), 7, "variants[0]: it needs a condition"),
        ("variants = [\n{ word = \"ABCD\" }]".into(), 7, "no id_word"),
        ("variants = [\n{ h2c = 1 }]".into(), 7, "variants[0].h2c: the design has no XDMA"),
        ("id_word = { bar = 0, offset = 0 }".into(), 6, "it needs variants"),
        ("id_word = { bar = 0, offset = 2 }".into(), 6, "multiple of 4"),
        ("id_word = { bar = 0, offset = 0 }\nvariants = [{ word = \"ABCDE\" }]".into(), 7, "not four ASCII"),
    ] {
        let complaint = complaint(&format!("{HEAD}{text}"));
        let place = format!("my.toml:{line}: ");
        assert!(complaint.starts_with(&place) && complaint.contains(said), "{said}: {complaint}");
    }
}

#[test]
fn designs_have_to_be_distinct() {
    let second = |change: (&str, &str)| format!("{HEAD}{}", HEAD.replace(change.0, change.1));
    let same_name = complaint(&second(("1234:0001", "1234:0002")));
    assert!(
        same_name.starts_with("my.toml:7: design[1].name: there is a design \"mine\" already"),
        "{same_name}"
    );
    let same_ids = complaint(&second(("\"mine\"", "\"yours\"")));
    assert!(
        same_ids.starts_with("my.toml:9: design[1].pci: a card with these ids could be \"mine\""),
        "{same_ids}"
    );
    let wild = second(("name = \"mine\"", "name = \"yours\""))
        .replace("10ee:7024\"]\nsubsystem = \"1234:0001\"\n", "10ee:*\"]\n");
    assert!(complaint(&wild).contains("could be \"mine\""));

    let apart = format!("{HEAD}revisions = [0, 1]\n{}revisions = [2]\n", HEAD.replace("mine", "yours"));
    read(&apart).unwrap();
    assert!(complaint(&apart.replace("[2]", "[1, 2]")).contains("could be"));
}

#[test]
fn users_designs_win() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs::write(&file, HEAD.replace("mine", "NiteFury_dma_ddr3")).unwrap();
    let catalogue = Catalogue::built_in().with_file(&file).unwrap();
    assert_eq!(catalogue.designs().count(), Catalogue::built_in().designs().count());
    assert_eq!(catalogue.design("NiteFury_dma_ddr3").unwrap().board, "B");

    let again = catalogue.with_file(&file).unwrap_err().to_string();
    assert!(again.contains("mine.toml:2") && again.contains("already"), "{again}");
    let missing = Catalogue::built_in().with_file("/nowhere.toml").unwrap_err().to_string();
    assert!(missing.contains("/nowhere.toml"), "{missing}");
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn later_layers_win_and_within_one_no_two_designs_are_alike() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, board: &str| {
        written(folder.path(), name, &HEAD.replace("\"B\"", &format!("\"{board}\"")))
    };
    let board = |catalogue: &Catalogue| catalogue.design("mine").unwrap().board.clone();
    let machine = Catalogue::built_in().with_usual(Layer::Machine, &file("b.toml", "machine"));
    let all = machine.clone().with_usual(Layer::Package, &file("a.toml", "package"));
    assert_eq!(board(&all), "machine", "whatever comes first");
    let all = all.with_usual(Layer::User, &file("c.toml", "user"));
    assert_eq!(board(&all), "user");
    assert_eq!(all.known().filter(|known| known.design.name == "mine").count(), 1);
    assert!(all.known().next().unwrap().file.as_ref().unwrap().ends_with("c.toml"));

    let twice = machine.with_usual(Layer::Machine, &file("d.toml", "again"));
    assert_eq!(board(&twice), "machine");
    let bad = twice.bad_file("mine").unwrap();
    assert!(bad.error().to_string().contains("d.toml:2: design[0].name: there is a design \"mine\" already"));
}

#[test]
fn a_wrong_file_fails_the_boards_that_it_names_alone() {
    let folder = tempfile::tempdir().unwrap();
    let wrong =
        written(folder.path(), "wrong.toml", &format!("{HEAD}surprise = 1\naliases = [\"litefury\"]\n"));
    let catalogue = Catalogue::built_in().with_usual(Layer::User, &wrong);
    let catalogue = catalogue.with_usual(Layer::User, Path::new("/nowhere/x.toml"));
    assert_eq!(catalogue.designs().count(), 51);
    assert_eq!(catalogue.bad_files().count(), 2);
    for name in ["mine", "litefury"] {
        let bad = catalogue.bad_file(name).unwrap();
        assert_eq!(bad.path(), wrong);
        assert!(
            bad.error().to_string().contains("wrong.toml:6: design[0].surprise: unknown field"),
            "{bad:?}"
        );
    }
    assert!(catalogue.bad_file("nitefury").is_none());
    assert!(
        catalogue.bad_files().nth(1).unwrap().error().to_string().contains("/nowhere/x.toml: No such file")
    );
}

#[test]
fn a_wrong_file_does_not_matter_where_another_wins_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = written(folder.path(), "wrong.toml", &format!("{HEAD}surprise = 1\n"));
    let right = written(folder.path(), "right.toml", HEAD);
    let won = Catalogue::built_in().with_usual(Layer::Machine, &wrong).with_usual(Layer::User, &right);
    assert!(won.bad_file("mine").is_none() && won.bad_files().count() == 1);
    let lost = Catalogue::built_in().with_usual(Layer::User, &wrong).with_usual(Layer::Machine, &right);
    assert!(lost.bad_file("mine").is_some());
}

#[test]
fn a_file_alone_has_its_own_designs_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let own = Catalogue::of_file(written(folder.path(), "own.toml", HEAD)).unwrap();
    assert_eq!(own.designs().map(|design| &*design.name).collect::<Vec<_>>(), ["mine"]);
    assert!(Catalogue::of_file("/nowhere.toml").is_err());
}

fn ids() -> impl Strategy<Value = IdPattern> {
    (any::<u16>(), any::<Option<u16>>()).prop_map(|(vendor, device)| IdPattern { vendor, device })
}

// TOML's integers have 63 bits and a sign.
fn address() -> impl Strategy<Value = u64> {
    0..=i64::MAX.cast_unsigned()
}

fn memory() -> impl Strategy<Value = Vec<Memory>> {
    use MemoryKind::{BlockRam, Ddr, Hbm, UltraRam};
    let kind = prop::option::of(prop::sample::select(vec![Ddr, BlockRam, Hbm, UltraRam]));
    let one = (kind, address(), address()).prop_map(|(kind, base, size)| Memory { kind, base, size });
    prop::collection::vec(one, 0..3)
}

fn peripheral() -> impl Strategy<Value = Peripheral> {
    let kind = prop::sample::select(vec![Kind::AxiGpio, Kind::StreamSwitch, Kind::Cms, Kind::Other]);
    let numbers = (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>());
    let pins = prop::sample::select(vec![Pins::Inputs, Pins::Outputs, Pins::Both]);
    let flash = prop::option::of(prop::sample::select(Flash::ALL.to_vec()));
    let device = prop::sample::select(vec![I2cKind::SpdDdr3, I2cKind::Eeprom24c32, I2cKind::Other]);
    let device = (any::<u8>(), device, any::<Vec<u16>>(), any::<Option<String>>())
        .prop_map(|(address, device, millivolts, note)| I2cDevice { address, device, millivolts, note });
    let led = (any::<u8>(), any::<u8>(), any::<Option<String>>()).prop_map(|(channel, bit, note)| Led {
        channel,
        bit,
        note,
    });
    let held = (
        any::<Vec<u32>>(),
        prop::collection::vec(pins, 0..3),
        any::<u32>(),
        any::<Option<String>>(),
        prop::collection::vec(device, 0..3),
        prop::collection::vec(led, 0..3),
        flash,
    );
    (kind, address(), prop_oneof![Just(0x1000), address()], numbers, held, any::<Option<String>>()).prop_map(
        |(kind, offset, size, (bar, from_revision, ports, slaves), held, note)| Peripheral {
            name: held.3,
            words: held.0,
            pins: held.1,
            sequencer_from_version: held.2,
            flash: held.6,
            kind,
            bar,
            offset,
            size,
            from_revision,
            ports,
            slaves,
            i2c: held.4,
            leds: held.5,
            note,
        },
    )
}

fn dma() -> impl Strategy<Value = Dma> {
    let ip = prop::sample::select(vec![DmaIp::Xdma, DmaIp::Qdma]);
    let interface = prop::sample::select(vec![None, Some(Interface::Stream), Some(Interface::MemoryMapped)]);
    use Stream::{Crc64, Crossed, FixedData, Loopback};
    let stream =
        prop::option::of(prop::sample::select(vec![Crc64, Crossed, FixedData, Loopback, Stream::None]));
    let bypass = (any::<u8>(), prop::option::of(address()), prop::option::of(address()));
    let bypass = prop::option::of(bypass.prop_map(|(bar, base, size)| Bypass { bar, base, size }));
    let counts = (any::<Option<u8>>(), any::<Option<u8>>(), any::<Option<u8>>());
    (ip, any::<u8>(), counts, interface, any::<Option<u16>>(), stream, bypass).prop_map(
        |(ip, bar, (h2c, c2h, user_interrupts), interface, width, stream, bypass)| Dma {
            ip,
            bar,
            h2c,
            c2h,
            interface,
            width,
            stream,
            user_interrupts,
            bypass,
        },
    )
}

fn variant() -> impl Strategy<Value = Variant> {
    let conditions = (any::<Option<String>>(), any::<Vec<u8>>(), any::<Option<u8>>(), any::<Option<u8>>());
    let names = (any::<Option<String>>(), any::<Option<String>>(), any::<Vec<String>>());
    (conditions, names, memory()).prop_map(|((word, revisions, h2c, c2h), (name, board, fpga), memory)| {
        Variant { name, fpga, word, revisions, h2c, c2h, board, memory }
    })
}

fn bar_shape() -> impl Strategy<Value = BarShape> {
    (any::<u8>(), prop::option::of(address()), any::<Option<u8>>(), any::<Option<bool>>())
        .prop_map(|(bar, size, bits, prefetchable)| BarShape { bar, size, bits, prefetchable })
}

fn design() -> impl Strategy<Value = Design> {
    let names = (
        any::<String>(),
        any::<Vec<String>>(),
        any::<String>(),
        any::<Option<String>>(),
        any::<Vec<String>>(),
    );
    let found_by = (
        prop::collection::vec(ids(), 0..3),
        prop::option::of(ids()),
        any::<Vec<u8>>(),
        any::<Option<u16>>(),
        prop::option::of((any::<u8>(), address(), prop::option::of(address()), any::<u32>())),
    );
    let interrupt = prop::sample::select(Interrupt::ALL.to_vec());
    let function = (
        any::<Option<u8>>(),
        any::<u32>(),
        prop::option::of(address()),
        prop::option::of(prop::collection::vec(interrupt, 0..4)),
        prop::collection::vec(bar_shape(), 0..3),
    );
    let parts = (
        prop::option::of(dma()),
        memory(),
        prop::collection::vec(variant(), 0..3),
        prop::collection::vec(peripheral(), 0..3),
        prop::option::of((prop::option::of(0.0..100.0), any::<Option<u8>>())),
        prop::option::of((any::<Option<String>>(), any::<Option<String>>())),
    );
    (names, found_by, function, parts).prop_map(|(names, found_by, function, parts)| {
        let (name, aliases, board, note, fpga) = names;
        let (pci, subsystem, revisions, usual_device, word) = found_by;
        let (dma, memory, variants, peripherals, link, programmer) = parts;
        let programmer = programmer.map(|(cable, board)| Programmer { cable, board });
        let (usual_revision, class, serial, interrupts, bars) = function;
        let id_word = word.map(|(bar, offset, version_offset, usual_version)| IdWord {
            bar,
            offset,
            version_offset,
            usual_version,
        });
        let link = link.map(|(gt_per_s, lanes)| Link { gt_per_s, lanes });
        Design {
            name,
            aliases,
            board,
            fpga,
            pci,
            subsystem,
            revisions,
            usual_device,
            usual_revision,
            class,
            serial,
            interrupts,
            bars,
            id_word,
            dma,
            memory,
            variants,
            peripherals,
            link,
            programmer,
            note,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back(design in prop::collection::vec(design(), 0..4)) {
        let text = toml::to_string(&File { design: design.clone() }).unwrap();
        prop_assert_eq!(toml::from_str::<File>(&text).unwrap().design, design);
    }

    #[test]
    fn nothing_makes_a_check_panic(design in design()) {
        let at = KeyPath::default().key("design").index(0);
        let _ = check(&design, &at);
    }
}
