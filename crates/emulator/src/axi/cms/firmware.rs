//! What runs on the MicroBlaze: it starts, measures, and answers messages (PG348, "Mailbox").

use super::modules::Modules;
use super::sensors::Sensors;
use super::{ANSWER, BOOT, FIRMWARE_VERSION, ID, MAILBOX, Map, PROFILE, READY, at};
use crate::fault::Faults;
use std::time::{Duration, Instant};

/// How often everything is measured.
const ROUND: Duration = Duration::from_millis(50);
/// Rounds that are made up for at once when nobody has looked for long.
const MOST_ROUNDS: u32 = 100;

const CONTROL_FORGET: u32 = 1 << 0;
const CONTROL_CLEAR_ERROR: u32 = 1 << 1;
const CONTROL_MESSAGE: u32 = 1 << 5;
const CONTROL_REBOOT: u32 = 1 << 6;
const CONTROL_MODULE_SIGNALS: u32 = 1 << 26;

/// Opcodes.
mod opcode {
    pub(super) const CARD_INFO: u8 = 0x04;
    pub(super) const BLOCK_READ: u8 = 0x0B;
    pub(super) const READ_SIGNALS: u8 = 0x0D;
    pub(super) const WRITE_SIGNALS: u8 = 0x0E;
    pub(super) const BYTE_READ: u8 = 0x0F;
    pub(super) const BYTE_WRITE: u8 = 0x10;
}

/// Why a message is refused ("HOST_MSG_ERROR_REG").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such message.
    Opcode = 0x1,
    /// No module answers.
    Module = 0xA,
}

/// The card, as its SC knows it: key, and text or bytes (PG348, "CMS_OP_CARD_INFO_REQ").
const CARD: [(u8, &[u8]); 12] = [
    (0x27, b"ALVEO U200 PQ\0"),
    (0x26, b"1.0\0"),
    (0x21, b"21290594R00A\0"),
    (0x22, b"00:0A:35:0E:24:A0\0"),
    (0x23, b"00:0A:35:0E:24:A1\0"),
    (0x24, b"FF:FF:FF:FF:FF:FF\0"),
    (0x25, b"FF:FF:FF:FF:FF:FF\0"),
    (0x28, b"4.6.21\0"),
    // 225 W, a fan, from SPI flash of four lines, one address per cage and two kinds of cages.
    (0x29, &[2]),
    (0x2A, b"P"),
    (0x2B, &[7]),
    (0x50, &[0]),
];

/// The firmware since its reset was released.
#[derive(Debug)]
pub(super) struct Firmware {
    begun: Instant,
    is_up: bool,
    hangs: bool,
    /// When the message that waits was seen.
    message: Option<Instant>,
    rounds_until: Instant,
    sensors: Sensors,
    modules: Modules,
}

impl Firmware {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            is_up: false,
            hangs: false,
            message: None,
            rounds_until: now,
            sensors: Sensors::default(),
            modules: Modules::default(),
        }
    }

    /// The host has written the control register, which the firmware looks at all the time.
    pub(super) fn control_written(&mut self, now: Instant) {
        self.message.get_or_insert(now);
    }

    /// Does what it has to until `now`.
    pub(super) fn run(&mut self, map: &mut Map, now: Instant, faults: &Faults) {
        if self.hangs {
            return;
        }
        if !self.is_up {
            if now.saturating_duration_since(self.begun) < BOOT {
                return;
            }
            self.start(map, now);
        }
        let control = map.get(at::CONTROL);
        if control & CONTROL_REBOOT != 0 {
            map.set(at::CONTROL, 0);
            *self = Self::new(now);
            return;
        }
        if control & CONTROL_CLEAR_ERROR != 0 {
            map.set(at::CONTROL, control & !CONTROL_CLEAR_ERROR);
        }
        self.answer(map, now, faults);
        self.measure(map, now);
    }

    fn start(&mut self, map: &mut Map, now: Instant) {
        self.is_up = true;
        self.rounds_until = now;
        self.message = None;
        for (offset, value) in [
            (at::ID, ID),
            (at::FIRMWARE_VERSION, FIRMWARE_VERSION),
            (at::PROFILE, PROFILE),
            (at::CONTROL, 0),
            (at::MESSAGE_OFFSET, MAILBOX),
            (at::MESSAGE_ERROR, 0),
            (at::CORE_BUILD, FIRMWARE_VERSION),
        ] {
            map.set(offset, value);
        }
        self.sensors.measure(map);
        map.set(at::STATUS_2, READY);
    }

    fn measure(&mut self, map: &mut Map, now: Instant) {
        let mut made = 0;
        while now.saturating_duration_since(self.rounds_until) >= ROUND {
            made += 1;
            if made > MOST_ROUNDS {
                self.rounds_until = now;
                break;
            }
            self.rounds_until += ROUND;
            let control = map.get(at::CONTROL);
            if control & CONTROL_FORGET != 0 {
                self.sensors.forget();
                map.set(at::CONTROL, control & !CONTROL_FORGET);
            }
            self.sensors.measure(map);
        }
    }

    /// Answers the message that waits, when its time has come.
    fn answer(&mut self, map: &mut Map, now: Instant, faults: &Faults) {
        let control = map.get(at::CONTROL);
        if control & CONTROL_MESSAGE == 0 {
            self.message = None;
            return;
        }
        let seen = *self.message.get_or_insert(now);
        if now.saturating_duration_since(seen) < ANSWER {
            return;
        }
        if faults.hangs_firmware() {
            self.hangs = true;
            return;
        }
        self.message = None;
        let signals = control & CONTROL_MODULE_SIGNALS != 0;
        let error = match self.process(&mut Mailbox(map), signals) {
            Ok(()) => 0,
            Err(refusal) => refusal as u32,
        };
        map.set(at::MESSAGE_ERROR, error);
        map.set(at::CONTROL, control & !CONTROL_MESSAGE);
    }

    fn process(&mut self, mailbox: &mut Mailbox<'_>, signals: bool) -> Result<(), Refusal> {
        let [.., opcode] = mailbox.word(0).to_le_bytes();
        let module = (mailbox.word(1), mailbox.word(2), mailbox.word(3));
        match opcode {
            opcode::CARD_INFO => {
                let items = CARD.iter().flat_map(|(key, value)| {
                    [*key, u8::try_from(value.len()).unwrap_or(0)].into_iter().chain(value.iter().copied())
                });
                let bytes: Vec<u8> = items.collect();
                mailbox.put(1, &bytes);
                mailbox.head(opcode, bytes.len());
            }
            opcode::BLOCK_READ => {
                let page = self.modules.page(module)?;
                mailbox.set(4, u32::try_from(page.len()).unwrap_or(0));
                mailbox.put(5, &page);
                mailbox.head(opcode, 16 + page.len());
            }
            opcode::BYTE_READ => {
                let byte = self.modules.byte(module, mailbox.word(4))?;
                mailbox.set(5, byte.into());
                mailbox.head(opcode, 20);
            }
            opcode::BYTE_WRITE => {
                let [value, ..] = mailbox.word(5).to_le_bytes();
                self.modules.write(module, mailbox.word(4), value)?;
                mailbox.head(opcode, 20);
            }
            opcode::READ_SIGNALS if signals => {
                let signals = self.modules.signals(module.0)?;
                mailbox.set(2, signals);
                mailbox.head(opcode, 8);
            }
            opcode::WRITE_SIGNALS if signals => {
                self.modules.set_signals(module.0, module.1)?;
                mailbox.head(opcode, 8);
            }
            // Somebody has to switch them on (CONTROL_REG, bit 26).
            opcode::READ_SIGNALS | opcode::WRITE_SIGNALS => return Err(Refusal::Module),
            _ => return Err(Refusal::Opcode),
        }
        Ok(())
    }
}

/// The mailbox in the map.
struct Mailbox<'a>(&'a mut Map);

impl Mailbox<'_> {
    fn word(&self, index: u32) -> u32 {
        self.0.get(MAILBOX + 4 * index)
    }

    fn set(&mut self, index: u32, value: u32) {
        self.0.set(MAILBOX + 4 * index, value);
    }

    /// Opcode, and bytes of the payload.
    fn head(&mut self, opcode: u8, length: usize) {
        let length = u32::try_from(length).unwrap_or(0) & 0xFFF;
        self.set(0, u32::from(opcode) << 24 | length);
    }

    fn put(&mut self, first: u32, bytes: &[u8]) {
        for (index, chunk) in (first..).zip(bytes.chunks(4)) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            self.set(index, u32::from_le_bytes(word));
        }
    }
}
