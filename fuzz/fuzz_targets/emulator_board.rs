//! A NiteFury, its registers and its host's memory, in any order of accesses: memory changes only where and while it is
//! mapped for writing and the board masters the bus, BUSY falls when RUN does, and after a reset the board is as new.

#![no_main]

use std::os::fd::{AsFd, OwnedFd};

use jitney_emulator::FuzzedBoard;
use jitney_emulator::boards::BoardOptions;
use jitney_memory::{Access, EventFd, Mapping, Memfd, PageSize};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// Pages of the host's memory; the first one has descriptors.
const PAGES: u64 = 16;
const PAGE: u64 = 4096;
const BASE: u64 = 0x3_8000_0000;
const CARD: u64 = 0x1_0000;

/// Region of the XDMA's registers, and of configuration space.
const XDMA: u32 = 2;
const CONFIG: u32 = 7;

const CONTROL: u64 = 0x04;
const CONTROL_CLEAR: u64 = 0x0c;
const STATUS: u64 = 0x40;
const RUN: u32 = 1;
const BUSY: u32 = 1;

#[derive(Debug, Arbitrary)]
enum Op {
    Read {
        region: u8,
        offset: u16,
        size: u8,
    },
    Write {
        region: u8,
        offset: u16,
        value: u32,
        size: u8,
    },
    /// A register that does something, of one of four channels.
    Register {
        channel: u8,
        register: u8,
        value: u32,
    },
    /// What a driver does: addresses, then RUN.
    Start {
        channel: u8,
        slot: u8,
        adjacent: u8,
        writeback: u16,
        control: u16,
    },
    Stop {
        channel: u8,
    },
    Descriptor {
        slot: u8,
        control: u8,
        adjacent: u8,
        length: u16,
        host: u16,
        card: u16,
        next: u8,
        to_host: bool,
    },
    Poke {
        offset: u16,
        value: u64,
    },
    Map {
        page: u8,
        pages: u8,
        read: bool,
        write: bool,
    },
    Unmap {
        page: u8,
        pages: u8,
    },
    UnmapAll,
    Reset,
    FunctionReset,
    BusMaster(bool),
    Arm {
        vector: u8,
        wired: bool,
    },
    UserInterrupt {
        number: u8,
        level: bool,
    },
    Step(u8),
}

/// Offsets within a channel's block, and within its SGDMA block.
const CHANNEL_REGISTERS: [u64; 14] =
    [0x04, 0x08, 0x0c, 0x40, 0x44, 0x48, 0x88, 0x8c, 0x90, 0x94, 0x98, 0xc0, 0xc4, 0x00];
const SGDMA_REGISTERS: [u64; 4] = [0x80, 0x84, 0x88, 0x8c];

fuzz_target!(|ops: Vec<Op>| {
    let mut bench = Bench::new();
    for op in ops.into_iter().take(200) {
        bench.run(&op);
    }
    bench.finish();
});

struct Bench {
    board: FuzzedBoard,
    file: OwnedFd,
    memory: Mapping,
    /// What the memory held when it was looked at last.
    shadow: Vec<u8>,
    /// What each page is mapped for.
    rights: [Option<(bool, bool)>; PAGES as usize],
    /// The first page of the map that a page belongs to, and the map's length in pages.
    extent: [(u64, u64); PAGES as usize],
    events: EventFd,
}

impl Bench {
    fn new() -> Self {
        let options = BoardOptions { memory: Some(CARD), channels: Some(2), ..BoardOptions::default() };
        let board = FuzzedBoard::new("nitefury", &options)
            .or_else(|_| FuzzedBoard::new("nitefury", &BoardOptions { channels: None, ..options }))
            .unwrap();
        let file = Memfd::create("host", PAGES * PAGE, PageSize::Normal).unwrap();
        let memory = Mapping::shared(&file, 0, (PAGES * PAGE) as usize, Access::ReadWrite).unwrap();
        let file = file.as_fd().try_clone_to_owned().unwrap();
        let events = EventFd::new().unwrap();
        let (shadow, rights) = (vec![0; (PAGES * PAGE) as usize], [None; PAGES as usize]);
        Self { board, file, memory, shadow, rights, extent: [(0, 0); PAGES as usize], events }
    }

    fn get(&self, region: u32, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        assert!(self.board.read(region, offset, &mut bytes), "{region}: {offset:#x}");
        u32::from_le_bytes(bytes)
    }

    fn set(&self, region: u32, offset: u64, value: u32) {
        assert!(self.board.write(region, offset, &value.to_le_bytes()), "{region}: {offset:#x}");
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Read { region, offset, size } => {
                let mut bytes = [0; 16];
                let _ = self.board.read(region.into(), offset.into(), &mut bytes[..usize::from(size % 17)]);
            }
            Op::Write { region, offset, value, size } => {
                let bytes = (u64::from(value) << 32 | u64::from(value)).to_le_bytes();
                let _ = self.board.write(region.into(), offset.into(), &bytes[..usize::from(size % 9)]);
            }
            Op::Register { channel, register, value } => {
                let index = usize::from(register) % (CHANNEL_REGISTERS.len() + SGDMA_REGISTERS.len());
                let block = block(channel);
                match CHANNEL_REGISTERS.get(index) {
                    Some(register) => self.set(XDMA, block + register, value),
                    None => {
                        let register = SGDMA_REGISTERS[index - CHANNEL_REGISTERS.len()];
                        self.set(XDMA, block + 0x4000 + register, value);
                    }
                }
            }
            Op::Start { channel, slot, adjacent, writeback, control } => {
                let (block, first) = (block(channel), self.slot(slot));
                self.set(XDMA, block + 0x4080, first as u32);
                self.set(XDMA, block + 0x4084, (first >> 32) as u32);
                self.set(XDMA, block + 0x4088, u32::from(adjacent));
                let writeback = BASE + u64::from(writeback);
                self.set(XDMA, block + 0x88, writeback as u32);
                self.set(XDMA, block + 0x8c, (writeback >> 32) as u32);
                self.set(XDMA, block + CONTROL, u32::from(control) & !RUN);
                self.set(XDMA, block + CONTROL, u32::from(control) | RUN | 1 << 26);
            }
            Op::Stop { channel } => self.stop(block(channel)),
            Op::Descriptor { slot, control, adjacent, length, host, card, next, to_host } => {
                let control = 0xad4b_0000 | u32::from(adjacent % 64) << 8 | u32::from(control & 0x13);
                let (host, card) = (BASE + u64::from(host), u64::from(card));
                let (from, to) = if to_host { (card, host) } else { (host, card) };
                let mut bytes = Vec::with_capacity(32);
                bytes.extend(control.to_le_bytes());
                bytes.extend(u32::from(length).to_le_bytes());
                bytes.extend(from.to_le_bytes());
                bytes.extend(to.to_le_bytes());
                bytes.extend(self.slot(next).to_le_bytes());
                self.poke(self.slot(slot) - BASE, &bytes);
            }
            // Not among descriptors: one of 256 MiB to one address takes a second.
            Op::Poke { offset, value } if u64::from(offset) >= PAGE && offset < 0xfff8 => {
                self.poke(offset.into(), &value.to_le_bytes());
            }
            Op::Poke { .. } => {}
            Op::Map { page, pages, read, write } => self.map(page, pages, (read, write)),
            Op::Unmap { page, pages } => self.unmap(page, pages),
            Op::UnmapAll => {
                assert!(self.board.unmap(0, u64::MAX));
                self.rights = [None; PAGES as usize];
            }
            Op::Reset => self.board.reset(),
            // "Initiate Function Level Reset" of the PCI Express capability, wherever that is.
            Op::FunctionReset => {
                if let Some(at) = self.express() {
                    self.set(CONFIG, at + 8, 1 << 15);
                }
            }
            Op::BusMaster(on) => self.set(CONFIG, 4, if on { 6 } else { 2 }),
            Op::Arm { vector, wired } => {
                let event = wired
                    .then(|| EventFd::try_from(self.events.as_fd().try_clone_to_owned().unwrap()).unwrap());
                self.board.arm((vector % 32).into(), event);
            }
            Op::UserInterrupt { number, level } => self.board.set_user_interrupt(number % 16, level),
            Op::Step(most) => {
                self.board.step(u32::from(most % 32));
            }
        }
        self.check();
    }

    fn express(&self) -> Option<u64> {
        let mut at = u64::from(self.get(CONFIG, 0x34) & 0xfc);
        for _ in 0..48 {
            let head = self.get(CONFIG, at);
            if head & 0xff == 0x10 {
                return Some(at);
            }
            at = u64::from(head >> 8 & 0xfc);
            if at == 0 {
                return None;
            }
        }
        None
    }

    fn slot(&self, slot: u8) -> u64 {
        BASE + 32 * u64::from(slot % 128)
    }

    /// The host's own write.
    fn poke(&mut self, offset: u64, bytes: &[u8]) {
        self.memory.write(offset, bytes).unwrap();
        self.shadow[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn map(&mut self, page: u8, pages: u8, rights: (bool, bool)) {
        let first = u64::from(page) % PAGES;
        let pages = (u64::from(pages) % PAGES + 1).min(PAGES - first);
        let range = first as usize..(first + pages) as usize;
        let free = self.rights[range.clone()].iter().all(Option::is_none);
        let at = first * PAGE;
        let mapped = self.board.map(&self.file, at, BASE + at, pages * PAGE, rights);
        assert_eq!(mapped, free, "{range:?}");
        if mapped {
            self.rights[range.clone()].fill(Some(rights));
            self.extent[range].fill((first, pages));
        }
    }

    fn unmap(&mut self, page: u8, pages: u8) {
        let first = u64::from(page) % PAGES;
        let pages = (u64::from(pages) % PAGES + 1).min(PAGES - first);
        let range = first as usize..(first + pages) as usize;
        let cuts = range.clone().any(|page| {
            let (start, length) = self.extent[page];
            self.rights[page].is_some() && (start < first || start + length > first + pages)
        });
        let unmapped = self.board.unmap(BASE + first * PAGE, pages * PAGE);
        assert_eq!(unmapped, !cuts, "{range:?}");
        if unmapped {
            self.rights[range].fill(None);
        }
    }

    /// Memory changes only where and while the board may write it.
    fn check(&mut self) {
        let mut now = vec![0; PAGE as usize];
        let masters = self.get(CONFIG, 4) & 4 != 0;
        for page in 0..PAGES as usize {
            let at = page * PAGE as usize;
            self.memory.read(at as u64, &mut now).unwrap();
            let shadow = &mut self.shadow[at..][..PAGE as usize];
            if now != *shadow {
                let writable = self.rights[page].is_some_and(|(_, write)| write);
                assert!(
                    writable && masters,
                    "page {page} was written: mapped {:?}, masters {masters}",
                    self.rights[page]
                );
                shadow.copy_from_slice(&now);
            }
        }
    }

    /// BUSY falls when RUN has fallen, as soon as the engine has had its turn.
    fn stop(&mut self, block: u64) {
        self.set(XDMA, block + CONTROL_CLEAR, RUN);
        self.board.step(1);
        assert_eq!(self.get(XDMA, block + STATUS) & BUSY, 0, "busy without RUN");
    }

    /// After a reset nothing is under way, and the registers are those of a new board.
    fn finish(mut self) {
        // These lines come from outside of the core, and a reset does not move them.
        (0..16).for_each(|number| self.board.set_user_interrupt(number, false));
        self.board.reset();
        self.set(CONFIG, 4, 6);
        assert_eq!(self.board.step(1), 0, "a descriptor after a reset");
        self.check();
        self.board.reset();
        let new = Self::new();
        for block in [0x0000, 0x0100, 0x1000, 0x1100, 0x2000, 0x3000, 0x4000, 0x4100, 0x5000, 0x5100, 0x6000]
        {
            for register in (0..0x100).step_by(4) {
                let offset = block + register;
                assert_eq!(self.get(XDMA, offset), new.get(XDMA, offset), "{offset:#x} after a reset");
            }
        }
        for offset in (0..0x100).step_by(4) {
            assert_eq!(self.get(CONFIG, offset), new.get(CONFIG, offset), "config {offset:#x} after a reset");
        }
    }
}

fn block(channel: u8) -> u64 {
    [0x0000, 0x0100, 0x1000, 0x1100][usize::from(channel) % 4]
}
