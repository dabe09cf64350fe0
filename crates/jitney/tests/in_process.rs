//! A program under test and its card in one process: a board of one's own with a peripheral of one's own.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the failure")]

use jitney::boards::{Catalogue, Error, RegisterSpace, identify_in};
use jitney::emulated::EmulatedCard;
use jitney::emulated::emulator::axi::{AxiError, AxiTarget, Peripheral};
use jitney::emulated::emulator::boards::Board;
use jitney::emulated::emulator::fault::{Fault, FaultKind};
use jitney::vfio::Card;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// A FIFO at one address of the card: what is written there comes out there.
#[derive(Default)]
struct OneAddress(Mutex<VecDeque<u8>>);

impl AxiTarget for OneAddress {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError> {
        let mut bytes = self.0.lock().unwrap();
        if address != 0x40 || data.len() > bytes.len() {
            return Err(AxiError::Slave);
        }
        let length = data.len();
        data.iter_mut().zip(bytes.drain(..length)).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError> {
        if address != 0x40 {
            return Err(AxiError::Slave);
        }
        self.0.lock().unwrap().extend(data);
        Ok(())
    }
}

#[test]
fn a_fifo_at_one_address_takes_and_gives_whole_transfers() {
    let emulated =
        EmulatedCard::new(&board().target("fifo", 0x4000_0000, 0x1000, OneAddress::default())).unwrap();
    let card = emulated.card();
    let catalogue = Catalogue::of_text("my_filter.toml", DESIGN).unwrap();
    let xdma = identify_in(&catalogue, &card).unwrap().xdma().unwrap();
    let sent: Vec<u8> = (0..0x2800_u32).flat_map(|word| word.to_le_bytes()).collect();
    let buffer = card.dma_buffer((sent.len() as u64).into()).unwrap();
    buffer.write(0, &sent).unwrap();
    let h2c = xdma.h2c(0).unwrap().descriptors_of_at_most(0x1000);
    assert!(h2c.write(&buffer, 0x4000_0040).is_err(), "the addresses behind it refuse");
    drop(h2c);
    let h2c = xdma.h2c(0).unwrap().descriptors_of_at_most(0x1000).at_one_address().unwrap();
    let c2h = xdma.c2h(0).unwrap().at_one_address().unwrap();
    // What the transfer that failed had written before.
    while c2h.read_bytes(&mut [0; 16], 0x4000_0040).is_ok() {}
    assert_eq!(h2c.write(&buffer, 0x4000_0040).unwrap().descriptors, 10);
    buffer.write(0, &vec![0; sent.len()]).unwrap();
    c2h.read(&buffer, 0x4000_0040).unwrap();
    let mut came = vec![0; sent.len()];
    buffer.read(0, &mut came).unwrap();
    assert!(came == sent);
}

#[test]
fn faults_happen_when_they_are_asked_for() {
    let emulated = EmulatedCard::new(&board()).unwrap();
    emulated.board().inject(Fault::new(FaultKind::LinkDown));
    assert_eq!(emulated.card().bar(2).unwrap().read32(0x1000).unwrap(), u32::MAX);
    let board = identify_in(&Catalogue::of_text("x", DESIGN).unwrap(), &emulated.card()).unwrap();
    assert!(matches!(board.xdma(), Err(Error::Xdma(_))), "no XDMA answers");
}

/// Nobody takes what is sent into a stream, so its engine does not stop: a reset ends it, and all that it had goes back.
#[test]
fn a_stalled_stream_is_ended_by_a_reset() {
    let board = Board::named(&Catalogue::built_in(), "TEF1001_dma_stream_loopback").unwrap();
    for before in [true, false] {
        let emulated = EmulatedCard::new(&board).unwrap();
        let card = emulated.card();
        let identified = jitney::boards::identify(&card).unwrap();
        let open =
            || identified.xdma().unwrap().h2c(0).map(|h2c| h2c.with_timeout(Duration::from_millis(100)));
        let (channel, buffer) = (open().unwrap(), card.dma_buffer((1 << 20).into()).unwrap());
        let error = channel.write(&buffer, 0).unwrap_err();
        assert!(error.to_string().contains("reset the card if it stays so"), "{error}");
        if before {
            card.reset().unwrap();
            drop(channel);
        } else {
            drop(channel);
            let error = open().unwrap_err();
            assert!(error.to_string().contains("reset the card if it stays so"), "{error}");
            card.reset().unwrap();
        }
        buffer.free().unwrap();
        // With somebody who takes it, it goes.
        let switch = identified.stream_switch().unwrap();
        let crossed: Vec<_> = (0..switch.ports()).map(|port| Some(port ^ 1)).collect();
        switch.lease().unwrap().set_routes(&crossed).unwrap();
        let [sent, received] = [(); 2].map(|()| card.dma_buffer(4096.into()).unwrap());
        let (h2c, c2h) = (open().unwrap(), identified.xdma().unwrap().c2h(1).unwrap());
        sent.write(0, &[7; 4096]).unwrap();
        let taken = c2h.receive(&received, 0..4096).unwrap();
        h2c.write(&sent, 0).unwrap();
        assert_eq!(taken.wait().unwrap().bytes, 4096);
        let mut bytes = [0; 4096];
        received.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 4096]);
    }
}
