//! A board of one's own with a peripheral of one's own, served to any vfio-user client:
//!
//!   cargo run --example own_peripheral -- /tmp/adder.sock
//!   jitney info --card vfio-user:/tmp/adder.sock

use jitney_emulator::axi::Peripheral;
use jitney_emulator::boards::Board;
use jitney_emulator::designs::Catalogue;
use jitney_emulator::{Function, Options, Server};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const DESIGN: &str = r#"
[[design]]
name = "my_adder"
board = "Adder"
pci = ["10ee:7024"]
subsystem = "1234:0001"
dma = { ip = "xdma", bar = 0, h2c = 1, c2h = 1, interface = "memory-mapped" }
memory = { kind = "block-ram", base = 0, size = 0x1_0000 }
peripherals = [{ name = "adder", kind = "other", bar = 2, offset = 0, note = "0 and 4 are summed in 8" }]
"#;

/// Two registers, and a third that is their sum.
#[derive(Default)]
struct Adder([AtomicU32; 2]);

impl Peripheral for Adder {
    fn read(&self, offset: u32) -> u32 {
        match offset {
            8 => self.0[0].load(Relaxed).wrapping_add(self.0[1].load(Relaxed)),
            _ => self.0.get(offset as usize / 4).map_or(0, |register| register.load(Relaxed)),
        }
    }

    fn write(&self, offset: u32, value: u32, _lanes: u32) {
        if let Some(register) = self.0.get(offset as usize / 4) {
            register.store(value, Relaxed);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args().nth(1).ok_or("say where clients connect: a path for a socket")?;
    let catalogue = Catalogue::of_text("my_adder.toml", DESIGN)?;
    let board = Board::named(&catalogue, "my_adder")?.peripheral("adder", Adder::default());
    let server =
        Server::bind(socket, Options::default(), |host| -> Result<Arc<dyn Function>, Box<dyn Error>> {
            Ok(Arc::new(board.plug_into(host)?))
        })?;
    Ok(server.serve()?)
}
