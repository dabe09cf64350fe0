//! The processor's registers of a program that was interrupted, as the kernel saved them and will restore them.
//!
//! Vector registers lie in the form of `xsave` (Intel SDM 1, chapter 13, "Standard format"): what is in the first 512 bytes, and
//! components at offsets that CPUID tells. A component whose bit in the header is clear is all zero, whatever is in its place.

#![expect(unsafe_code, reason = "the signal frame that the kernel made")]

use super::step::Cpu;
use libc::{c_int, greg_t, ucontext_t};
use std::arch::x86_64::__cpuid_count;

/// The general registers in the processor's numbering.
const GENERAL: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Bytes in front of the components.
const LEGACY: usize = 512;
/// Where in them the sixteen lower halves of vectors are.
const XMM: usize = 160;
/// Where in them the kernel says how much there is (`struct _fpx_sw_bytes`).
const KERNELS: usize = 464;
/// Its first word, if there are components.
const MAGIC: u32 = 0x4650_5853;

/// A part of the vectors: which bit it has, where it is, how many bytes each vector has in it, and where in the vector they are.
struct Component {
    bit: u32,
    bytes: usize,
    at: usize,
}

const SSE: Component = Component { bit: 1, bytes: 16, at: 0 };
const AVX: Component = Component { bit: 2, bytes: 16, at: 16 };
const UPPER_OF_LOWER: Component = Component { bit: 6, bytes: 32, at: 32 };
const UPPER_SIXTEEN: Component = Component { bit: 7, bytes: 64, at: 0 };

/// What was interrupted.
pub(super) struct Context<'a> {
    saved: &'a mut ucontext_t,
}

impl<'a> Context<'a> {
    pub(super) const fn new(saved: &'a mut ucontext_t) -> Self {
        Self { saved }
    }

    fn at(&self, register: c_int) -> u64 {
        let register = usize::try_from(register).unwrap_or(0);
        self.saved.uc_mcontext.gregs.get(register).map_or(0, |value| value.cast_unsigned())
    }

    fn set(&mut self, register: c_int, value: u64) {
        let register = usize::try_from(register).unwrap_or(0);
        if let Some(place) = self.saved.uc_mcontext.gregs.get_mut(register) {
            *place = greg_t::from_ne_bytes(value.to_ne_bytes());
        }
    }

    /// All that was saved of the vectors: where it is, and how many bytes it has.
    fn saved_vectors(&self) -> Option<(*mut u8, usize)> {
        let area: *mut u8 = self.saved.uc_mcontext.fpregs.cast();
        if area.is_null() {
            return None;
        }
        // SAFETY: the kernel saves at least these bytes, and nobody else touches them until the handler returns.
        let legacy = unsafe { std::slice::from_raw_parts(area, LEGACY) };
        let word = |at: usize| {
            legacy.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        // Behind the magic number: the size of all with a word at its end, the features, and the size of all.
        let size = if word(KERNELS) == MAGIC { word(KERNELS + 16) as usize } else { LEGACY };
        Some((area, size.max(LEGACY)))
    }

    fn vectors(&self) -> Option<&[u8]> {
        let (area, size) = self.saved_vectors()?;
        // SAFETY: as many bytes as the kernel says that it saved; borrowed as long as the context.
        Some(unsafe { std::slice::from_raw_parts(area, size) })
    }

    fn vectors_mut(&mut self) -> Option<&mut [u8]> {
        let (area, size) = self.saved_vectors()?;
        // SAFETY: as above, and the context is borrowed alone.
        Some(unsafe { std::slice::from_raw_parts_mut(area, size) })
    }
}

/// Where a component's bytes of vector `number` are.
fn place(component: &Component, number: usize) -> (usize, usize) {
    let (start, first) = match component.bit {
        1 => (XMM, 0),
        7 => (offset(7), 16),
        bit => (offset(bit), 0),
    };
    let start = start + number.saturating_sub(first) * component.bytes;
    (start, start + component.bytes)
}

/// Where a component is, by the processor itself.
fn offset(component: u32) -> usize {
    __cpuid_count(0xd, component).ebx as usize
}

fn components(number: usize) -> &'static [Component] {
    match number {
        0..16 => &[SSE, AVX, UPPER_OF_LOWER],
        _ => &[UPPER_SIXTEEN],
    }
}

/// Which components are not all zero.
fn used(area: &[u8]) -> u64 {
    let header = area.get(LEGACY..LEGACY + 8).and_then(|header| header.try_into().ok());
    // Without components, what there is counts.
    header.map_or(1 << SSE.bit, u64::from_ne_bytes)
}

impl Cpu for Context<'_> {
    fn general(&self, number: usize) -> u64 {
        GENERAL.get(number).map_or(0, |register| self.at(*register))
    }

    fn set_general(&mut self, number: usize, value: u64) {
        if let Some(register) = GENERAL.get(number) {
            self.set(*register, value);
        }
    }

    fn flags(&self) -> u64 {
        self.at(libc::REG_EFL)
    }

    fn set_flags(&mut self, flags: u64) {
        self.set(libc::REG_EFL, flags);
    }

    fn instruction(&self) -> u64 {
        self.at(libc::REG_RIP)
    }

    fn set_instruction(&mut self, address: u64) {
        self.set(libc::REG_RIP, address);
    }

    fn vector(&self, number: usize) -> Option<[u8; 64]> {
        let area = self.vectors()?;
        let mut bytes = [0; 64];
        for component in components(number) {
            if used(area) >> component.bit & 1 == 0 {
                continue;
            }
            let (start, end) = place(component, number);
            let to = bytes.get_mut(component.at..component.at + component.bytes)?;
            to.copy_from_slice(area.get(start..end)?);
        }
        Some(bytes)
    }

    fn set_vector(&mut self, number: usize, bytes: &[u8; 64]) -> bool {
        let Some(area) = self.vectors_mut() else { return false };
        for component in components(number) {
            let Some(new) = bytes.get(component.at..component.at + component.bytes) else { return false };
            let mut used = used(area);
            let zero = new.iter().all(|byte| *byte == 0);
            if used >> component.bit & 1 == 0 {
                if zero {
                    continue;
                }
                // It was all zero, and is to be so but for what is set now.
                let (start, _) = place(component, number - number % 16);
                let Some(whole) = area.get_mut(start..start + 16 * component.bytes) else { return false };
                whole.fill(0);
                used |= 1 << component.bit;
                let Some(header) = area.get_mut(LEGACY..LEGACY + 8) else { return false };
                header.copy_from_slice(&used.to_ne_bytes());
            }
            let (start, end) = place(component, number);
            match area.get_mut(start..end) {
                Some(to) => to.copy_from_slice(new),
                None => return false,
            }
        }
        true
    }
}
