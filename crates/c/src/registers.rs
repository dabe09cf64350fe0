//! `jitney_registers`: a BAR, configuration space, or the registers of one thing in a BAR.

use crate::boundary::{DONE, run};
use crate::card::Card;
use crate::handle::{self, object};
use crate::pointer::{Text, give};
use jitney::vfio::{self, Region};
use jitney_faces::{Failure, Kind, SharedCard, Window};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;

/// 32-bit registers, by their offset in bytes.
#[derive(Debug)]
pub struct Registers {
    window: Window,
    /// Past the slot, which nobody empties here.
    region: Region,
    _card: Arc<SharedCard>,
}
object!(Registers, 0x93, "the registers");

impl Registers {
    fn find(card: &Arc<SharedCard>, name: &str) -> Result<Window, Failure> {
        let opened = card.slot.get()?;
        if name == "config" {
            return Ok(card.window(opened.config()?));
        }
        if let Some(index) = name.strip_prefix("bar").and_then(|index| index.parse().ok()) {
            return Ok(card.window(opened.bar(index)?));
        }
        let all = card.windows()?;
        let names = all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        all.into_iter().find(|(own, _)| own == name).map(|(_, window)| window).ok_or_else(|| {
            let what = format!(
                "{} has no registers {name:?}; there are bar0 to bar5, config, {names}",
                opened.identity()
            );
            Failure::new(Kind::NotFound, what)
        })
    }
}

/// Registers of the card by name: `bar0` to `bar5`, `config`, or what has a name in the board's design, as `xdma` and `gpio0`.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_open(
    card: *mut Card,
    name: Text,
    registers: Option<&mut MaybeUninit<*mut Registers>>,
) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let window = Registers::find(&card, name.needed("the registers' name")?)?;
        let region = window.region().get()?.as_ref().clone();
        handle::hand_out(registers, Registers { window, region, _card: card })
    })
}

/// Frees registers; NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_free(registers: *mut Registers) -> c_int {
    run(|| handle::free(registers).and(DONE))
}

/// How many bytes the registers are.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_size(
    registers: *mut Registers,
    size: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    run(|| {
        give(size, handle::with(registers, |own| Ok(own.window.size()))?);
        DONE
    })
}

/// The offset of the register that is called `name`, in bytes; which names there are is said by the error of one that is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_find(
    registers: *mut Registers,
    name: Text,
    offset: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    run(|| {
        let name = name.needed("the register's name")?;
        give(offset, handle::with(registers, |own| own.window.offset_of(name))?);
        DONE
    })
}

/// Where the registers begin in this process's memory, if they are mapped: for loads and stores of 32 bits by `volatile`
/// pointers, which are in no order with DMA memory that the program does not see to itself. NULL, which is no failure, if they
/// are reached by messages. It is there until the registers are freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_pointer(registers: *mut Registers) -> *mut c_void {
    let mut found = ptr::null_mut();
    run(|| {
        let address = handle::with(registers, |own| {
            let mapped = own.region.registers();
            let end = own.window.start() + own.window.size();
            Ok(mapped
                .filter(|mapped| end <= mapped.len() as u64)
                .map(|mapped| mapped.address() + own.window.start()))
        })?;
        found = address
            .and_then(|address| usize::try_from(address).ok())
            .map_or(found, ptr::with_exposed_provenance_mut);
        DONE
    });
    found
}

/// Reads 32 bits at `offset`, a multiple of 4. All ones are a value here: that of a card whose link is down, too.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_read32(
    registers: *mut Registers,
    offset: u64,
    value: Option<&mut MaybeUninit<u32>>,
) -> c_int {
    run(|| {
        give(value, handle::with(registers, |own| Ok(own.region.read32(own.window.at(offset, 4)?)?))?);
        DONE
    })
}

/// Writes 32 bits at `offset`, a multiple of 4. The card sees all that was written to DMA memory before it.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_write32(registers: *mut Registers, offset: u64, value: u32) -> c_int {
    run(|| {
        handle::with(registers, |own| Ok(own.region.write32(own.window.at(offset, 4)?, value)?))?;
        DONE
    })
}

fn width(bits: u32) -> Result<u64, Failure> {
    match bits {
        8 | 16 | 32 | 64 => Ok(u64::from(bits / 8)),
        _ => Err(Failure::invalid(format!("no register has {bits} bits; use 8, 16, 32 or 64"))),
    }
}

/// Reads 8, 16, 32 or 64 `bits` at `offset`, a multiple of as many bytes; 64 are two times 32, low word first.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_read(
    registers: *mut Registers,
    offset: u64,
    bits: u32,
    value: Option<&mut MaybeUninit<u64>>,
) -> c_int {
    run(|| {
        let bytes = width(bits)?;
        let read = |own: &Arc<Registers>| -> Result<u64, Failure> {
            let at = own.window.at(offset, bytes)?;
            let found: vfio::Result<u64> = match bits {
                8 => own.region.read8(at).map(u64::from),
                16 => own.region.read16(at).map(u64::from),
                64 => own.region.read64(at),
                _ => own.region.read32(at).map(u64::from),
            };
            Ok(found?)
        };
        give(value, handle::with(registers, read)?);
        DONE
    })
}

/// Writes 8, 16, 32 or 64 `bits` at `offset`, likewise. A value of more bits is refused.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_registers_write(
    registers: *mut Registers,
    offset: u64,
    bits: u32,
    value: u64,
) -> c_int {
    run(|| {
        let bytes = width(bits)?;
        if bits < 64 && value >> bits != 0 {
            return Err(Failure::invalid(format!("{value:#x} is no value of {bits} bits")));
        }
        let [a, b, c, d, ..] = value.to_le_bytes();
        let write = |own: &Arc<Registers>| -> Result<(), Failure> {
            let at = own.window.at(offset, bytes)?;
            Ok(match bits {
                8 => own.region.write8(at, a),
                16 => own.region.write16(at, u16::from_le_bytes([a, b])),
                64 => own.region.write64(at, value),
                _ => own.region.write32(at, u32::from_le_bytes([a, b, c, d])),
            }?)
        };
        handle::with(registers, write)?;
        DONE
    })
}
