//! One instruction that loads from or stores to registers, carried out with accesses of our own.
//!
//! Those are known that compilers make of a program's accesses to registers, and those by which the C library copies and fills
//! memory. Any other is refused by its name.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Registers and flags of the processor, as the program has them.
pub(super) trait Cpu {
    /// One of the sixteen general registers, in the processor's numbering.
    fn general(&self, number: usize) -> u64;
    fn set_general(&mut self, number: usize, value: u64);
    fn flags(&self) -> u64;
    fn set_flags(&mut self, flags: u64);
    fn instruction(&self) -> u64;
    fn set_instruction(&mut self, address: u64);
    /// All 64 bytes of a vector register; zero where the processor has none.
    fn vector(&self, number: usize) -> Option<[u8; 64]>;
    /// Whether it could be set: upper parts are, where the processor has them.
    fn set_vector(&mut self, number: usize, bytes: &[u8; 64]) -> bool;
}

/// What is at addresses.
pub(super) trait Memory {
    /// Whether all of the range is registers.
    fn is_registers(&self, address: u64, length: usize) -> bool;
    /// Loads from registers.
    fn load(&self, address: u64, bytes: &mut [u8]);
    /// Stores to registers.
    fn store(&self, address: u64, bytes: &[u8]);
    /// Reads the program's memory; whether it is there.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;
    /// Writes the program's memory; whether it is there.
    fn write(&self, address: u64, bytes: &[u8]) -> bool;
}

/// Why an instruction was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none of those that are known.
    Unknown(String),
    /// It reaches beyond the registers.
    Beyond,
    /// It touches memory of the program's that is not there.
    NoMemory,
}

const CARRY: u64 = 1;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const DIRECTION: u64 = 1 << 10;
const OVERFLOW: u64 = 1 << 11;

const COUNTER: usize = 1;
const SOURCE: usize = 6;
const DESTINATION: usize = 7;

/// Carries out the instruction in `code`, which is at the cpu's instruction pointer, and moves that on.
///
/// # Errors
/// Why not; then nothing was done, unless it repeats itself, and then some of its rounds may have been.
pub(super) fn step(code: &[u8], cpu: &mut impl Cpu, memory: &impl Memory) -> Result<(), Refused> {
    let mut decoder = Decoder::with_ip(64, code, cpu.instruction(), DecoderOptions::NONE);
    let instruction = decoder.decode();
    let mut step = Step { instruction, cpu, memory };
    step.run()?;
    let next = instruction.next_ip();
    step.cpu.set_instruction(next);
    Ok(())
}

struct Step<'a, C, M> {
    instruction: Instruction,
    cpu: &'a mut C,
    memory: &'a M,
}

impl<C: Cpu, M: Memory> Step<'_, C, M> {
    fn run(&mut self) -> Result<(), Refused> {
        use Mnemonic as M;
        match self.instruction.mnemonic() {
            M::Mov | M::Movzx | M::Movnti => {
                let value = self.operand(1)?;
                self.set_operand(0, value)
            }
            M::Movbe => {
                let value = self.operand(1)?.swap_bytes() >> (64 - self.bits(1));
                self.set_operand(0, value)
            }
            M::Movsx | M::Movsxd => {
                let shift = 64 - self.bits(1);
                let value = (self.operand(1)? << shift).cast_signed() >> shift;
                self.set_operand(0, value.cast_unsigned())
            }
            M::Xchg => {
                let (first, second) = (self.operand(0)?, self.operand(1)?);
                self.set_operand(0, second)?;
                self.set_operand(1, first)
            }
            M::Cmp | M::Sub => self.arithmetic(|a, b| a.wrapping_sub(b), true),
            M::Add => self.arithmetic(|a, b| a.wrapping_add(b), false),
            M::Test | M::And => self.logic(|a, b| a & b),
            M::Or => self.logic(|a, b| a | b),
            M::Xor => self.logic(|a, b| a ^ b),
            M::Inc | M::Dec => self.count(),
            M::Not => {
                let value = !self.operand(0)?;
                self.set_operand(0, value)
            }
            M::Movsb
            | M::Movsw
            | M::Movsq
            | M::Stosb
            | M::Stosw
            | M::Stosd
            | M::Stosq
            | M::Lodsb
            | M::Lodsw
            | M::Lodsd
            | M::Lodsq => self.string(),
            M::Movsd if !self.has_vector() => self.string(),
            mnemonic if moves_vector(mnemonic) && self.has_vector() => self.vector(),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Refused {
        Refused::Unknown(format!("{:?}", self.instruction.code()))
    }

    fn has_vector(&self) -> bool {
        (0..self.instruction.op_count()).any(|operand| {
            let register = self.instruction.op_register(operand);
            self.instruction.op_kind(operand) == OpKind::Register && register.is_vector_register()
        })
    }

    /// Bytes of an operand.
    fn size(&self, operand: u32) -> usize {
        match self.instruction.op_kind(operand) {
            OpKind::Register => self.instruction.op_register(operand).size(),
            OpKind::Memory => self.instruction.memory_size().size(),
            // An immediate is as long as what it is put into.
            _ => self.size(0),
        }
    }

    fn bits(&self, operand: u32) -> u32 {
        u32::try_from(self.size(operand).clamp(1, 8) * 8).unwrap_or(u64::BITS)
    }

    /// Where the memory operand is: `length` bytes of registers.
    fn place(&self, operand: u32, length: usize) -> Result<u64, Refused> {
        let value = |register: Register, _, _| match register {
            Register::CS | Register::DS | Register::ES | Register::SS => Some(0),
            register if register.is_gpr() => Some(self.register(register)),
            register if register == Register::RIP || register == Register::EIP => {
                Some(self.cpu.instruction())
            }
            _ => None,
        };
        let address = self.instruction.virtual_address(operand, 0, value).ok_or_else(|| self.unknown())?;
        if self.memory.is_registers(address, length) { Ok(address) } else { Err(Refused::Beyond) }
    }

    fn register(&self, register: Register) -> u64 {
        let value = self.cpu.general(number(register));
        match register.size() {
            1 if is_upper(register) => value >> 8 & 0xff,
            1 => value & 0xff,
            2 => value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        }
    }

    fn set_register(&mut self, register: Register, value: u64) {
        let number = number(register);
        let old = self.cpu.general(number);
        let new = match register.size() {
            1 if is_upper(register) => old & !0xff00 | (value & 0xff) << 8,
            1 => old & !0xff | value & 0xff,
            2 => old & !0xffff | value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        };
        self.cpu.set_general(number, new);
    }

    /// The value of an operand, without a sign.
    fn operand(&self, operand: u32) -> Result<u64, Refused> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => Ok(self.register(self.instruction.op_register(operand))),
            OpKind::Memory => {
                let size = self.size(operand);
                let address = self.place(operand, size)?;
                let mut bytes = [0; 8];
                let part = bytes.get_mut(..size).ok_or_else(|| self.unknown())?;
                self.memory.load(address, part);
                Ok(u64::from_le_bytes(bytes))
            }
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => Ok(self.instruction.immediate(operand) & ones(self.bits(0))),
            _ => Err(self.unknown()),
        }
    }

    fn set_operand(&mut self, operand: u32, value: u64) -> Result<(), Refused> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => {
                self.set_register(self.instruction.op_register(operand), value);
                Ok(())
            }
            OpKind::Memory => {
                let size = self.size(operand);
                let address = self.place(operand, size)?;
                let bytes = value.to_le_bytes();
                self.memory.store(address, bytes.get(..size).ok_or_else(|| self.unknown())?);
                Ok(())
            }
            _ => Err(self.unknown()),
        }
    }

    /// Addition and subtraction; `cmp` keeps the flags alone.
    fn arithmetic(&mut self, operation: fn(u64, u64) -> u64, subtracts: bool) -> Result<(), Refused> {
        let (a, b, bits) = (self.operand(0)?, self.operand(1)?, self.bits(0));
        let result = operation(a, b) & ones(bits);
        if self.instruction.mnemonic() != Mnemonic::Cmp {
            self.set_operand(0, result)?;
        }
        let carry = if subtracts { a < b } else { result < a };
        let differs = if subtracts { (a ^ b) & (a ^ result) } else { !(a ^ b) & (a ^ result) };
        let mut flags = outcome(result, bits);
        flags |= if carry { CARRY } else { 0 };
        flags |= if differs >> (bits - 1) & 1 != 0 { OVERFLOW } else { 0 };
        flags |= (a ^ b ^ result) & ADJUST;
        self.replace_flags(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW, flags);
        Ok(())
    }

    /// Bits put together; `test` keeps the flags alone.
    fn logic(&mut self, operation: fn(u64, u64) -> u64) -> Result<(), Refused> {
        let (a, b, bits) = (self.operand(0)?, self.operand(1)?, self.bits(0));
        let result = operation(a, b) & ones(bits);
        if self.instruction.mnemonic() != Mnemonic::Test {
            self.set_operand(0, result)?;
        }
        self.replace_flags(CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW, outcome(result, bits));
        Ok(())
    }

    /// One more or less, which leaves the carry as it is.
    fn count(&mut self) -> Result<(), Refused> {
        let (a, bits) = (self.operand(0)?, self.bits(0));
        let up = self.instruction.mnemonic() == Mnemonic::Inc;
        let result = (if up { a.wrapping_add(1) } else { a.wrapping_sub(1) }) & ones(bits);
        self.set_operand(0, result)?;
        let highest = 1_u64 << (bits - 1);
        let mut flags = outcome(result, bits);
        flags |= if result == if up { highest } else { highest - 1 } { OVERFLOW } else { 0 };
        flags |= (a ^ 1 ^ result) & ADJUST;
        self.replace_flags(PARITY | ADJUST | ZERO | SIGN | OVERFLOW, flags);
        Ok(())
    }

    fn replace_flags(&mut self, which: u64, flags: u64) {
        let kept = self.cpu.flags() & !which;
        self.cpu.set_flags(kept | flags & which);
    }

    /// A vector register and memory.
    fn vector(&mut self) -> Result<(), Refused> {
        let instruction = self.instruction;
        if instruction.op_mask() != Register::None || instruction.op_count() != 2 {
            return Err(self.unknown());
        }
        let size = instruction.memory_size().size();
        let loads = instruction.op_kind(1) == OpKind::Memory;
        let operand = u32::from(loads);
        let register = instruction.op_register(1 - operand);
        let number = register.number();
        let address = self.place(operand, size)?;
        let mut bytes = self.cpu.vector(number).ok_or_else(|| self.unknown())?;
        if size > bytes.len() || !register.is_vector_register() {
            return Err(self.unknown());
        }
        if !loads {
            self.memory.store(address, bytes.get(..size).unwrap_or_default());
            return Ok(());
        }
        // A legacy instruction leaves what is above its 128 bits, any other clears it.
        let cleared = if is_legacy(instruction.mnemonic()) { 16 } else { bytes.len() };
        bytes.get_mut(..cleared).unwrap_or_default().fill(0);
        self.memory.load(address, bytes.get_mut(..size).unwrap_or_default());
        if self.cpu.set_vector(number, &bytes) { Ok(()) } else { Err(self.unknown()) }
    }

    /// `movs`, `stos` and `lods`, with or without `rep`.
    fn string(&mut self) -> Result<(), Refused> {
        use Mnemonic as M;
        let (mnemonic, element) = (self.instruction.mnemonic(), self.instruction.memory_size().size());
        let repeats = self.instruction.has_rep_prefix() || self.instruction.has_repne_prefix();
        let backwards = self.cpu.flags() & DIRECTION != 0;
        if self.instruction.segment_prefix() != Register::None || element == 0 {
            return Err(self.unknown());
        }
        let reads = !matches!(mnemonic, M::Stosb | M::Stosw | M::Stosd | M::Stosq);
        let writes = !matches!(mnemonic, M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq);
        loop {
            let left = if repeats { self.cpu.general(COUNTER) } else { 1 };
            if left == 0 {
                return Ok(());
            }
            let (from, to) = (self.cpu.general(SOURCE), self.cpu.general(DESTINATION));
            // Registers have four bytes: a copy of bytes is one of registers where it can be.
            let aligned = (!reads || from.is_multiple_of(4)) && (!writes || to.is_multiple_of(4));
            let wide = mnemonic == M::Movsb && repeats && !backwards && aligned && left >= 4;
            let size = if wide { 4 } else { element };
            let mut bytes = self.cpu.general(0).to_le_bytes();
            let bytes = bytes.get_mut(..size).ok_or_else(|| self.unknown())?;
            if reads {
                self.read_any(from, bytes)?;
            }
            if writes {
                self.write_any(to, bytes)?;
            } else {
                let mut value = self.cpu.general(0).to_le_bytes();
                value.get_mut(..size).unwrap_or_default().copy_from_slice(bytes);
                let value = u64::from_le_bytes(value);
                self.cpu.set_general(0, if size == 4 { value & 0xffff_ffff } else { value });
            }
            let by = size as u64;
            let on = |place: u64| if backwards { place.wrapping_sub(by) } else { place.wrapping_add(by) };
            if reads {
                self.cpu.set_general(SOURCE, on(from));
            }
            if writes {
                self.cpu.set_general(DESTINATION, on(to));
            }
            if !repeats {
                return Ok(());
            }
            self.cpu.set_general(COUNTER, left - if wide { 4 } else { 1 });
        }
    }

    fn read_any(&self, address: u64, bytes: &mut [u8]) -> Result<(), Refused> {
        if self.memory.is_registers(address, bytes.len()) {
            self.memory.load(address, bytes);
        } else if !self.memory.read(address, bytes) {
            return Err(Refused::NoMemory);
        }
        Ok(())
    }

    fn write_any(&self, address: u64, bytes: &[u8]) -> Result<(), Refused> {
        if self.memory.is_registers(address, bytes.len()) {
            self.memory.store(address, bytes);
        } else if !self.memory.write(address, bytes) {
            return Err(Refused::NoMemory);
        }
        Ok(())
    }
}

/// What of the flags a result of so many bits says.
fn outcome(result: u64, bits: u32) -> u64 {
    let zero = if result == 0 { ZERO } else { 0 };
    let sign = if result >> (bits - 1) & 1 != 0 { SIGN } else { 0 };
    let parity = if (result & 0xff).count_ones().is_multiple_of(2) { PARITY } else { 0 };
    zero | sign | parity
}

const fn ones(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

fn is_upper(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

/// The number of the general register that this is, or is a part of.
fn number(register: Register) -> usize {
    register.full_register().number()
}

/// Whole vectors, and the scalars that clear the rest of a register.
fn moves_vector(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    is_legacy(mnemonic)
        || matches!(
            mnemonic,
            M::Vmovups
                | M::Vmovupd
                | M::Vmovaps
                | M::Vmovapd
                | M::Vmovdqu
                | M::Vmovdqa
                | M::Vmovdqu8
                | M::Vmovdqu16
                | M::Vmovdqu32
                | M::Vmovdqu64
                | M::Vmovdqa32
                | M::Vmovdqa64
                | M::Vlddqu
                | M::Vmovntdq
                | M::Vmovntdqa
                | M::Vmovntps
                | M::Vmovntpd
                | M::Vmovd
                | M::Vmovq
                | M::Vmovss
                | M::Vmovsd
        )
}

fn is_legacy(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Movups
            | M::Movupd
            | M::Movaps
            | M::Movapd
            | M::Movdqu
            | M::Movdqa
            | M::Lddqu
            | M::Movntdq
            | M::Movntdqa
            | M::Movntps
            | M::Movntpd
            | M::Movd
            | M::Movq
            | M::Movss
            | M::Movsd
    )
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
