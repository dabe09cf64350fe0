//! Reading configuration space, wherever it is.

use std::convert::Infallible;

/// The part of configuration space that every PCI function has, in bytes.
pub const SIZE: u16 = 256;

/// All of the configuration space of a PCIe function, in bytes.
pub const EXTENDED_SIZE: u16 = 4096;

/// Configuration space that can be read: a VFIO region, a file in sysfs, an array.
pub trait ConfigRead {
    /// What a failed read says.
    type Error;

    /// Fills `bytes` from `offset` on. Accesses are of 1, 2 or 4 bytes and aligned.
    ///
    /// # Errors
    /// Those of the medium. What is there but not implemented reads as zeros, a card that has gone as all-ones.
    fn read(&self, offset: u16, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Reads a byte.
    fn read8(&self, offset: u16) -> Result<u8, Self::Error> {
        let mut bytes = [0; 1];
        self.read(offset, &mut bytes)?;
        Ok(bytes[0])
    }

    /// Reads a 16-bit value.
    fn read16(&self, offset: u16) -> Result<u16, Self::Error> {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Reads a 32-bit value.
    fn read32(&self, offset: u16) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// A copy of configuration space; what lies beyond it reads as all-ones.
impl ConfigRead for [u8] {
    type Error = Infallible;

    fn read(&self, offset: u16, bytes: &mut [u8]) -> Result<(), Infallible> {
        let there = self.get(usize::from(offset)..).unwrap_or_default();
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = there.get(index).copied().unwrap_or(0xff);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_little_endian_and_all_ones_past_the_end() {
        let config: &[u8] = &[0x01, 0x02, 0x03, 0x04, 0x05];
        assert_eq!(config.read8(4), Ok(0x05));
        assert_eq!(config.read16(2), Ok(0x0403));
        assert_eq!(config.read32(0), Ok(0x0403_0201));
        assert_eq!(config.read32(4), Ok(0xffff_ff05));
        assert_eq!(config.read32(u16::MAX), Ok(u32::MAX));
    }
}
