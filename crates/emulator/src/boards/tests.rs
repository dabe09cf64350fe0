//! Boards as the server presents them.

use super::*;
use crate::NoHost;
use crate::fault::{Fault, FaultKind};
use crate::function::{Function, InterruptKind, InterruptKinds, Msix};
use jitney_designs::{CardIds, Catalogue, Kind};
use jitney_memory::{Access, Mapping};
use std::sync::Arc;

fn named(name: &str) -> Result<Board, BoardError> {
    Board::named(&Catalogue::built_in(), name)
}

fn board(name: &str, options: BoardOptions) -> Result<PluggedBoard, BoardError> {
    named(name)?.with(options).plug_into(Arc::new(NoHost))
}

fn plain(name: &str) -> PluggedBoard {
    board(name, BoardOptions::default()).unwrap()
}

fn read(board: &PluggedBoard, bar: usize, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    board.read(bar, offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

#[test]
fn a_wrong_name_gets_the_nearest() {
    for (given, nearest) in [
        ("nightfury", "nitefury"),
        ("LiteFury", "litefury"),
        ("tef1001-dma", "tef1001-dma-blkram"),
        ("memmapped-blk", "memmapped-blkram"),
    ] {
        let error = named(given).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean '{nearest}'")), "{error}");
    }
    assert!(named("").is_err());
    assert!(named("nitefuri").unwrap_err().to_string().contains("tef1001-dma-blkram"));
}

#[test]
fn nitefury_and_litefury_say_who_they_are() {
    for (name, id, size) in [("nitefury", 0x4E49_5445, 1 << 30), ("litefury", 0x4C49_5445, 512 << 20)] {
        let board = plain(name);
        let description = board.description();
        assert_eq!(description.ids, [0x10ee, 0x7011, 0, 0]);
        assert_eq!(
            description.bars.map(|bar| bar.map(|bar| bar.size))[..3],
            [Some(0x2_0000), None, Some(0x1_0000)]
        );
        let msix = Some(Msix { vectors: 32, bar: 2, table: 0x8000, pending: 0x8fe0 });
        assert_eq!(description.interrupts, InterruptKinds { line: true, msi: 32, msix });
        assert_eq!((read(&board, 0, 0), read(&board, 0, 8)), (id, 2));
        assert_eq!(read(&board, 0, 0x3200) >> 8, 0x9C, "the temperature of the factory image");
        assert_eq!(read(&board, 0, 0x1_0064), 0xA5, "an idle Quad SPI");
        assert_eq!(
            (read(&board, 2, 0), read(&board, 2, 0x1000), read(&board, 2, 0x1100)),
            (0x1fc0_0006, 0x1fc1_0006, 0)
        );
        assert!(named(name).unwrap().summary().unwrap().contains(if size == 1 << 30 {
            "1 GiB"
        } else {
            "512 MiB"
        }));
        assert!(board.mappable(0).is_none());
    }
    let rebuilt = board("nitefury", BoardOptions { revision: Some(4), ..Default::default() }).unwrap();
    assert_eq!((read(&rebuilt, 0, 8), read(&rebuilt, 0, 0x3304) >> 12), (4, 2));
}

/// Drivers look for an XDMA at 0x2000 and 0x3000 of every BAR.
#[test]
fn the_user_bar_is_not_taken_for_an_xdma() {
    for (name, bar) in [("nitefury", 0), ("nitefury-dma-ddr3", 0), ("memmapped-blkram", 0)] {
        let board = plain(name);
        for offset in [0x0000, 0x1000, 0x2000, 0x3000] {
            assert_ne!(read(&board, bar, offset) >> 20, 0x1fc, "{name} {offset:#x}");
        }
    }
    assert_eq!(read(&plain("nitefury"), 0, 0x8000), u32::MAX, "nobody answers");
}

#[test]
fn the_two_builds_of_dma_blkram() {
    let older = plain("tef1001-dma-blkram");
    assert_eq!(older.description().ids, [0x10ee, 0x7024, 0x0002, 0x0003]);
    assert_eq!(older.description().interrupts, InterruptKinds::default(), "as the true card");
    assert_eq!(
        older.description().bars.map(|bar| bar.map(|bar| bar.size)),
        [Some(0x1_0000), None, None, None, None, None]
    );
    assert_eq!((read(&older, 0, 0x1000), read(&older, 0, 0x1100)), (0x1fc1_0006, 0));
    let newer = plain("dma_blkram");
    assert_eq!((read(&newer, 0, 0x1100), read(&newer, 0, 0x1200)), (0x1fc1_0106, 0));
    let messages = BoardOptions { interrupts: Some(InterruptKind::Msi), ..Default::default() };
    let messages = board("tef1001-dma-blkram", messages).unwrap();
    assert_eq!(messages.description().interrupts, InterruptKinds { msi: 32, ..Default::default() });
    let mute = BoardOptions { interrupts: Some(InterruptKind::None), ..Default::default() };
    assert_eq!(board("nitefury", mute).unwrap().description().interrupts, InterruptKinds::default());
}

#[test]
fn dma_ddr3_has_two_channels_and_a_timestamp() {
    let board = plain("nitefury-dma-ddr3");
    assert_eq!(board.description().ids, [0x10ee, 0x7024, 0x0002, 0x0006]);
    assert_eq!((read(&board, 0, 0x2000), read(&board, 0, 0x3000)), (0x8C34_D30F, 0b1110));
    assert_eq!((read(&board, 0, 0x1304) >> 12, read(&board, 2, 0x0100)), (2, 0x1fc0_0106));
}

#[test]
fn ram_in_bars_is_the_same_by_message_and_by_mapping() {
    let board = plain("memmapped-blkram");
    for (bar, size) in [(0, 0x10_0000), (2, 0x2_0000), (4, 0x1_0000)] {
        let memory = board.mappable(bar).unwrap();
        assert_eq!((memory.offset, memory.length), (0, size));
        let mapping = Mapping::shared(memory.file, 0, 4096, Access::ReadWrite).unwrap();
        board.write(bar, 8, &0x1122_3344_5566_7788u64.to_le_bytes());
        assert_eq!((mapping.load32(8).unwrap(), mapping.load32(12).unwrap()), (0x5566_7788, 0x1122_3344));
        mapping.store32(0x10, 7).unwrap();
        board.reset();
        assert_eq!(read(&board, bar, 0x10), 7, "memory survives a reset");
        assert_eq!(read(&board, bar, size), u32::MAX, "beyond the memory");
    }
    assert!(board.mappable(1).is_none() && board.mappable(6).is_none());
    assert_eq!(read(&board, 7, 0), u32::MAX);
}

#[test]
fn a_link_that_is_down_answers_nothing() {
    let card = plain("nitefury");
    card.write(2, 0x4080, &5u32.to_le_bytes());
    assert!(!card.link_down());
    card.inject(Fault::new(FaultKind::LinkDown));
    assert!(card.link_down());
    assert_eq!((read(&card, 0, 0), read(&card, 2, 0x4080)), (u32::MAX, u32::MAX));
    card.write(2, 0x4080, &6u32.to_le_bytes());
    card.reset();
    assert!(card.link_down(), "a reset does not bring it back");
    let options = BoardOptions { faults: vec!["link-down".parse().unwrap()], ..Default::default() };
    assert!(board("litefury", options).unwrap().link_down());
}

#[test]
fn faults_and_user_interrupts_are_those_that_a_board_can_have() {
    let with = |name: &str, faults: &[&str], interrupts: &[&str]| {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let user_interrupts = interrupts.iter().map(|of| of.parse().unwrap()).collect();
        board(name, BoardOptions { faults, user_interrupts, ..Default::default() })
            .map_err(|error| error.to_string())
    };
    let says = |result: Result<PluggedBoard, String>, text: &str| {
        let error = result.unwrap_err();
        assert!(error.contains(text), "{error}");
    };
    says(
        with("nitefury", &["hang:h2c0", "hang:c2h1@3"], &[]),
        "the fault hang:c2h1@3: the design has 1 c2h channels",
    );
    says(with("nitefury", &["overrun"], &[]), "memory mapped");
    says(with("memmapped-blkram", &["hang"], &[]), "no DMA");
    says(with("memmapped-blkram", &[], &["0@1s"]), "the user interrupt 0@1s: the design has 0 of them");
    with("nitefury", &["hang:h2c0", "link-down@2", "lost-interrupt"], &["0@1s"]).unwrap();
    with("NiteFury_dma_stream_crc64", &["overrun:c2h1", "stall:h2c0"], &[]).unwrap();
    with("memmapped-blkram", &["link-down"], &[]).unwrap();
}

#[test]
fn options_that_a_board_cannot_have_are_explained() {
    let error = |name: &str, options: BoardOptions| board(name, options).unwrap_err().to_string();
    let none = BoardOptions::default;
    for memory in [0, 1000] {
        assert!(
            error("nitefury", BoardOptions { memory: Some(memory), ..none() }).contains("multiple of 4096")
        );
    }
    assert!(
        error("nitefury", BoardOptions { memory: Some(1 << 62), ..none() })
            .contains("cannot make the memory")
    );
    assert!(error("nitefury", BoardOptions { channels: Some(4), ..none() }).contains("built with 1 in each"));
    assert!(error("tef1001-dma-blkram", BoardOptions { channels: Some(2), ..none() }).contains("with 1 in"));
    assert!(error("dma_blkram", BoardOptions { channels: Some(0), ..none() }).contains("1 or 2"));
    assert!(
        error("U200_dma_ddr4", BoardOptions { channels: Some(5), ..none() }).contains("1 or 2 or 3 or 4")
    );
    assert!(error("i2c_probe", BoardOptions { channels: Some(1), ..none() }).contains("no XDMA"));
    for lanes in [0, 3, 8] {
        assert!(error("nitefury", BoardOptions { lanes: Some(lanes), ..none() }).contains("at most 4"));
    }
    assert!(error("U200_dma_ddr4", BoardOptions { revision: Some(5), ..none() }).contains("0, 1, 2, 3, 4"));
    assert!(
        error("nitefury-dma-ddr3", BoardOptions { revision: Some(256), ..none() }).contains("at most 255")
    );
    let msix = BoardOptions { interrupts: Some(InterruptKind::MsiX), ..none() };
    assert!(error("memmapped-blkram", msix).contains("the design has none"));
    assert!(error("memmapped-blkram", BoardOptions { memory: Some(4096), ..none() }).contains("fixed"));
    assert!("msi-x".parse::<InterruptKind>().unwrap_err().to_string().contains("msix, msi, intx and none"));
    assert_eq!("intx".parse::<InterruptKind>().unwrap(), InterruptKind::Intx);
}

/// Each with all that its file says, and nothing else.
#[test]
fn every_design_of_the_catalogue_is_emulated() {
    for design in Catalogue::built_in().designs() {
        for name in design.names() {
            let card = plain(name);
            let description = card.description();
            let [vendor, device, subsystem_vendor, subsystem_device] = description.ids;
            let revision = description.revision;
            let ids = CardIds { vendor, device, subsystem_vendor, subsystem_device, revision };
            assert!(design.matches(ids), "{name}: {ids:?}");
            let sizes = |bars: [Option<u64>; 6]| bars;
            assert_eq!(
                sizes(description.bars.map(|bar| bar.map(|bar| bar.size))),
                sizes(design.card_bars().map(|bar| bar.map(|bar| bar.size))),
                "{name}"
            );
            assert!(crate::config_space::ConfigSpace::new(description).is_ok(), "{name}");
            card.reset();

            let info = named(name).unwrap().info().unwrap();
            assert!(info.starts_with(&format!("{vendor:04x}:{device:04x}, subsystem ")), "{info}");
            for (bar, description) in description.bars.iter().enumerate() {
                assert_eq!(
                    description.is_some(),
                    info.contains(&format!("BAR{bar} ")),
                    "{name} BAR{bar}: {info}"
                );
            }
            let unknown = |kind| {
                use Kind::{Drp, Mrmac, Uart};
                matches!(kind, Mrmac | Drp | Uart)
            };
            let mut there = design.peripherals.iter().filter(|own| own.from_revision <= revision);
            let plain = there.any(|own| unknown(own.kind));
            assert_eq!(plain, info.contains("Plain registers stand for"), "{name}: {info}");
        }
    }
}

#[test]
fn an_xdma_without_memory_behind_it_and_a_qdma_say_so() {
    assert!(named("U200_qdma_ram").unwrap().info().unwrap().contains("QDMA is not emulated: BAR 0"));
    let qdma = plain("U200_qdma_ram");
    assert_eq!((read(&qdma, 0, 0), read(&qdma, 2, 0)), (0, 1 << 27 | 1 << 23));
    assert_eq!(read(&plain("U200_enum"), 1, 0), 0x1fc0_0006);
}

#[test]
fn peripherals_are_there_from_their_revision_on() {
    let of = |revision| {
        board("U200_100G_ether_simplex_tx", BoardOptions { revision: Some(revision), ..Default::default() })
            .unwrap()
    };
    assert_eq!((read(&of(0), 0, 0x8000), read(&of(3), 0, 0x8000)), (u32::MAX, 0x4002_0000));
    assert_eq!(of(3).description().revision, 3);
    let dies = of(1);
    for die in 0..3 {
        assert_eq!(
            read(&dies, 0, 0x4400 + die * 0x800) >> 6,
            654 + 2 * u32::try_from(die).unwrap(),
            "die {die}"
        );
    }
}

#[test]
fn memories_are_where_the_revision_has_them() {
    let of = |revision| {
        let board = named("U200_dma_ddr4").unwrap();
        board.with(BoardOptions { revision: Some(revision), ..Default::default() }).info().unwrap()
    };
    assert!(of(0).contains("Memory: 64 GiB ddr at 0x0\n"), "{}", of(0));
    assert!(of(2).contains("Memory: 32 GiB ddr at 0x800000000\n"), "{}", of(2));
}

const OWN: &str = r#"
[[design]]
name = "own"
board = "B"
pci = ["1234:5678"]
subsystem = "1234:*"
class = 0x12_0000
revisions = [3, 4]
interrupts = ["msi"]
id_word = { bar = 0, offset = 0x3000, version_offset = 0x1008, usual_version = 9 }
dma = { ip = "xdma", bar = 2, h2c = 3, c2h = 2, interface = "memory-mapped", width = 64, bypass = { bar = 4 } }
memory = [{ kind = "hbm", base = 0x1000_0000, size = 0x2_0000_0000 }, { kind = "block-ram", base = 0, size = 0x1000 }]
variants = [{ word = "OWN1", board = "B1" }]
peripherals = [
  { name = "filter", kind = "other", bar = 0, offset = 0, words = [7, 8] },
  { kind = "other", bar = 0, offset = 0x1000 },
  { kind = "axi-gpio", bar = 0, offset = 0x2000, words = [5], pins = ["both"] },
  { kind = "ram", bar = 1, offset = 0, size = 0x800, words = [1] },
]
link = { gt_per_s = 16.0, lanes = 16 }
"#;

fn own() -> Board {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.toml");
    std::fs::write(&file, OWN).unwrap();
    Board::named(&Catalogue::built_in().with_file(&file).unwrap(), "own").unwrap()
}

#[test]
fn a_card_is_what_its_file_says() {
    let card = own().plug_into(Arc::new(NoHost)).unwrap();
    let description = card.description();
    assert_eq!((description.ids, description.class), ([0x1234, 0x5678, 0x1234, 0], [0x12, 0, 0]));
    assert_eq!((description.revision, description.link), (3, (4, 16)));
    assert_eq!(description.interrupts, InterruptKinds { msi: 32, ..Default::default() });
    let bars = description.bars.map(|bar| bar.map(|bar| (bar.size, bar.is_64bit)));
    let expected = [Some((0x4000, false)), Some((0x1000, false)), Some((0x1_0000, true)), None];
    assert_eq!((&bars[..4], bars[4]), (&expected[..], Some((0x2_0000_0000, true))));

    assert_eq!((read(&card, 0, 0), read(&card, 0, 4), read(&card, 0, 8)), (7, 8, 0));
    card.write(0, 8, &5u32.to_le_bytes());
    assert_eq!(read(&card, 0, 8), 5, "a plain register");
    for (offset, value) in [(0x3000, u32::from_be_bytes(*b"OWN1")), (0x1008, 9)] {
        card.write(0, offset, &[0; 4]);
        assert_eq!(read(&card, 0, offset), value, "the id word and the version cannot be changed");
    }
    assert_eq!((read(&card, 0, 0x2000), read(&card, 0, 0x200c)), (5, 0), "one channel");
    assert_eq!((read(&card, 1, 0), read(&card, 1, 0xffc)), (1, u32::MAX));
    assert_eq!((read(&card, 2, 0x200), read(&card, 2, 0x1200)), (0x1fc0_0206, 0), "three channels, and two");

    let window = card.mappable(4).unwrap();
    assert_eq!((window.offset, window.length), (0, 0x2_0000_0000));
    card.write(4, 8, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mapping = Mapping::shared(window.file, 0, 4096, Access::ReadWrite).unwrap();
    assert_eq!(mapping.load32(8).unwrap(), 0x0403_0201, "the DMA's memory");
}

#[test]
fn a_model_of_ones_own_takes_the_place_of_a_peripheral() {
    struct Negative;
    impl crate::axi::Peripheral for Negative {
        fn read(&self, offset: u32) -> u32 {
            !offset
        }
        fn write(&self, _: u32, _: u32, _: u32) {}
    }
    let card = own().peripheral("filter", Negative).plug_into(Arc::new(NoHost)).unwrap();
    assert_eq!((read(&card, 0, 0x10), read(&card, 0, 0x2000)), (!0x10, 5));
    let gpio = own().peripheral("axi-gpio", Negative);
    assert_eq!(read(&gpio.plug_into(Arc::new(NoHost)).unwrap(), 0, 0x2004), !4);
    for wrong in ["filters", "other", ""] {
        let error = own().peripheral(wrong, Negative).plug_into(Arc::new(NoHost)).unwrap_err().to_string();
        assert!(error.contains("there are: filter, other, axi-gpio, ram"), "{error}");
    }
}

#[test]
fn untouched_memory_costs_nothing() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let before = resident();
    let boards: Vec<_> = (0..4).map(|_| plain("U200_dma_ddr4")).collect();
    // Other tests run beside this one; four boards would have 256 GiB.
    assert!(resident().saturating_sub(before) < 64 << 20);
    drop(boards);
}

#[test]
fn a_flash_file_is_for_a_board_with_one_flash() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flash");
    let options = || BoardOptions { flash: Some(file.clone()), ..Default::default() };
    let first = board("TOSING_160T_dma_ddr3", options()).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 16 << 20);
    let second = board("TOSING_160T_dma_stream_crc64", options()).unwrap_err().to_string();
    assert!(second.contains("another board's"), "{second}");
    drop(first);
    let wrong = board("nitefury", options()).unwrap_err().to_string();
    assert!(wrong.contains("has 16777216 bytes") && wrong.contains("s25fl256s"), "{wrong}");
    for name in ["tef1001-dma-blkram", "i2c_probe"] {
        let none = board(name, options()).unwrap_err().to_string();
        assert!(none.contains("no flash that is modelled"), "{none}");
    }
    let info = named("U200_dma_ddr4").unwrap().info().unwrap();
    assert!(info.contains("quad-spi 0x6000 with mt25qu01g, 128 MiB"), "{info}");
}
