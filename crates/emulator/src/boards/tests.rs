//! Boards as the server presents them.

use super::*;
use crate::fault::{Fault, FaultKind};
use crate::function::{DmaFault, Function, Host, InterruptKind, InterruptKinds, Live, Msix};
use jitney_memory::{Access, Mapping};
use std::sync::Arc;

/// A host without memory.
struct NoHost;

impl Host for NoHost {
    fn read_to(&self, iova: u64, _: &Mapping, _: u64, _: u64, _: Live<'_>) -> Result<(), DmaFault> {
        Err(DmaFault::Unmapped { iova })
    }
    fn write_from(&self, iova: u64, _: &Mapping, _: u64, _: u64, _: Live<'_>) -> Result<(), DmaFault> {
        Err(DmaFault::Unmapped { iova })
    }
    fn read(&self, iova: u64, _: &mut [u8], _: Live<'_>) -> Result<(), DmaFault> {
        Err(DmaFault::Unmapped { iova })
    }
    fn write(&self, iova: u64, _: &[u8], _: Live<'_>) -> Result<(), DmaFault> {
        Err(DmaFault::Unmapped { iova })
    }
    fn write_word(&self, iova: u64, _: u32, _: Live<'_>) -> Result<(), DmaFault> {
        Err(DmaFault::Unmapped { iova })
    }
    fn set_interrupt(&self, _: u16, _: bool) {}
    fn bus_master(&self) -> bool {
        false
    }
}

fn board(name: &str, options: BoardOptions) -> Result<Board, BoardError> {
    Board::new(name, &options, Arc::new(NoHost))
}

fn plain(name: &str) -> Board {
    board(name, BoardOptions::default()).unwrap()
}

fn read(board: &Board, bar: usize, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    board.read(bar, offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

#[test]
fn names_are_unique_and_found() {
    let all: std::collections::BTreeSet<_> = names().collect();
    assert_eq!(all.len(), models().len());
    for name in names() {
        assert_eq!(find(name).unwrap().name, name);
    }
}

#[test]
fn a_wrong_name_gets_the_nearest() {
    for (given, nearest) in [
        ("nightfury", "nitefury"),
        ("LiteFury", "litefury"),
        ("tef1001", "tef1001-dma-blkram"),
        ("blkram", "memmapped-blkram"),
    ] {
        let error = find(given).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean '{nearest}'")), "{error}");
    }
    assert!(find("").is_err());
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
        assert!(find(name).unwrap().summary.contains(if size == 1 << 30 { "1 GiB" } else { "512 MiB" }));
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
    assert_eq!(older.description().interrupts.msix.map(|msix| (msix.bar, msix.table)), Some((0, 0x8000)));
    assert_eq!((read(&older, 0, 0x1000), read(&older, 0, 0x1100)), (0x1fc1_0006, 0));
    let newer =
        board("tef1001-dma-blkram", BoardOptions { revision: Some(1), ..Default::default() }).unwrap();
    assert_eq!((read(&newer, 0, 0x1100), read(&newer, 0, 0x1200)), (0x1fc1_0106, 0));
    let mute = BoardOptions { interrupts: Some(InterruptKind::None), ..Default::default() };
    let mute = board("tef1001-dma-blkram", mute).unwrap();
    assert_eq!(mute.description().interrupts, InterruptKinds::default());
    let messages = BoardOptions { interrupts: Some(InterruptKind::Msi), ..Default::default() };
    let messages = board("tef1001-dma-blkram", messages).unwrap();
    assert_eq!(messages.description().interrupts, InterruptKinds { msi: 32, ..Default::default() });
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
    let board = plain("nitefury");
    board.write(2, 0x4080, &5u32.to_le_bytes());
    assert!(!board.link_down());
    board.inject(Fault::new(FaultKind::LinkDown));
    assert!(board.link_down());
    assert_eq!((read(&board, 0, 0), read(&board, 2, 0x4080)), (u32::MAX, u32::MAX));
    board.write(2, 0x4080, &6u32.to_le_bytes());
    board.reset();
    assert!(board.link_down(), "a reset does not bring it back");
    let options = BoardOptions { faults: vec!["link-down".parse().unwrap()], ..Default::default() };
    assert!(super::Board::new("litefury", &options, Arc::new(NoHost)).unwrap().link_down());
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
    assert!(error("tef1001-dma-blkram", BoardOptions { channels: Some(0), ..none() }).contains("1 or 2"));
    for lanes in [0, 3, 8] {
        assert!(error("nitefury", BoardOptions { lanes: Some(lanes), ..none() }).contains("at most 4"));
    }
    assert!(error("tef1001-dma-blkram", BoardOptions { revision: Some(2), ..none() }).contains("newer"));
    assert!(
        error("nitefury-dma-ddr3", BoardOptions { revision: Some(256), ..none() }).contains("at most 255")
    );
    let msix = BoardOptions { interrupts: Some(InterruptKind::MsiX), ..none() };
    assert!(error("memmapped-blkram", msix).contains("the design has none"));
    assert!(error("memmapped-blkram", BoardOptions { memory: Some(4096), ..none() }).contains("fixed"));
    assert!("msi-x".parse::<InterruptKind>().unwrap_err().to_string().contains("msix, msi, intx and none"));
    assert_eq!("intx".parse::<InterruptKind>().unwrap(), InterruptKind::Intx);
}

#[test]
fn untouched_memory_costs_nothing() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let before = resident();
    let boards: Vec<_> = (0..4).map(|_| plain("nitefury")).collect();
    // Other tests run beside this one; four boards would have four GiB.
    assert!(resident().saturating_sub(before) < 256 << 20);
    drop(boards);
}

#[test]
fn every_board_has_something_to_say() {
    for model in models() {
        let board = plain(model.name);
        let [vendor, device, sub_vendor, sub_device] = board.description().ids;
        assert!(model.info.starts_with(&format!(
            "{vendor:04x}:{device:04x}, subsystem {sub_vendor:04x}:{sub_device:04x}\n"
        )));
        for (bar, description) in board.description().bars.iter().enumerate() {
            assert_eq!(
                description.is_some(),
                model.info.contains(&format!("BAR{bar}")),
                "{} BAR{bar}",
                model.name
            );
        }
        board.reset();
    }
}
