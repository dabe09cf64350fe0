//! Instructions as compilers make them, on a processor and registers of the test's own.

use super::*;
use std::cell::RefCell;

/// Where registers are.
const BASE: u64 = 0x7000_0000;

#[derive(Default)]
struct FakeCpu {
    general: [u64; 16],
    flags: u64,
    instruction: u64,
    vectors: Vec<[u8; 64]>,
}

impl Cpu for FakeCpu {
    fn general(&self, number: usize) -> u64 {
        self.general[number]
    }
    fn set_general(&mut self, number: usize, value: u64) {
        self.general[number] = value;
    }
    fn flags(&self) -> u64 {
        self.flags
    }
    fn set_flags(&mut self, flags: u64) {
        self.flags = flags;
    }
    fn instruction(&self) -> u64 {
        self.instruction
    }
    fn set_instruction(&mut self, address: u64) {
        self.instruction = address;
    }
    fn vector(&self, number: usize) -> Option<[u8; 64]> {
        self.vectors.get(number).copied()
    }
    fn set_vector(&mut self, number: usize, bytes: &[u8; 64]) -> bool {
        self.vectors[number] = *bytes;
        true
    }
}

/// 64 bytes of registers, the accesses to them, and 64 bytes of memory at 0x100.
struct FakeMemory {
    registers: RefCell<[u8; 64]>,
    accesses: RefCell<Vec<(char, u64, usize)>>,
    memory: RefCell<[u8; 64]>,
}

impl FakeMemory {
    fn new() -> Self {
        let registers: [u8; 64] = std::array::from_fn(|at| u8::try_from(at).unwrap() + 0x80);
        Self { registers: registers.into(), accesses: RefCell::default(), memory: [0; 64].into() }
    }
}

fn range(address: u64, base: u64, length: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(address - base).unwrap();
    start..start + length
}

impl Memory for FakeMemory {
    fn is_registers(&self, address: u64, length: usize) -> bool {
        address >= BASE && address + length as u64 <= BASE + 64
    }
    fn load(&self, address: u64, bytes: &mut [u8]) {
        self.accesses.borrow_mut().push(('r', address - BASE, bytes.len()));
        bytes.copy_from_slice(&self.registers.borrow()[range(address, BASE, bytes.len())]);
    }
    fn store(&self, address: u64, bytes: &[u8]) {
        self.accesses.borrow_mut().push(('w', address - BASE, bytes.len()));
        self.registers.borrow_mut()[range(address, BASE, bytes.len())].copy_from_slice(bytes);
    }
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let there = (0x100..0x140).contains(&address);
        if there {
            bytes.copy_from_slice(&self.memory.borrow()[range(address, 0x100, bytes.len())]);
        }
        there
    }
    fn write(&self, address: u64, bytes: &[u8]) -> bool {
        let there = (0x100..0x140).contains(&address);
        if there {
            self.memory.borrow_mut()[range(address, 0x100, bytes.len())].copy_from_slice(bytes);
        }
        there
    }
}

/// A processor with `rdi` at the registers and `rsi` in memory.
fn cpu() -> FakeCpu {
    let mut cpu = FakeCpu { instruction: 0x40_0000, vectors: vec![[0xee; 64]; 32], ..FakeCpu::default() };
    cpu.general[DESTINATION] = BASE;
    cpu.general[SOURCE] = 0x100;
    cpu
}

/// Carries out `code`, and checks that the next instruction follows it.
fn run(code: &[u8], cpu: &mut FakeCpu, memory: &FakeMemory) {
    step(code, cpu, memory).unwrap();
    assert_eq!(cpu.instruction, 0x40_0000 + code.len() as u64, "{code:02x?}");
}

#[test]
fn loads_of_every_width_fill_what_they_have_to() {
    let memory = FakeMemory::new();
    for (code, expected, width) in [
        (&[0x8b, 0x47, 0x04][..], 0x8786_8584, 4), // mov eax, [rdi+4]
        (&[0x48, 0x8b, 0x47, 0x08], 0x8f8e_8d8c_8b8a_8988, 8), // mov rax, [rdi+8]
        (&[0x66, 0x8b, 0x47, 0x02], 0xffff_ffff_ffff_8382, 2), // mov ax, [rdi+2]
        (&[0x8a, 0x47, 0x01], 0xffff_ffff_ffff_ff81, 1), // mov al, [rdi+1]
        (&[0x8a, 0x67, 0x01], 0xffff_ffff_ffff_81ff, 1), // mov ah, [rdi+1]
        (&[0x0f, 0xb6, 0x47, 0x01], 0x81, 1),      // movzx eax, byte [rdi+1]
        (&[0x0f, 0xbe, 0x47, 0x01], 0xffff_ff81, 1), // movsx eax, byte [rdi+1]
        (&[0x48, 0x63, 0x47, 0x04], 0xffff_ffff_8786_8584, 4), // movsxd rax, dword [rdi+4]
        (&[0x0f, 0x38, 0xf0, 0x47, 0x04], 0x8485_8687, 4), // movbe eax, [rdi+4]
    ] {
        let mut cpu = cpu();
        cpu.general[0] = u64::MAX;
        run(code, &mut cpu, &memory);
        assert_eq!(cpu.general[0], expected, "{code:02x?}");
        assert_eq!(memory.accesses.borrow_mut().pop().unwrap().2, width);
    }
}

#[test]
fn stores_are_one_access_of_their_width() {
    let memory = FakeMemory::new();
    let mut cpu = cpu();
    cpu.general[0] = 0x1122_3344_5566_7788;
    run(&[0x89, 0x47, 0x04], &mut cpu, &memory); // mov [rdi+4], eax
    assert_eq!(memory.registers.borrow()[4..8], [0x88, 0x77, 0x66, 0x55]);
    cpu.instruction = 0x40_0000;
    run(&[0xc7, 0x47, 0x08, 0x78, 0x56, 0x34, 0x12], &mut cpu, &memory); // mov dword [rdi+8], 0x12345678
    assert_eq!(memory.registers.borrow()[8..12], [0x78, 0x56, 0x34, 0x12]);
    assert_eq!(memory.accesses.borrow()[..], [('w', 4, 4), ('w', 8, 4)]);
}

#[test]
fn what_changes_a_register_reads_and_writes_it() {
    let memory = FakeMemory::new();
    let mut cpu = cpu();
    run(&[0x83, 0x0f, 0x01], &mut cpu, &memory); // or dword [rdi], 1
    assert_eq!(memory.registers.borrow()[..4], [0x81, 0x81, 0x82, 0x83]);
    assert_eq!(memory.accesses.borrow()[..], [('r', 0, 4), ('w', 0, 4)]);
    assert_eq!(cpu.flags & (SIGN | ZERO | CARRY), SIGN);
}

#[test]
fn comparisons_set_the_flags_that_jumps_look_at() {
    let memory = FakeMemory::new();
    memory.registers.borrow_mut()[..4].copy_from_slice(&5_u32.to_le_bytes());
    for (with, flags) in [(5_u8, ZERO | PARITY), (6, CARRY | SIGN | PARITY | ADJUST), (4, 0)] {
        let mut cpu = cpu();
        cpu.flags = OVERFLOW | DIRECTION;
        run(&[0x83, 0x3f, with], &mut cpu, &memory); // cmp dword [rdi], with
        assert_eq!(cpu.flags, flags | DIRECTION, "{with}");
    }
    let mut cpu = cpu();
    run(&[0xf7, 0x07, 0x02, 0, 0, 0], &mut cpu, &memory); // test dword [rdi], 2
    assert_eq!(cpu.flags, ZERO | PARITY);
    assert!(memory.accesses.borrow().iter().all(|access| access.0 == 'r'));
}

#[test]
fn vectors_are_moved_as_a_whole() {
    let memory = FakeMemory::new();
    let mut cpu = cpu();
    run(&[0xf3, 0x0f, 0x6f, 0x07], &mut cpu, &memory); // movdqu xmm0, [rdi]
    assert_eq!(
        cpu.vectors[0][..17],
        [
            0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f,
            0xee
        ]
    );
    cpu.instruction = 0x40_0000;
    run(&[0xc5, 0xfe, 0x6f, 0x0f], &mut cpu, &memory); // vmovdqu ymm1, [rdi]
    assert_eq!((cpu.vectors[1][31], cpu.vectors[1][32]), (0x9f, 0));
    cpu.instruction = 0x40_0000;
    run(&[0x62, 0xe1, 0xfe, 0x28, 0x6f, 0x07], &mut cpu, &memory); // vmovdqu64 ymm16, [rdi]
    assert_eq!((cpu.vectors[16][31], cpu.vectors[16][32]), (0x9f, 0));
    cpu.instruction = 0x40_0000;
    run(&[0x66, 0x0f, 0x6e, 0x17], &mut cpu, &memory); // movd xmm2, [rdi]
    assert_eq!(cpu.vectors[2][..5], [0x80, 0x81, 0x82, 0x83, 0]);
    cpu.instruction = 0x40_0000;
    run(&[0xf3, 0x0f, 0x7f, 0x5f, 0x10], &mut cpu, &memory); // movdqu [rdi+16], xmm3
    assert_eq!(memory.registers.borrow()[16..32], [0xee; 16]);
}

#[test]
fn copies_by_bytes_go_by_registers_where_they_can() {
    let memory = FakeMemory::new();
    let mut cpu = cpu();
    // From the registers to memory.
    (cpu.general[SOURCE], cpu.general[DESTINATION], cpu.general[COUNTER]) = (BASE + 4, 0x108, 10);
    run(&[0xf3, 0xa4], &mut cpu, &memory); // rep movsb
    assert_eq!(memory.memory.borrow()[8..18], [0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d]);
    assert_eq!(memory.accesses.borrow()[..], [('r', 4, 4), ('r', 8, 4), ('r', 12, 1), ('r', 13, 1)]);
    assert_eq!((cpu.general[COUNTER], cpu.general[SOURCE]), (0, BASE + 14));

    let mut cpu = self::cpu();
    (cpu.general[0], cpu.general[COUNTER]) = (0x0102_0304, 3);
    run(&[0xf3, 0xab], &mut cpu, &memory); // rep stosd
    assert_eq!(memory.registers.borrow()[..13], [4, 3, 2, 1, 4, 3, 2, 1, 4, 3, 2, 1, 0x8c]);
}

#[test]
fn what_is_not_known_or_goes_too_far_is_refused_and_nothing_happens() {
    let memory = FakeMemory::new();
    let mut cpu = cpu();
    let fetch_and_add = [0xf0, 0x0f, 0xc1, 0x07]; // lock xadd [rdi], eax
    assert!(
        matches!(step(&fetch_and_add, &mut cpu, &memory), Err(Refused::Unknown(name)) if name.contains("Xadd"))
    );
    let beyond = [0x48, 0x8b, 0x47, 0x3c]; // mov rax, [rdi+60]
    assert_eq!(step(&beyond, &mut cpu, &memory), Err(Refused::Beyond));
    let thread_local = [0x64, 0x8b, 0x07]; // mov eax, fs:[rdi]
    assert!(step(&thread_local, &mut cpu, &memory).is_err());
    assert!(step(&[], &mut cpu, &memory).is_err());
    (cpu.general[SOURCE], cpu.general[COUNTER]) = (0x9000, 1);
    assert_eq!(step(&[0xf3, 0xa4], &mut cpu, &memory), Err(Refused::NoMemory));
    assert_eq!(cpu.instruction, 0x40_0000);
    assert_eq!(memory.accesses.borrow()[..], []);
}
