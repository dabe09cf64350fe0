//! Registers by read and write: four bytes at a time, at a position that is a multiple of four.

use crate::failure::{Failure, Outcome};
use crate::user_memory::UserMemory;
use jitney_vfio::Region;
use rustix::io::Errno;

/// Bytes of a register.
pub(crate) const WIDTH: usize = 4;

/// Reads the register at `position`: four bytes, whatever there is room for beyond them.
///
/// # Errors
/// EPROTO for a position that is no multiple of four, as the driver; EINVAL for less than four bytes or beyond the BAR.
pub(crate) fn read(region: &Region, position: u64, to: UserMemory) -> Outcome<usize> {
    check(region, position, to)?;
    to.part(0, WIDTH).write(&region.read32(position)?.to_le_bytes())?;
    Ok(WIDTH)
}

/// Writes the register at `position`, likewise.
///
/// # Errors
/// As [`read`].
pub(crate) fn write(region: &Region, position: u64, from: UserMemory) -> Outcome<usize> {
    check(region, position, from)?;
    let mut bytes = [0; WIDTH];
    from.part(0, WIDTH).read(&mut bytes)?;
    region.write32(position, u32::from_le_bytes(bytes))?;
    Ok(WIDTH)
}

fn check(region: &Region, position: u64, memory: UserMemory) -> Outcome<()> {
    if !position.is_multiple_of(WIDTH as u64) {
        let why = format!("position {position:#x} is no multiple of 4: registers have 4 bytes");
        return Err(Failure::new(Errno::PROTO, why));
    }
    if memory.len() < WIDTH {
        let why = format!("{} bytes: registers have 4, and are read and written as a whole", memory.len());
        return Err(Failure::new(Errno::INVAL, why));
    }
    if position.checked_add(WIDTH as u64).is_none_or(|end| end > region.size()) {
        let why = format!(
            "position {position:#x} is beyond {}, which has {:#x} bytes",
            region.name(),
            region.size()
        );
        return Err(Failure::new(Errno::INVAL, why));
    }
    Ok(())
}
