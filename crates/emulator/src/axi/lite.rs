//! AXI4-Lite: registers of 32 bits on a bus of targets, and accesses to them that are not 32 bits wide.

use super::{AxiError, AxiTarget, Peripheral};
use std::sync::Arc;

/// A peripheral as a target on a bus. It has no answer but data: what is not there reads as the peripheral has it.
pub struct RegisterTarget(pub Arc<dyn Peripheral>);

impl std::fmt::Debug for RegisterTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegisterTarget")
    }
}

impl AxiTarget for RegisterTarget {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError> {
        read_words(&*self.0, address, data);
        Ok(())
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError> {
        write_words(&*self.0, address, data);
        Ok(())
    }

    fn reset(&self) {
        self.0.reset();
    }
}

/// What a BAR leads to: the targets of a bus from `base` on, in accesses of up to 32 bits.
pub(crate) struct LiteMaster {
    pub(crate) bus: Arc<dyn AxiTarget>,
    pub(crate) base: u64,
}

impl Peripheral for LiteMaster {
    /// Where nobody answers, a read is all ones. (On a PC such an access can hang the machine.)
    fn read(&self, offset: u32) -> u32 {
        let mut word = [0; 4];
        match self.bus.read(self.base.saturating_add(offset.into()), &mut word) {
            Ok(()) => u32::from_le_bytes(word),
            Err(error) => {
                crate::limited::warn_limited!(
                    offset = format_args!("{offset:#x}"),
                    "read over AXI-Lite: {error}"
                );
                u32::MAX
            }
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let bytes = value.to_le_bytes();
        // An access of a processor is one range of bytes.
        let (first, end) = (lanes.trailing_zeros() as usize / 8, 4 - lanes.leading_zeros() as usize / 8);
        let Some(part) = bytes.get(first..end) else { return };
        let address = self.base.saturating_add(offset.into()).saturating_add(first as u64);
        if let Err(error) = self.bus.write(address, part) {
            crate::limited::warn_limited!(
                offset = format_args!("{offset:#x}"),
                "a write over AXI-Lite is lost: {error}"
            );
        }
    }

    fn reset(&self) {
        self.bus.reset();
    }
}

/// Reads any number of bytes from 32-bit registers.
///
/// A 64-bit load returns all ones, as these cards do; narrower and unaligned ones take their bytes from the registers
/// that they touch.
pub(crate) fn read_registers(registers: &dyn Peripheral, offset: u64, data: &mut [u8]) {
    if data.len() == 8 {
        data.fill(0xff);
    } else {
        read_words(registers, offset, data);
    }
}

fn read_words(registers: &dyn Peripheral, offset: u64, data: &mut [u8]) {
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
    write_words(registers, offset, if data.len() == 8 { &data[..4] } else { data });
}

fn write_words(registers: &dyn Peripheral, offset: u64, data: &[u8]) {
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
    use super::super::AddressMap;
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

    fn scratch() -> LiteMaster {
        let peripheral = Arc::new(Scratch(Mutex::new([0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c])));
        let mut bus = AddressMap::new();
        bus.add(0x7_0000_1000, 16, "scratch", Arc::new(RegisterTarget(peripheral))).unwrap();
        LiteMaster { bus: Arc::new(bus), base: 0x7_0000_0000 }
    }

    fn read<const N: usize>(bar: &LiteMaster, offset: u64) -> [u8; N] {
        let mut data = [0xaa; N];
        read_registers(bar, offset, &mut data);
        data
    }

    #[test]
    fn narrow_and_unaligned_reads_take_the_bytes_they_name() {
        let bar = scratch();
        assert_eq!(read(&bar, 0x1005), [5]);
        assert_eq!(read(&bar, 0x1006), [6, 7]);
        assert_eq!(read(&bar, 0x1003), [3, 4], "across two registers");
        assert_eq!(read(&bar, 0x1002), [2, 3, 4, 5]);
    }

    #[test]
    fn a_64_bit_access_is_half_lost_as_on_the_cards() {
        let bar = scratch();
        assert_eq!(read(&bar, 0x1000), [0xff; 8]);
        write_registers(&bar, 0x1000, &[0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]);
        assert_eq!(read(&bar, 0x1000), [0x10, 0x11, 0x12, 0x13]);
        assert_eq!(read(&bar, 0x1004), [4, 5, 6, 7]);
    }

    #[test]
    fn narrow_writes_leave_their_neighbours_alone() {
        let bar = scratch();
        write_registers(&bar, 0x1007, &[0xee, 0xef]);
        assert_eq!(read(&bar, 0x1004), [4, 5, 6, 0xee]);
        assert_eq!(read(&bar, 0x1008), [0xef, 9, 0x0a, 0x0b]);
    }

    #[test]
    fn nobody_answers_outside_the_peripherals() {
        let bar = scratch();
        assert_eq!(read(&bar, 0), [0xff; 4]);
        assert_eq!(read(&bar, 0x1010), [0xff; 4]);
        write_registers(&bar, 0x2000, &[0; 4]);
        assert_eq!(read(&bar, u64::MAX), [0xaa; 4], "outside every BAR: untouched, no panic");
    }

    #[test]
    fn a_dma_reads_and_writes_registers_byte_by_byte() {
        let bar = scratch();
        let mut data = [0; 8];
        bar.bus.read(0x7_0000_1003, &mut data).unwrap();
        assert_eq!(data, [3, 4, 5, 6, 7, 8, 9, 10]);
        bar.bus.write(0x7_0000_1006, &[0xe6, 0xe7, 0xe8]).unwrap();
        assert_eq!((read(&bar, 0x1004), read(&bar, 0x1008)), ([4, 5, 0xe6, 0xe7], [0xe8, 9, 10, 11]));
    }
}
