//! A NiteFury, its registers and its host's memory, in any order of accesses: memory changes only where and while it is
//! mapped for writing and the board masters the bus, BUSY falls when RUN does, and after a reset the board is as new.

#![no_main]

use std::cell::RefCell;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use jitney_emulator::FuzzedBoard;
use jitney_emulator::boards::BoardOptions;
use jitney_memory::{Access, EventFd, Mapping, Memfd, PageSize};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// The host's memory: so many maps' worth of so many bytes. Little, so that it is soon looked at.
const PAGES: u64 = 16;
const PAGE: u64 = 1024;
const MEMORY: u64 = PAGES * PAGE;
/// Descriptors are at its beginning.
const SLOTS: u64 = 16;
const DESCRIPTORS: u64 = SLOTS * 32;
/// The most bytes of a descriptor: several maps, and soon moved.
const LONGEST: u16 = 0x1100;
const BASE: u64 = 0x3_8000_0000;
const CARD: u64 = 0x4000;

/// What the card's memory begins with, so that it is seen where it comes to be.
const FILLING: u8 = 0xa5;

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

/// Where the core says which messages are enabled.
const XDMA_MSI_ENABLE: u64 = 0x3014;

/// Where registers are in the XDMA's BAR, block by block (PG195, "Register Space").
const BLOCKS: [Range<u64>; 7] = [
    0x0000..0x00d8,
    0x1000..0x10d8,
    0x2000..0x20b0,
    0x3000..0x3068,
    0x4000..0x4090,
    0x5000..0x5090,
    0x6000..0x6030,
];
/// Those of them that can hold something else than after a reset. The others are looked at by some inputs only.
const CHANGING: [&[u64]; 7] = [
    &[0x04, 0x40, 0x48, 0x88, 0x8c, 0x90, 0xc0, 0xc4, 0xc8, 0xcc, 0xd0],
    &[0x04, 0x40, 0x48, 0x88, 0x8c, 0x90, 0xc0, 0xc4, 0xc8, 0xcc, 0xd0],
    &[0x04, 0x10, 0x40, 0x44, 0x48, 0x4c, 0x80, 0x84, 0x88, 0x8c, 0xa0, 0xa4],
    &[0x08, 0x0c, 0x1c, 0x40, 0x44, 0x60, 0x64],
    &[0x80, 0x84, 0x88, 0x8c],
    &[0x80, 0x84, 0x88, 0x8c],
    &[0x10, 0x20],
];

#[derive(Debug, Arbitrary)]
struct Input {
    /// From the beginning the board masters the bus, and may read the host's memory and write the lower half of it.
    ready: bool,
    ops: Vec<Op>,
}

fuzz_target!(|input: Input| {
    thread_local!(static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) });
    BENCH.with_borrow_mut(|kept| {
        let mut bench = kept.take().unwrap_or_else(Bench::new);
        let half = |page, write| Op::Map { page, pages: 7, read: true, write };
        let ready = [half(0, true), half(8, false), Op::BusMaster(true)];
        let before = if input.ready { &ready[..] } else { &[] };
        before.iter().chain(&input.ops).take(64).for_each(|op| bench.run(op));
        bench.finish();
        let again = bench.uses < 1000 && !bench.others_written;
        *kept = again.then(|| bench.again());
    });
});

/// A board and its host, for many inputs: each begins with a board that was reset, and nothing in any memory.
struct Bench {
    board: FuzzedBoard,
    /// Every register, and configuration space, of the board when it was new.
    fresh: Vec<Vec<u32>>,
    fresh_config: [u8; 0x100],
    /// Where the capabilities for power management and PCI Express are in configuration space.
    power: u64,
    express: u64,
    uses: u32,
    /// Something was written that a reset does not bring back: other peripherals than the XDMA.
    others_written: bool,
    file: OwnedFd,
    memory: Mapping,
    /// What the memory held when it was looked at last.
    shadow: Vec<u8>,
    now: Vec<u8>,
    /// What each page is mapped for.
    rights: [Option<(bool, bool)>; PAGES as usize],
    /// The first page of the map that a page belongs to, and the map's length in pages.
    extent: [(u64, u64); PAGES as usize],
    events: EventFd,
}

impl Bench {
    fn new() -> Self {
        const SIZE: usize = MEMORY as usize;
        let options = BoardOptions { memory: Some(CARD), ..BoardOptions::default() };
        let board = FuzzedBoard::new("nitefury", &options).unwrap();
        let file = Memfd::create("host", MEMORY, PageSize::Normal).unwrap();
        let memory = Mapping::shared(&file, 0, SIZE, Access::ReadWrite).unwrap();
        let mut bench = Self {
            board,
            fresh: Vec::new(),
            fresh_config: [0; 0x100],
            power: 0,
            express: 0,
            uses: 0,
            others_written: false,
            file: file.into_fd(),
            memory,
            shadow: vec![0; SIZE],
            now: vec![0; SIZE],
            rights: [None; PAGES as usize],
            extent: [(0, 0); PAGES as usize],
            events: EventFd::new().unwrap(),
        };
        bench.board.keep(&bench.file, MEMORY);
        let registers = |block: Range<u64>| block.step_by(4).map(|at| bench.get(XDMA, at)).collect();
        bench.fresh = BLOCKS.into_iter().map(registers).collect();
        bench.fresh_config = bench.config();
        (bench.power, bench.express) = (bench.find_capability(0x01), bench.find_capability(0x10));
        bench.board.fill_memory(FILLING);
        bench
    }

    /// For the next input.
    fn again(mut self) -> Self {
        assert!(self.board.unmap(0, u64::MAX));
        self.rights = [None; PAGES as usize];
        (0..32).for_each(|vector| self.board.arm(vector, None));
        self.board.fill_memory(FILLING);
        self.memory.fill(0, MEMORY as usize, 0).unwrap();
        self.shadow.fill(0);
        self.uses += 1;
        self
    }

    fn config(&self) -> [u8; 0x100] {
        let mut bytes = [0; 0x100];
        assert!(self.board.read(CONFIG, 0, &mut bytes));
        bytes
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
        if op.changes_rights() {
            self.look();
        }
        match *op {
            Op::Read { region, offset, size } => {
                let mut bytes = [0; 16];
                let _ = self.board.read(region.into(), offset.into(), &mut bytes[..usize::from(size % 17)]);
            }
            Op::Write { region, offset, value, size } => {
                let bytes = (u64::from(value) << 32 | u64::from(value)).to_le_bytes();
                let written = self.board.write(region.into(), offset.into(), &bytes[..usize::from(size % 9)]);
                self.others_written |= written && region == 0;
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
                let (block, first) = (block(channel), descriptor(slot));
                self.set(XDMA, block + 0x4080, first as u32);
                self.set(XDMA, block + 0x4084, (first >> 32) as u32);
                self.set(XDMA, block + 0x4088, u32::from(adjacent));
                let writeback = place(writeback);
                self.set(XDMA, block + 0x88, writeback as u32);
                self.set(XDMA, block + 0x8c, (writeback >> 32) as u32);
                self.set(XDMA, block + CONTROL, u32::from(control) & !RUN);
                self.set(XDMA, block + CONTROL, u32::from(control) | RUN | 1 << 26);
            }
            Op::Stop { channel } => self.stop(block(channel)),
            Op::Descriptor { slot, control, adjacent, length, host, card, next, to_host } => {
                let control = 0xad4b_0000 | u32::from(adjacent % 64) << 8 | u32::from(control & 0x13);
                let (host, card) = (place(host), u64::from(card) % (CARD + PAGE));
                let (from, to) = if to_host { (card, host) } else { (host, card) };
                let mut bytes = Vec::with_capacity(32);
                bytes.extend(control.to_le_bytes());
                bytes.extend(u32::from(length % LONGEST).to_le_bytes());
                bytes.extend(from.to_le_bytes());
                bytes.extend(to.to_le_bytes());
                bytes.extend(descriptor(next).to_le_bytes());
                self.poke(descriptor(slot) - BASE, &bytes);
            }
            // Not among descriptors: one of 256 MiB to one address takes a second.
            Op::Poke { offset, value } => {
                let offset = DESCRIPTORS + u64::from(offset) % (MEMORY - DESCRIPTORS - 8);
                self.poke(offset, &value.to_le_bytes());
            }
            Op::Map { page, pages, read, write } => self.map(page, pages, (read, write)),
            Op::Unmap { page, pages } => self.unmap(page, pages),
            Op::UnmapAll => {
                assert!(self.board.unmap(0, u64::MAX));
                self.rights = [None; PAGES as usize];
            }
            Op::Reset => self.board.reset(),
            // "Initiate Function Level Reset".
            Op::FunctionReset => self.set(CONFIG, self.express + 8, 1 << 15),
            Op::BusMaster(on) => self.set(CONFIG, 4, if on { 6 } else { 2 }),
            Op::Arm { vector, wired } => {
                let event = wired
                    .then(|| EventFd::try_from(self.events.as_fd().try_clone_to_owned().unwrap()).unwrap());
                self.board.arm((vector % 32).into(), event);
            }
            Op::UserInterrupt { number, level } => self.board.set_user_interrupt(number % 16, level),
            Op::Step(most) => {
                self.board.step(u32::from(most % 8));
            }
        }
    }

    fn find_capability(&self, id: u32) -> u64 {
        let mut at = u64::from(self.get(CONFIG, 0x34) & 0xfc);
        loop {
            let head = self.get(CONFIG, at);
            if head & 0xff == id {
                return at;
            }
            at = u64::from(head >> 8 & 0xfc);
            assert_ne!(at, 0, "a board without the capability {id:#x}");
        }
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

    /// Memory has changed only where the board may write it. To be called before that changes, and at the end: what was
    /// written since the last look was written with the rights of now.
    fn look(&mut self) {
        let masters = self.get(CONFIG, 4) & 4 != 0;
        self.memory.read(0, &mut self.now).unwrap();
        let pages = self.now.chunks(PAGE as usize).zip(self.shadow.chunks_mut(PAGE as usize));
        for (page, ((now, shadow), rights)) in pages.zip(self.rights).enumerate() {
            if now != shadow {
                let writable = rights.is_some_and(|(_, write)| write);
                assert!(writable && masters, "page {page} was written: mapped {rights:?}, masters {masters}");
                shadow.copy_from_slice(now);
            }
        }
    }

    /// BUSY falls when RUN has fallen, as soon as the engine has had its turn.
    fn stop(&mut self, block: u64) {
        self.set(XDMA, block + CONTROL_CLEAR, RUN);
        self.board.step(1);
        let status = self.get(XDMA, block + STATUS);
        if self.answers() {
            assert_eq!(status & BUSY, 0, "busy without RUN");
        } else {
            assert_eq!(status, u32::MAX, "an answer without Memory Space, or in D3hot");
        }
    }

    /// Whether the function answers at its BARs: Memory Space of the command register, and power state D0.
    fn answers(&self) -> bool {
        self.get(CONFIG, 4) & 2 != 0 && self.get(CONFIG, self.power + 4) & 3 == 0
    }

    /// After a reset nothing is under way, and the registers are those of a new board.
    fn finish(&mut self) {
        // These lines come from outside of the core, and a reset does not move them.
        (0..16).for_each(|number| self.board.set_user_interrupt(number, false));
        self.look();
        self.board.reset();
        self.set(CONFIG, 4, 6);
        assert_eq!(self.board.step(1), 0, "a descriptor after a reset");
        self.look();
        self.board.reset();
        for (block, (changing, fresh)) in BLOCKS.into_iter().zip(CHANGING.into_iter().zip(&self.fresh)) {
            let check = |at: u64| {
                // Which interrupts a client has set up is its own, and no reset of the function takes them away.
                if block.start + at == XDMA_MSI_ENABLE {
                    return;
                }
                assert_eq!(self.get(XDMA, block.start + at), fresh[at as usize / 4], "{block:x?}, {at:#x}");
            };
            match self.uses % 64 {
                0 => (0..fresh.len() as u64 * 4).step_by(4).for_each(check),
                _ => changing.iter().copied().for_each(check),
            }
        }
        assert_eq!(self.config(), self.fresh_config, "configuration space after a reset");
    }
}

impl Op {
    /// Whether it changes what the board may write: maps, Bus Master Enable.
    fn changes_rights(&self) -> bool {
        match self {
            Self::Map { .. } | Self::Unmap { .. } | Self::UnmapAll => true,
            Self::Reset | Self::FunctionReset | Self::BusMaster(_) => true,
            Self::Write { region, .. } => u32::from(*region) == CONFIG,
            _ => false,
        }
    }
}

/// A place in the host's memory or a little beyond.
fn place(number: u16) -> u64 {
    BASE + u64::from(number) % (MEMORY + PAGE)
}

fn descriptor(number: u8) -> u64 {
    BASE + 32 * (u64::from(number) % SLOTS)
}

fn block(channel: u8) -> u64 {
    [0x0000, 0x0100, 0x1000, 0x1100][usize::from(channel) % 4]
}
