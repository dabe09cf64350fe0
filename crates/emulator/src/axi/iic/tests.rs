//! The core as PG090 has it, driven in both modes.

use super::engine::{BYTE, START, STOP, control, interrupt};
use super::*;
use crate::i2c::{Eeprom, ddr3_module};

struct Rig {
    state: State,
    faults: Faults,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        let bus = Bus::default().with(0x50, Eeprom::spd(ddr3_module())).with(0x57, Eeprom::new(256, 8));
        Self {
            state: State { kept: Kept::default(), engine: Engine::new(bus, now) },
            faults: Faults::default(),
            now,
        }
    }

    fn enabled() -> Self {
        let mut rig = Self::new();
        rig.write(CR, control::ENABLE);
        rig.write(RX_FIFO_PIRQ, 0xF);
        rig.clear();
        rig
    }

    /// Clears what has come: a bit that is written changes.
    fn clear(&mut self) {
        let isr = self.read(ISR);
        self.write(ISR, isr);
    }

    fn read(&mut self, offset: u32) -> u32 {
        self.state.engine.run(self.now, &self.faults);
        self.state.read(offset)
    }

    fn write(&mut self, offset: u32, value: u32) {
        self.state.engine.run(self.now, &self.faults);
        self.state.write(offset, value, u32::MAX, self.now);
    }

    fn send(&mut self, words: &[u16]) {
        words.iter().for_each(|word| self.write(TX_FIFO, (*word).into()));
    }

    fn wait(&mut self, bytes: u32) {
        self.now += bytes * BYTE;
    }

    fn received(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.read(SR) & 1 << 6 == 0 {
            bytes.push(u8::try_from(self.read(RX_FIFO)).unwrap());
        }
        bytes
    }
}

#[test]
fn registers_begin_as_the_data_sheet_has_them() {
    let mut rig = Rig::new();
    assert_eq!(
        [ISR, CR, SR, RX_FIFO_PIRQ, TX_FIFO_OCY, RX_FIFO_OCY].map(|at| rig.read(at)),
        [0xD0, 0, 0xC0, 0, 0, 0]
    );
    rig.write(CR, 0xFF);
    rig.write(IER, 0xFFFF);
    assert_eq!((rig.read(CR), rig.read(IER)), (0x7F, 0xFF));
    rig.write(SOFTR, 0xB);
    assert_eq!(rig.read(CR), 0x7F, "another key resets nothing");
    rig.write(SOFTR, 0xA);
    assert_eq!((rig.read(CR), rig.read(IER), rig.read(ISR)), (0, 0, 0xD0));
}

#[test]
fn interrupts_are_toggled_by_what_is_written() {
    let mut rig = Rig::new();
    rig.write(ISR, 0x10);
    assert_eq!(rig.read(ISR), 0xC0);
    rig.write(ISR, 0x10);
    assert_eq!(rig.read(ISR), 0xD0);
}

#[test]
fn dynamic_mode_writes_a_pointer_and_reads_from_there() {
    let mut rig = Rig::enabled();
    rig.send(&[START | 0xA0, 2, START | 0xA1, STOP | 3]);
    assert_eq!(rig.read(SR) & 1 << 2, 0, "nothing has begun yet");
    rig.wait(1);
    assert_eq!(rig.read(SR) & 1 << 2, 1 << 2, "busy");
    rig.wait(4);
    assert_eq!(rig.read(ISR) & interrupt::BUS_NOT_BUSY, 0);
    rig.wait(1);
    assert_eq!(rig.read(ISR) & interrupt::BUS_NOT_BUSY, interrupt::BUS_NOT_BUSY);
    assert_eq!(rig.read(ISR) & interrupt::TX_ERROR, interrupt::TX_ERROR, "the last byte is not acknowledged");
    assert_eq!(rig.received(), ddr3_module()[2..5]);
    assert_eq!(rig.read(SR), 0xC0);
}

#[test]
fn a_long_read_waits_until_the_fifo_has_room() {
    let mut rig = Rig::enabled();
    rig.send(&[START | 0xA0, 0, START | 0xA1, STOP | 40]);
    rig.wait(100);
    assert_eq!((rig.read(SR), rig.read(RX_FIFO_OCY)), (1 << 2 | 1 << 5 | 1 << 7, 15), "the clock is held");
    assert_eq!(rig.read(ISR) & interrupt::RX_FULL, interrupt::RX_FULL);
    let mut bytes = rig.received();
    rig.wait(100);
    bytes.extend(rig.received());
    rig.wait(100);
    bytes.extend(rig.received());
    assert_eq!(bytes, ddr3_module()[..40]);
    assert_eq!(rig.read(SR) & 1 << 2, 0);
}

#[test]
fn an_address_that_nobody_has_stops_everything_until_a_reset() {
    let mut rig = Rig::enabled();
    rig.send(&[START | 0x42, STOP | 7]);
    rig.wait(10);
    assert_eq!(rig.read(ISR) & (interrupt::TX_ERROR | interrupt::BUS_NOT_BUSY), interrupt::TX_ERROR);
    assert_eq!(rig.read(SR), 1 << 2 | 1 << 6, "busy, and the word is still there");
    rig.send(&[START | 0xA0, STOP]);
    rig.wait(10);
    assert_eq!(rig.read(TX_FIFO_OCY), 2, "nothing more is sent");
    rig.write(CR, control::ENABLE | control::TX_FIFO_RESET);
    assert_eq!(rig.read(SR), 0xC0, "the FIFO is empty, and STOP came when the core was no master any more");
}

#[test]
fn an_address_alone_can_be_sent() {
    for (address, answers) in [(0x50, true), (0x51, false)] {
        let mut rig = Rig::enabled();
        rig.send(&[START | STOP | address << 1]);
        rig.wait(1);
        let isr = rig.read(ISR);
        assert_eq!((isr & interrupt::TX_ERROR == 0, isr & interrupt::BUS_NOT_BUSY != 0), (answers, answers));
    }
}

#[test]
fn a_byte_that_is_not_acknowledged_is_an_error() {
    let mut rig = Rig::enabled();
    rig.send(&[START | 0xAE, 0x10, STOP | 0xAB]);
    rig.wait(3);
    assert_eq!(rig.read(ISR) & interrupt::TX_ERROR, 0);
    rig.clear();
    rig.send(&[START | 0xAE, STOP | 0x10]);
    rig.wait(2);
    assert_eq!(rig.read(ISR) & interrupt::TX_ERROR, interrupt::TX_ERROR, "it writes for 5 ms");
}

#[test]
fn standard_mode_writes_and_reads() {
    let mut rig = Rig::enabled();
    // A write of a pointer: the master bit falls before the last byte, which STOP follows.
    rig.send(&[0xA0]);
    rig.write(CR, control::ENABLE | control::MASTER | 1 << 3);
    rig.wait(1);
    assert_eq!(rig.read(SR), 1 << 2 | 0xC0);
    rig.write(CR, control::ENABLE | 1 << 3);
    rig.send(&[2]);
    rig.wait(1);
    assert_eq!(rig.read(SR), 0xC0);
    // A read of two bytes, the second of which is not acknowledged.
    rig.clear();
    rig.write(RX_FIFO_PIRQ, 0);
    rig.send(&[0xA1]);
    rig.write(CR, control::ENABLE | control::MASTER);
    rig.wait(10);
    assert_eq!((rig.read(ISR) & interrupt::RX_FULL, rig.read(RX_FIFO_OCY)), (interrupt::RX_FULL, 0));
    rig.write(CR, control::ENABLE | control::MASTER | control::TXAK);
    let first = rig.read(RX_FIFO);
    rig.wait(10);
    rig.write(CR, control::ENABLE);
    let second = rig.read(RX_FIFO);
    assert_eq!([first, second].map(|byte| u8::try_from(byte).unwrap()), ddr3_module()[2..4]);
    assert_eq!(rig.read(SR), 0xC0);
}

#[test]
fn standard_mode_starts_again_without_a_stop() {
    let mut rig = Rig::enabled();
    rig.write(RX_FIFO_PIRQ, 0);
    rig.send(&[0xA0, 0x02]);
    rig.write(CR, control::ENABLE | control::MASTER | 1 << 3);
    rig.wait(2);
    rig.write(CR, control::ENABLE | control::MASTER | control::REPEATED_START | control::TXAK);
    rig.send(&[0xA1]);
    rig.wait(2);
    assert_eq!(rig.read(RX_FIFO), u32::from(ddr3_module()[2]));
    assert_eq!(rig.read(CR) & control::REPEATED_START, 0);
    rig.write(CR, control::ENABLE);
    assert_eq!(rig.read(SR), 0xC0);
}

#[test]
fn faults_happen_at_their_start() {
    let mut rig = Rig::enabled();
    for text in ["i2c-nak", "i2c-stretch@2", "i2c-hang@3"] {
        rig.faults.inject(text.parse().unwrap());
    }
    rig.send(&[START | STOP | 0xA0]);
    rig.wait(1);
    assert_eq!(rig.read(ISR) & interrupt::TX_ERROR, interrupt::TX_ERROR);
    rig.write(SOFTR, 0xA);
    rig.write(CR, control::ENABLE);
    rig.clear();
    rig.send(&[START | 0xA0, STOP | 5]);
    rig.wait(10);
    assert_eq!(rig.read(ISR) & interrupt::BUS_NOT_BUSY, 0, "the clock is held");
    rig.wait(2000);
    assert_eq!(rig.read(ISR) & interrupt::BUS_NOT_BUSY, interrupt::BUS_NOT_BUSY);
    rig.send(&[START | 0xA0, STOP | 5]);
    rig.wait(100_000);
    assert_eq!(rig.read(SR) & 1 << 2, 1 << 2, "busy for ever");
    rig.write(SOFTR, 0xA);
    assert_eq!(rig.read(SR), 0xC0);
}

#[test]
fn a_core_that_is_off_does_nothing() {
    let mut rig = Rig::new();
    rig.send(&[START | 0xA0, STOP | 5]);
    rig.wait(10);
    assert_eq!((rig.read(SR), rig.read(TX_FIFO_OCY)), (1 << 6, 1));
    for _ in 0..20 {
        rig.send(&[1]);
    }
    assert_eq!(rig.read(SR), 1 << 4 | 1 << 6, "full, and takes no more");
}
