//! A serial NOR flash: what its data sheet says, a command at a time.
//!
//! Bytes are programmed from ones to zeros, a page at a time, and erased to ones, a sector at a time. Either needs a write
//! enable, takes time in which the flash heeds nothing but questions for its state, and is refused in blocks that are
//! protected. Lanes are not modelled: a byte is a byte, on however many it travels.

mod cells;
mod command;
mod part;
mod sfdp;
#[cfg(test)]
mod tests;

use super::SpiDevice;
use cells::Cells;
pub use cells::FlashFileError;
use command::{Address, Command, Register, decode};
use jitney_designs::Flash;
pub use part::Maker;
use part::{PAGE, PROGRAM_TIME, Part, REGISTER_TIME};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Status: it is programming, erasing or writing a register.
const BUSY: u8 = 1 << 0;
/// Status: the next program, erase or register write is heeded.
const WRITE_ENABLED: u8 = 1 << 1;
/// Spansion's status: an erase has failed, a program has failed.
const ERASE_FAILED: u8 = 1 << 5;
const PROGRAM_FAILED: u8 = 1 << 6;
/// Macronix's status: commands on four lanes are heeded.
const QUAD_ENABLED: u8 = 1 << 6;
/// What a device that does not drive its output reads as: the board pulls it up.
const SILENT: u8 = 0xFF;

/// The flash of a board.
#[derive(Debug)]
pub struct NorFlash {
    part: Part,
    cells: Cells,
    /// Block protection, and what else of the status register stays.
    status: u8,
    write_enabled: bool,
    /// Until when it heeds nothing but questions.
    busy: Option<Instant>,
    failed: Failed,
    four_byte: bool,
    bank: u8,
    reset_enabled: bool,
    asleep: bool,
    transaction: Transaction,
}

/// What went wrong since that was last cleared.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Failed {
    program: bool,
    erase: bool,
    /// In a block that is protected.
    protected: bool,
}

/// What happens while the chip select is low.
#[derive(Debug)]
struct Transaction {
    command: Command,
    /// Bytes so far.
    bytes: u64,
    address: u32,
    /// What is to be programmed or written; a page at most, in which later bytes take the place of earlier ones.
    data: Vec<u8>,
}

impl Transaction {
    const fn new() -> Self {
        Self { command: Command::Ignored, bytes: 0, address: 0, data: Vec::new() }
    }
}

impl NorFlash {
    /// An erased one that nothing keeps.
    #[must_use]
    pub fn new(flash: Flash) -> Self {
        Self::with(Part::of(flash), Cells::in_memory())
    }

    /// One whose bytes are kept in the file at `path`, which is made, erased, if it is not there.
    ///
    /// # Errors
    /// A file that cannot be used, has another size, or is another board's.
    pub fn in_file(flash: Flash, path: &Path) -> Result<Self, FlashFileError> {
        let cells = Cells::in_file(path, &flash.to_string(), flash.size())?;
        Ok(Self::with(Part::of(flash), cells))
    }

    fn with(part: Part, cells: Cells) -> Self {
        let status = if part.maker == Maker::Macronix { QUAD_ENABLED } else { 0 };
        Self {
            part,
            cells,
            status,
            write_enabled: false,
            busy: None,
            failed: Failed::default(),
            four_byte: false,
            bank: 0,
            reset_enabled: false,
            asleep: false,
            transaction: Transaction::new(),
        }
    }

    /// Who made it.
    #[must_use]
    pub fn maker(&self) -> Maker {
        self.part.maker
    }

    /// Notes when what it did is done.
    fn heed_time(&mut self) {
        if self.busy.is_some_and(|until| Instant::now() >= until) {
            self.busy = None;
            self.write_enabled = false;
        }
    }

    /// Whether it waits for its failure to be cleared, which looks as if it were busy (S25FL256S, "Status Register 1").
    fn has_stuck(&self) -> bool {
        self.part.maker == Maker::Spansion && (self.failed.program || self.failed.erase)
    }

    fn start(&mut self, time: Duration) {
        self.busy = Some(Instant::now() + time);
    }

    /// Whether `command` is heeded in the state in which the flash is.
    fn heeds(&self, command: Command) -> bool {
        if self.asleep {
            return command == Command::WakeUp;
        }
        let asks = matches!(
            command,
            Command::Register(Register::Status | Register::Status2 | Register::Flags | Register::Security)
        );
        if self.busy.is_some() {
            return asks || (self.part.maker == Maker::Spansion && command == Command::Reset);
        }
        !self.has_stuck() || asks || matches!(command, Command::ClearFlags | Command::Reset)
    }

    fn status(&self) -> u8 {
        let mut status = self.status;
        if self.busy.is_some() || self.has_stuck() {
            status |= BUSY;
        }
        if self.write_enabled {
            status |= WRITE_ENABLED;
        }
        if self.part.maker == Maker::Spansion {
            status |= if self.failed.erase { ERASE_FAILED } else { 0 };
            status |= if self.failed.program { PROGRAM_FAILED } else { 0 };
        }
        status
    }

    fn register(&self, register: Register) -> u8 {
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        match register {
            Register::Status => self.status(),
            Register::Status2 => 0,
            // Commands on four lanes are heeded, latency code 0.
            Register::Configuration => 1 << 1,
            // N25Q256A, "Flag Status Register".
            Register::Flags => {
                bit(self.busy.is_none(), 7)
                    | bit(self.failed.erase, 5)
                    | bit(self.failed.program, 4)
                    | bit(self.failed.protected, 1)
                    | bit(self.four_byte, 0)
            }
            // MX25L12835F, "Security Register": they show how the last one went.
            Register::Security => bit(self.failed.erase, 6) | bit(self.failed.program, 5),
            Register::Bank => match self.part.maker {
                Maker::Spansion => self.bank | bit(self.four_byte, 7),
                _ => self.bank,
            },
            Register::Volatile => 0xFB,
            Register::Nonvolatile => 0xFF,
        }
    }

    fn address_bytes(&self, address: Address) -> u64 {
        if address == Address::Four || self.four_byte { 4 } else { 3 }
    }

    /// Takes the byte after `before` others in, if it belongs to an address of this length. Those of three bytes begin with
    /// the bank.
    fn take_address(&mut self, byte: u8, before: u64, length: u64) -> bool {
        if before > length {
            return false;
        }
        if before == 1 {
            self.transaction.address = if length == 3 { u32::from(self.bank) } else { 0 };
        }
        self.transaction.address = self.transaction.address << 8 | u32::from(byte);
        true
    }

    /// The byte at the transaction's address, which goes on.
    fn read(&mut self) -> u8 {
        let (size, die) = (self.part.size, self.part.die);
        let at = self.transaction.address % size;
        let mut data = [SILENT];
        if let Err(error) = self.cells.read(at, &mut data) {
            tracing::error!("the flash cannot be read at {at:#x}: {error}");
        }
        self.transaction.address = at / die * die + (at % die + 1) % die;
        data[0]
    }

    fn answer(&mut self, byte: u8) -> u8 {
        let before = self.transaction.bytes;
        let index = usize::try_from(before - 1).unwrap_or(usize::MAX);
        match self.transaction.command {
            Command::Id => match self.part.maker {
                // It begins again.
                Maker::Macronix => self.part.id[index % self.part.id.len()],
                _ => self.part.id.get(index).copied().unwrap_or(0),
            },
            Command::Sfdp => {
                if self.take_address(byte, before, 3) || before == 4 {
                    return SILENT;
                }
                let at = u64::from(self.transaction.address & 0xFF_FFFF) + before - 5;
                usize::try_from(at).ok().and_then(|at| self.part.sfdp.get(at)).copied().unwrap_or(0xFF)
            }
            Command::Read { address, dummy } => {
                let length = self.address_bytes(address);
                if self.take_address(byte, before, length) || before <= length + u64::from(dummy) {
                    return SILENT;
                }
                self.read()
            }
            Command::Register(register) => self.register(register),
            Command::Program { address } => {
                let length = self.address_bytes(address);
                if !self.take_address(byte, before, length) {
                    self.take_page_byte(byte, before - length - 1);
                }
                SILENT
            }
            Command::Erase { address, .. } => {
                let length = self.address_bytes(address);
                if !self.take_address(byte, before, length) {
                    // Too long: that is no erase.
                    self.transaction.command = Command::Ignored;
                }
                SILENT
            }
            Command::Write(_) => {
                if self.transaction.data.len() < 2 {
                    self.transaction.data.push(byte);
                }
                SILENT
            }
            _ => {
                // A command that has no data is none if there is more.
                self.transaction.command = Command::Ignored;
                SILENT
            }
        }
    }

    /// Byte `index` of what is to be programmed. It goes round within its page.
    fn take_page_byte(&mut self, byte: u8, index: u64) {
        let page = PAGE as usize;
        self.transaction.data.resize(page, 0xFF);
        let index = usize::try_from(index % u64::from(PAGE)).unwrap_or(0);
        let at = (self.transaction.address as usize % page + index) % page;
        self.transaction.data[at] = byte;
    }

    /// Does what the transaction asked for, at its end.
    fn execute(&mut self) {
        let Transaction { command, bytes, address, .. } = self.transaction;
        let reset_enabled = std::mem::take(&mut self.reset_enabled);
        match command {
            Command::WriteEnable => self.write_enabled = true,
            Command::WriteDisable => self.write_enabled = false,
            Command::ClearFlags => self.clear_flags(),
            Command::AddressMode { four }
                if self.write_enabled || !self.part.address_mode_needs_write_enable =>
            {
                self.four_byte = four;
                self.write_enabled = false;
            }
            Command::EnableReset => self.reset_enabled = true,
            Command::Reset if reset_enabled || self.part.maker == Maker::Spansion => self.reset(),
            Command::PowerDown => self.asleep = true,
            Command::WakeUp => self.asleep = false,
            Command::Program { .. } if !self.transaction.data.is_empty() => {
                let start = address % self.part.size / PAGE * PAGE;
                let data = std::mem::take(&mut self.transaction.data);
                self.change(start, PAGE, PROGRAM_TIME, false, |cells| cells.program(start, &data));
            }
            Command::Erase { address: length_of, length, time } if bytes > self.address_bytes(length_of) => {
                let start = address % self.part.size / length * length;
                self.change(start, length, time, true, |cells| cells.erase(start, length));
            }
            Command::EraseChip { time } => {
                let size = self.part.size;
                self.change(0, size, time, true, |cells| cells.erase(0, size));
            }
            Command::Write(register) if self.write_enabled => self.write_register(register),
            _ => {}
        }
    }

    /// Programs or erases `length` bytes from `start` on, if that is allowed.
    fn change(
        &mut self,
        start: u32,
        length: u32,
        time: Duration,
        erase: bool,
        change: impl FnOnce(&mut Cells) -> io::Result<()>,
    ) {
        if !self.write_enabled {
            return;
        }
        if self.part.maker == Maker::Macronix {
            self.failed = Failed::default();
        }
        let protected = start + length > self.part.protected_from(self.status);
        let done = if protected { Ok(()) } else { change(&mut self.cells) };
        if let Err(error) = &done {
            tracing::error!("the flash cannot be written at {start:#x}: {error}");
        }
        if !protected && done.is_ok() {
            return self.start(time);
        }
        self.failed.protected |= protected;
        if erase {
            self.failed.erase = true;
        } else {
            self.failed.program = true;
        }
        // The latch stays set at Spansion's, until the failure is cleared.
        self.write_enabled = self.has_stuck();
    }

    fn write_register(&mut self, register: Register) {
        let Some(first) = self.transaction.data.first().copied() else { return };
        match register {
            Register::Status => {
                // Its highest bit locks the register by a pin that boards do not drive.
                let quad = if self.part.maker == Maker::Macronix { QUAD_ENABLED } else { 0 };
                let own = self.part.protection()
                    | quad
                    | 1 << 7
                    | if self.part.maker == Maker::Micron { 1 << 5 } else { 0 };
                self.status = first & own;
                self.start(REGISTER_TIME);
            }
            Register::Bank => {
                if self.part.maker == Maker::Spansion {
                    self.four_byte = first & 1 << 7 != 0;
                }
                self.bank = first & 0x7F;
                self.write_enabled = self.part.maker == Maker::Spansion && self.write_enabled;
            }
            _ => {}
        }
    }

    fn clear_flags(&mut self) {
        self.failed = Failed::default();
        if self.part.maker == Maker::Spansion {
            self.write_enabled = false;
        }
    }

    /// As after power-up, but for what stays.
    fn reset(&mut self) {
        self.write_enabled = false;
        self.busy = None;
        self.failed = Failed::default();
        self.four_byte = false;
        self.bank = 0;
    }
}

impl SpiDevice for NorFlash {
    fn selected(&mut self) {
        self.transaction = Transaction::new();
    }

    fn exchange(&mut self, byte: u8) -> u8 {
        self.heed_time();
        let answer = if self.transaction.bytes == 0 {
            let command = decode(&self.part, byte);
            self.transaction.command = if self.heeds(command) { command } else { Command::Ignored };
            SILENT
        } else {
            self.answer(byte)
        };
        self.transaction.bytes += 1;
        answer
    }

    fn deselected(&mut self, at_byte: bool) {
        self.heed_time();
        // What changes something has to end with a whole byte, or is not done.
        if at_byte && self.transaction.bytes > 0 {
            self.execute();
        }
        self.transaction = Transaction::new();
    }
}
