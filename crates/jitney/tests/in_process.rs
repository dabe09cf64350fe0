//! A program under test and its card in one process: a board of one's own with a peripheral of one's own.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use jitney::boards::{Catalogue, Error, RegisterSpace, identify_in};
use jitney::emulated::EmulatedCard;
use jitney::emulated::emulator::axi::Peripheral;
use jitney::emulated::emulator::boards::Board;
use jitney::emulated::emulator::fault::{Fault, FaultKind};
use jitney::vfio::Card;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const DESIGN: &str = r#"
[[design]]
name = "my_filter"
board = "Mine"
pci = ["10ee:7024"]
subsystem = "1234:0001"
dma = { ip = "xdma", bar = 0, h2c = 1, c2h = 1, interface = "memory-mapped" }
memory = [
  { kind = "ddr", base = 0x8000_0000, size = 0x100_0000 },
  { kind = "block-ram", base = 0, size = 0x1_0000 },
]
peripherals = [{ name = "filter", kind = "other", bar = 2, offset = 0x1000 }]
"#;

/// Gives twice what was written.
#[derive(Default)]
struct Doubler(AtomicU32);

impl Peripheral for Doubler {
    fn read(&self, _: u32) -> u32 {
        2 * self.0.load(Relaxed)
    }
    fn write(&self, _: u32, value: u32, _: u32) {
        self.0.store(value, Relaxed);
    }
}

fn board() -> Board {
    let catalogue = Catalogue::of_text("my_filter.toml", DESIGN).unwrap();
    Board::named(&catalogue, "my_filter").unwrap().peripheral("filter", Doubler::default())
}

/// The program under test: doubles `value` on the card and writes the result to all of its memories.
fn program(card: &Arc<dyn Card>, value: u32) -> Vec<u32> {
    let board = identify_in(&Catalogue::of_text("my_filter.toml", DESIGN).unwrap(), card).unwrap();
    let filter = board.peripheral_named("filter").unwrap();
    filter.write32(0, value).unwrap();
    let doubled = filter.read32(0).unwrap();

    let buffer = card.dma_buffer(4096.into()).unwrap();
    let xdma = board.xdma().unwrap();
    let (h2c, c2h) = (xdma.h2c(0).unwrap(), xdma.c2h(0).unwrap());
    let through = |base| {
        buffer.write(0, &doubled.to_le_bytes()).unwrap();
        h2c.write(&buffer, base).unwrap();
        buffer.write(0, &[0; 4]).unwrap();
        c2h.read(&buffer, base).unwrap();
        let mut back = [0; 4];
        buffer.read(0, &mut back).unwrap();
        u32::from_le_bytes(back)
    };
    board.memories().iter().map(|memory| memory.base).map(through).collect()
}

#[test]
fn a_program_drives_a_board_of_its_own_test() {
    let emulated = EmulatedCard::new(&board()).unwrap();
    assert_eq!(program(&emulated.card(), 21), [42, 42]);
    assert!(emulated.card().identity().address.starts_with("emulated:my_filter-"));
}

#[test]
fn each_card_has_memory_of_its_own_and_outlives_what_made_it() {
    let card = EmulatedCard::new(&board()).unwrap().card();
    let other = EmulatedCard::new(&board()).unwrap();
    assert_eq!(program(&card, 1), [2, 2]);
    drop(other);
    assert_eq!(program(&card, 3), [6, 6]);
}

#[test]
fn faults_happen_when_they_are_asked_for() {
    let emulated = EmulatedCard::new(&board()).unwrap();
    emulated.board().inject(Fault::new(FaultKind::LinkDown));
    assert_eq!(emulated.card().bar(2).unwrap().read32(0x1000).unwrap(), u32::MAX);
    let board = identify_in(&Catalogue::of_text("x", DESIGN).unwrap(), &emulated.card()).unwrap();
    assert!(matches!(board.xdma(), Err(Error::Xdma(_))), "no XDMA answers");
}
