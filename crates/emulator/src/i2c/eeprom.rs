//! EEPROMs of the 24C family, and those that describe memory modules.

use super::Device;
use std::time::{Duration, Instant};

/// While it writes a page it acknowledges nothing.
const WRITE_CYCLE: Duration = Duration::from_millis(5);

/// An EEPROM.
#[derive(Debug)]
pub struct Eeprom {
    content: Vec<u8>,
    /// Bytes that one write can have; further ones overwrite the first.
    page: usize,
    /// Nothing that is written is kept.
    protected: bool,
    pointer: usize,
    /// Bytes of the address that are still to come.
    address_left: u8,
    /// Bytes to be written at STOP, and where.
    written: Vec<(usize, u8)>,
    busy_until: Option<Instant>,
}

impl Eeprom {
    /// An erased one of so many bytes, a power of two, which writes pages of `page` bytes.
    #[must_use]
    pub fn new(size: usize, page: usize) -> Self {
        Self {
            content: vec![0xFF; size.max(1)],
            page: page.max(1),
            protected: false,
            pointer: 0,
            address_left: 0,
            written: Vec::new(),
            busy_until: None,
        }
    }

    /// The write-protected one of a memory module.
    #[must_use]
    pub fn spd(content: [u8; 256]) -> Self {
        Self { content: content.to_vec(), protected: true, ..Self::new(256, 16) }
    }

    /// Bytes of an address.
    fn address_bytes(&self) -> u8 {
        if self.content.len() > 256 { 2 } else { 1 }
    }
}

impl Device for Eeprom {
    fn start(&mut self, read: bool, now: Instant) -> bool {
        if self.busy_until.is_some_and(|until| now < until) {
            return false;
        }
        self.busy_until = None;
        // A write without STOP is forgotten.
        self.written.clear();
        self.address_left = if read { 0 } else { self.address_bytes() };
        true
    }

    fn write(&mut self, byte: u8) -> bool {
        let size = self.content.len();
        if self.address_left > 0 {
            self.pointer = if self.address_left == self.address_bytes() { 0 } else { self.pointer << 8 };
            self.pointer = (self.pointer | usize::from(byte)) % size;
            self.address_left -= 1;
        } else {
            self.written.push((self.pointer, byte));
            // The address counts within its page.
            self.pointer = self.pointer / self.page * self.page + (self.pointer + 1) % self.page;
        }
        true
    }

    fn read(&mut self) -> u8 {
        let byte = self.content.get(self.pointer).copied().unwrap_or(0xFF);
        self.pointer = (self.pointer + 1) % self.content.len();
        byte
    }

    fn stop(&mut self, now: Instant) {
        if self.written.is_empty() || self.protected {
            self.written.clear();
            return;
        }
        for (address, byte) in self.written.drain(..) {
            if let Some(own) = self.content.get_mut(address) {
                *own = byte;
            }
        }
        self.busy_until = Some(now + WRITE_CYCLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(eeprom: &mut Eeprom, bytes: &[u8], now: Instant) -> bool {
        let took = eeprom.start(false, now) && bytes.iter().all(|byte| eeprom.write(*byte));
        eeprom.stop(now);
        took
    }

    fn read(eeprom: &mut Eeprom, count: usize, now: Instant) -> Vec<u8> {
        assert!(eeprom.start(true, now));
        (0..count).map(|_| eeprom.read()).collect()
    }

    #[test]
    fn a_write_takes_a_while_in_which_nothing_is_acknowledged() {
        let (mut eeprom, now) = (Eeprom::new(256, 8), Instant::now());
        assert!(write(&mut eeprom, &[0x10, 1, 2, 3], now));
        assert!(!eeprom.start(true, now + WRITE_CYCLE / 2));
        let later = now + WRITE_CYCLE;
        assert!(write(&mut eeprom, &[0x10], later), "an address alone writes nothing");
        assert_eq!(read(&mut eeprom, 4, later), [1, 2, 3, 0xFF]);
    }

    #[test]
    fn a_write_wraps_in_its_page_and_a_read_in_the_whole() {
        let (mut eeprom, now) = (Eeprom::new(256, 8), Instant::now());
        assert!(write(&mut eeprom, &[0xFE, 1, 2, 3], now));
        let later = now + WRITE_CYCLE;
        assert!(write(&mut eeprom, &[0xFE], later));
        assert_eq!(read(&mut eeprom, 3, later), [1, 2, 0xFF]);
        assert!(write(&mut eeprom, &[0xF8], later));
        assert_eq!(read(&mut eeprom, 1, later), [3], "the third went to the page's begin");
    }

    #[test]
    fn a_larger_one_has_addresses_of_two_bytes() {
        let (mut eeprom, now) = (Eeprom::new(4096, 32), Instant::now());
        assert!(write(&mut eeprom, &[0x01, 0x20, 0xAB], now));
        let later = now + WRITE_CYCLE;
        assert!(write(&mut eeprom, &[0x01, 0x20], later));
        assert_eq!(read(&mut eeprom, 1, later), [0xAB]);
    }

    #[test]
    fn one_of_a_module_keeps_what_it_has() {
        let (mut eeprom, now) = (Eeprom::spd([7; 256]), Instant::now());
        assert!(write(&mut eeprom, &[0, 1, 2], now));
        assert!(write(&mut eeprom, &[0], now), "and needs no time for it");
        assert_eq!(read(&mut eeprom, 2, now), [7, 7]);
    }
}
