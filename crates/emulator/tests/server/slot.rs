//! What an XDMA knows of its slot: what software has set in configuration space, and which interrupts it set up.

use std::os::fd::AsFd;
use std::sync::Arc;

use jitney_emulator::boards::Board;
use jitney_emulator::designs::Catalogue;
use jitney_emulator::{Function, Options, Server};
use jitney_memory::EventFd;
use jitney_vfio_user::{IrqAction, IrqData};

use crate::client::Client;

/// The DMA BAR, and registers of its config block (PG195, "Config Block Registers (0x3)").
const BAR: u32 = 2;
const MAX_PAYLOAD: u64 = 0x3008;
const MAX_READ_REQUEST: u64 = 0x300c;
const MSI_ENABLE: u64 = 0x3014;
const CONFIG: u32 = 7;
const DEVICE_CONTROL: u64 = 0x68;

#[test]
fn an_xdma_says_what_software_has_set_in_its_slot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board");
    let server = Server::bind(&path, Options::default(), |host| {
        let board = Board::named(&Catalogue::built_in(), "nitefury")?.plug_into(host)?;
        Ok::<_, Box<dyn std::error::Error>>(Arc::new(board) as Arc<dyn Function>)
    })
    .unwrap();
    let stop = server.stop_handle();
    let server = std::thread::spawn(|| server.serve());

    let mut client = Client::to(&path);
    let read = |client: &mut Client, register| {
        u32::from_le_bytes(client.read(BAR, register, 4).unwrap().try_into().unwrap())
    };
    // Codes: 128 bytes, doubled so many times.
    let sizes = |client: &mut Client| (read(client, MAX_PAYLOAD), read(client, MAX_READ_REQUEST));
    assert_eq!(sizes(&mut client), (1, 2));
    client.write(CONFIG, DEVICE_CONTROL, &0x5010u16.to_le_bytes()).unwrap();
    assert_eq!(sizes(&mut client), (0, 5));
    client.write(CONFIG, DEVICE_CONTROL, &0xd010u16.to_le_bytes()).unwrap();
    assert_eq!(sizes(&mut client), (1, 2), "after a function-level reset");

    let wire = EventFd::new().unwrap();
    for (index, enabled) in [(0, 0b00), (1, 0b01), (2, 0b10)] {
        let eventfds = IrqData::Eventfds;
        client.interrupts((index, 0, 1), IrqAction::Trigger, eventfds, &[wire.as_fd()]).unwrap();
        assert_eq!(read(&mut client, MSI_ENABLE), enabled);
        client.interrupts((index, 0, 0), IrqAction::Trigger, IrqData::None, &[]).unwrap();
    }
    drop(client);
    stop.stop().unwrap();
    server.join().unwrap().unwrap();
}
