//! A BAR of registers: which peripheral answers where, and accesses that are not 32 bits wide.

use super::Peripheral;
use std::fmt;
use std::sync::Arc;

/// One peripheral in a BAR.
pub(crate) struct Window {
    /// Where it starts in the BAR, in bytes.
    pub(crate) offset: u64,
    /// How many bytes it answers.
    pub(crate) size: u64,
    /// What its registers are called in messages.
    pub(crate) name: &'static str,
    /// Who answers.
    pub(crate) peripheral: Arc<dyn Peripheral>,
}

/// The peripherals of a BAR, in the order of the data sheet.
pub(crate) struct Windows(Vec<Window>);

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|window| (window.offset, window.name))).finish()
    }
}

impl Windows {
    /// A BAR with these peripherals, which do not overlap.
    pub(crate) fn new(windows: Vec<Window>) -> Self {
        debug_assert!(
            windows.is_sorted_by(|a, b| a.offset + a.size <= b.offset),
            "windows are in order and do not overlap"
        );
        Self(windows)
    }

    fn find(&self, offset: u32) -> Option<(&Window, u32)> {
        self.0.iter().find_map(|window| {
            let inside = u64::from(offset).checked_sub(window.offset)?;
            (inside < window.size).then(|| (window, offset - u32::try_from(window.offset).unwrap_or(offset)))
        })
    }
}

impl Peripheral for Windows {
    /// Where nobody answers, a read is all ones. (On a PC such an access can hang the machine.)
    fn read(&self, offset: u32) -> u32 {
        match self.find(offset) {
            Some((window, inside)) => window.peripheral.read(inside),
            None => {
                crate::limited::warn_limited!(
                    offset = format_args!("{offset:#x}"),
                    "read of AXI-Lite address that nobody answers"
                );
                u32::MAX
            }
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        match self.find(offset) {
            Some((window, inside)) => window.peripheral.write(inside, value, lanes),
            None => {
                crate::limited::warn_limited!(
                    offset = format_args!("{offset:#x}"),
                    "write to AXI-Lite address that nobody answers is lost"
                );
            }
        }
    }

    fn reset(&self) {
        for window in &self.0 {
            window.peripheral.reset();
        }
    }
}

/// Reads any number of bytes from 32-bit registers.
///
/// A 64-bit load returns all ones, as these cards do; narrower and unaligned ones take their bytes from the registers
/// that they touch.
pub(crate) fn read_registers(registers: &dyn Peripheral, offset: u64, data: &mut [u8]) {
    if data.len() == 8 {
        data.fill(0xff);
        return;
    }
    for (register, lane, range) in pieces(offset, data.len()) {
        let word = registers.read(register).to_le_bytes();
        let bytes = range.len();
        data[range].copy_from_slice(&word[lane..lane + bytes]);
    }
}

/// Writes any number of bytes to 32-bit registers.
///
/// A 64-bit store changes the low half only, as on these cards; narrower and unaligned ones become writes with the byte
/// lanes that they touch.
pub(crate) fn write_registers(registers: &dyn Peripheral, offset: u64, data: &[u8]) {
    let data = if data.len() == 8 { &data[..4] } else { data };
    for (register, lane, range) in pieces(offset, data.len()) {
        let (mut value, mut lanes) = ([0; 4], [0; 4]);
        let bytes = range.len();
        value[lane..lane + bytes].copy_from_slice(&data[range]);
        lanes[lane..lane + bytes].fill(0xff);
        registers.write(register, u32::from_le_bytes(value), u32::from_le_bytes(lanes));
    }
}

/// The registers that an access touches: their offset, the first byte in them, and which bytes of the data.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u32, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        // Offsets beyond 32 bits are outside every BAR of registers; such an access touches nothing.
        let at = u32::try_from(offset.checked_add(done as u64)?).ok()?;
        if done >= length {
            return None;
        }
        let lane = (at % 4) as usize;
        let start = done;
        done = length.min(start + 4 - lane);
        Some((at - at % 4, lane, start..done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Scratch(Mutex<[u32; 4]>);

    impl Peripheral for Scratch {
        fn read(&self, offset: u32) -> u32 {
            self.0.lock().unwrap()[offset as usize / 4]
        }
        fn write(&self, offset: u32, value: u32, lanes: u32) {
            let word = &mut self.0.lock().unwrap()[offset as usize / 4];
            *word = super::super::merge(*word, value, lanes);
        }
    }

    fn scratch() -> Windows {
        let peripheral = Arc::new(Scratch(Mutex::new([0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c])));
        Windows::new(vec![Window { offset: 0x1000, size: 16, name: "scratch", peripheral }])
    }

    fn read<const N: usize>(windows: &Windows, offset: u64) -> [u8; N] {
        let mut data = [0xaa; N];
        read_registers(windows, offset, &mut data);
        data
    }

    #[test]
    fn narrow_and_unaligned_reads_take_the_bytes_they_name() {
        let windows = scratch();
        assert_eq!(read(&windows, 0x1005), [5]);
        assert_eq!(read(&windows, 0x1006), [6, 7]);
        assert_eq!(read(&windows, 0x1003), [3, 4], "across two registers");
        assert_eq!(read(&windows, 0x1002), [2, 3, 4, 5]);
    }

    #[test]
    fn a_64_bit_access_is_half_lost_as_on_the_cards() {
        let windows = scratch();
        assert_eq!(read(&windows, 0x1000), [0xff; 8]);
        write_registers(&windows, 0x1000, &[0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]);
        assert_eq!(read(&windows, 0x1000), [0x10, 0x11, 0x12, 0x13]);
        assert_eq!(read(&windows, 0x1004), [4, 5, 6, 7]);
    }

    #[test]
    fn narrow_writes_leave_their_neighbours_alone() {
        let windows = scratch();
        write_registers(&windows, 0x1007, &[0xee, 0xef]);
        assert_eq!(read(&windows, 0x1004), [4, 5, 6, 0xee]);
        assert_eq!(read(&windows, 0x1008), [0xef, 9, 0x0a, 0x0b]);
    }

    #[test]
    fn nobody_answers_outside_the_windows() {
        let windows = scratch();
        assert_eq!(read(&windows, 0), [0xff; 4]);
        assert_eq!(read(&windows, 0x1010), [0xff; 4]);
        write_registers(&windows, 0x2000, &[0; 4]);
        assert_eq!(read(&windows, u64::MAX), [0xaa; 4], "outside every BAR: untouched, no panic");
    }
}
