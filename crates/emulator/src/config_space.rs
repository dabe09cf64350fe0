//! The 4 KiB of configuration space of a function, built from its [`Description`].
//!
//! Layout and bits after the PCI Express Base Specification, chapter 7, and the PCI Local Bus Specification 3.0, chapter
//! 6. Offsets of the capabilities are those of AMD's 7-series integrated block. A bit is either writable and kept, or
//! it is read-only: there is one mask for all. Nothing here ever reports an error, so no bit is "write one to clear".

use crate::function::{BarDescription, Description, InterruptKind, InterruptKinds, Msix, PacketSizes};

/// Bytes of configuration space of a PCI Express function.
pub(crate) const SIZE: usize = 4096;

const COMMAND: usize = 0x04;
const COMMAND_MEMORY_SPACE: u8 = 1 << 1;
const COMMAND_BUS_MASTER: u8 = 1 << 2;
/// Interrupt Disable is bit 10, so bit 2 of the second byte.
const COMMAND_INTERRUPT_DISABLE_HIGH: u8 = 1 << 2;
const STATUS: usize = 0x06;
const STATUS_INTERRUPT: u8 = 1 << 3;
const BARS: usize = 0x10;
const POWER_MANAGEMENT: usize = 0x40;
const MSI: usize = 0x48;
/// The power state is in the low bits of control and status; 3 is D3hot.
const POWER_STATE: usize = POWER_MANAGEMENT + 0x04;
const POWER_STATE_BITS: u8 = 0b11;
const EXPRESS: usize = 0x60;
/// Largest payload that the function can have; the capability says 256 as 1.
const LARGEST_PAYLOAD: u32 = 256;
const DEVICE_CONTROL: usize = EXPRESS + 0x08;
/// Initiate Function Level Reset is bit 15 of device control, so bit 7 of its second byte. It reads as zero.
const DEVICE_CONTROL_HIGH: usize = EXPRESS + 0x09;
const DEVICE_CONTROL_HIGH_FLR: u8 = 1 << 7;
const MSIX: usize = 0x9C;
const EXTENDED: usize = 0x100;

/// Configuration space: what it holds, what it held after reset, and which bits may be written.
#[derive(Debug)]
pub(crate) struct ConfigSpace {
    bytes: Box<[u8; SIZE]>,
    initial: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
}

impl ConfigSpace {
    /// Builds the space; says what is wrong with a description that no function can have.
    pub(crate) fn new(description: &Description) -> Result<Self, &'static str> {
        let mut builder = Builder { bytes: Box::new([0; SIZE]), writable: Box::new([0; SIZE]), link: 0x34 };
        builder.header(description);
        builder.bars(&description.bars)?;
        builder.power_management();
        if description.interrupts.msi > 0 {
            builder.msi(&description.interrupts)?;
        }
        builder.express(description.link, description.slot_lanes)?;
        if let Some(msix) = description.interrupts.msix {
            builder.msix(msix, &description.bars)?;
        }
        if let Some(serial) = description.serial {
            builder.serial_number(serial);
        }
        Ok(Self { initial: builder.bytes.clone(), bytes: builder.bytes, writable: builder.writable })
    }

    /// Reads from `offset` on; `None` if the range leaves the space. `line_up`: INTx is requested.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8], line_up: bool) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        let source = self.bytes.get(start..start.checked_add(data.len())?)?;
        data.copy_from_slice(source);
        if line_up && let Some(status) = STATUS.checked_sub(start).and_then(|at| data.get_mut(at)) {
            *status |= STATUS_INTERRUPT;
        }
        Some(())
    }

    /// Writes from `offset` on, as far as bits are writable; `None` if the range leaves the space.
    ///
    /// Returns whether a function-level reset was asked for, which the caller carries out.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Option<bool> {
        let start = usize::try_from(offset).ok()?;
        let target = self.bytes.get_mut(start..start.checked_add(data.len())?)?;
        for ((byte, mask), new) in target.iter_mut().zip(&self.writable[start..]).zip(data) {
            *byte = (*byte & !mask) | (new & mask);
        }
        let control = DEVICE_CONTROL_HIGH.checked_sub(start).and_then(|at| data.get(at));
        Some(control.is_some_and(|byte| byte & DEVICE_CONTROL_HIGH_FLR != 0))
    }

    /// Puts everything back to what it was after power-on; Bus Master Enable is off then.
    pub(crate) fn reset(&mut self) {
        self.bytes.copy_from_slice(&self.initial[..]);
    }

    /// The function may master the bus: Bus Master Enable of the command register, and power state D0.
    pub(crate) fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_BUS_MASTER != 0 && self.is_powered()
    }

    /// The function answers at its BARs: Memory Space of the command register, and power state D0.
    pub(crate) fn memory_space(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_MEMORY_SPACE != 0 && self.is_powered()
    }

    /// Power state D0; in D3hot a function answers in configuration space alone (PCI Power Management 1.2, section 5.4.1).
    fn is_powered(&self) -> bool {
        self.bytes[POWER_STATE] & POWER_STATE_BITS == 0
    }

    /// The packet sizes that software has set; payloads are never larger than the function can have.
    pub(crate) fn packet_sizes(&self) -> PacketSizes {
        let control = u16::from_le_bytes([self.bytes[DEVICE_CONTROL], self.bytes[DEVICE_CONTROL_HIGH]]);
        let size = |shift: u32| 128u32 << (control >> shift & 7).min(5);
        PacketSizes { payload: size(5).min(LARGEST_PAYLOAD), read_request: size(12) }
    }

    /// Interrupt Disable of the command register.
    pub(crate) fn line_disabled(&self) -> bool {
        self.bytes[COMMAND + 1] & COMMAND_INTERRUPT_DISABLE_HIGH != 0
    }
}

struct Builder {
    bytes: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
    /// Where the offset of the next capability goes.
    link: usize,
}

impl Builder {
    fn put<const N: usize>(&mut self, offset: usize, value: [u8; N], writable: [u8; N]) {
        self.bytes[offset..offset + N].copy_from_slice(&value);
        self.writable[offset..offset + N].copy_from_slice(&writable);
    }

    fn put16(&mut self, offset: usize, value: u16, writable: u16) {
        self.put(offset, value.to_le_bytes(), writable.to_le_bytes());
    }

    fn put32(&mut self, offset: usize, value: u32, writable: u32) {
        self.put(offset, value.to_le_bytes(), writable.to_le_bytes());
    }

    fn header(&mut self, description: &Description) {
        let [vendor, device, subsystem_vendor, subsystem] = description.ids;
        let [base, sub, interface] = description.class;
        self.put16(0x00, vendor, 0);
        self.put16(0x02, device, 0);
        // Memory Space, Bus Master, Parity Error Response, SERR# and Interrupt Disable. Memory Space is on, also behind a reset:
        // the kernel's VFIO enables a function for whoever opens it, and restores that when it is reset.
        self.put16(COMMAND, COMMAND_MEMORY_SPACE.into(), 0x0546);
        // There is a list of capabilities.
        self.put16(STATUS, 0x0010, 0);
        self.put(0x08, [description.revision, interface, sub, base], [0; 4]);
        // Cache line size is kept for software's sake.
        self.put(0x0C, [0; 4], [0xFF, 0, 0, 0]);
        self.put16(0x2C, subsystem_vendor, 0);
        self.put16(0x2E, subsystem, 0);
        let pin = u8::from(description.interrupts.line);
        self.put(0x3C, [0, pin], [0xFF, 0]);
    }

    fn bars(&mut self, bars: &[Option<BarDescription>; 6]) -> Result<(), &'static str> {
        let mut slots = bars.iter().enumerate();
        while let Some((index, bar)) = slots.next() {
            let Some(bar) = bar else { continue };
            if !bar.size.is_power_of_two() || bar.size < 16 {
                return Err("a BAR's size is no power of two of at least 16 bytes");
            }
            let kind = u64::from(bar.is_64bit) << 2 | u64::from(bar.prefetchable) << 3;
            let value = kind.to_le_bytes();
            let writable = (!(bar.size - 1)).to_le_bytes();
            let offset = BARS + 4 * index;
            if bar.is_64bit {
                match slots.next() {
                    Some((_, None)) => self.put(offset, value, writable),
                    _ => return Err("a 64-bit BAR needs the slot after its own"),
                }
            } else {
                if bar.size > 1 << 31 {
                    return Err("a 32-bit BAR has at most 2 GiB");
                }
                let [v0, v1, v2, v3, ..] = value;
                let [w0, w1, w2, w3, ..] = writable;
                self.put(offset, [v0, v1, v2, v3], [w0, w1, w2, w3]);
            }
        }
        Ok(())
    }

    /// Starts a capability and puts it at the end of the list.
    fn capability(&mut self, offset: u8, id: u8) -> usize {
        self.bytes[self.link] = offset;
        let at = usize::from(offset);
        self.bytes[at] = id;
        self.link = at + 1;
        at
    }

    #[expect(clippy::cast_possible_truncation, reason = "capabilities lie in the first 256 bytes")]
    fn power_management(&mut self) {
        let at = self.capability(POWER_MANAGEMENT as u8, 0x01);
        // Version 3 of the specification; no PME, no D1, no D2.
        self.put16(at + 2, 0x0003, 0);
        // The power state is kept. No Soft Reset: coming back from D3hot changes nothing.
        self.put16(at + 4, 0x0008, 0x0003);
    }

    #[expect(clippy::cast_possible_truncation, reason = "capabilities lie in the first 256 bytes")]
    fn msi(&mut self, kinds: &InterruptKinds) -> Result<(), &'static str> {
        if kinds.msi > 32 {
            return Err("MSI offers at most 32 vectors");
        }
        let at = self.capability(MSI as u8, 0x05);
        let capable = kinds.vectors(InterruptKind::Msi).trailing_zeros() as u16;
        // 64-bit addresses; Multiple Message Capable; software sets Enable and Multiple Message Enable.
        self.put16(at + 2, 1 << 7 | capable << 1, 0x0071);
        self.put32(at + 4, 0, 0xFFFF_FFFC);
        self.put32(at + 8, 0, 0xFFFF_FFFF);
        self.put16(at + 12, 0, 0xFFFF);
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "capabilities lie in the first 256 bytes")]
    fn express(&mut self, (speed, width): (u8, u8), slot: Option<u8>) -> Result<(), &'static str> {
        if !(1..=6).contains(&speed) || !matches!(width, 1 | 2 | 4 | 8 | 12 | 16 | 32) {
            return Err("no such link: the speed is 1 to 6, the width 1, 2, 4, 8, 12, 16 or 32 lanes");
        }
        let lanes = slot.unwrap_or(width);
        if lanes > width || !matches!(lanes, 1 | 2 | 4 | 8 | 12 | 16 | 32) {
            return Err(
                "no such slot: it has 1, 2, 4, 8, 12, 16 or 32 lanes, and not more than the link is wide",
            );
        }
        let link = u32::from(speed) | u32::from(width) << 4;
        let negotiated = u16::from(speed) | u16::from(lanes) << 4;
        let at = self.capability(EXPRESS as u8, 0x10);
        // Version 2, endpoint.
        self.put16(at + 0x02, 0x0002, 0);
        // Payloads of 256 bytes, extended tags, role-based error reporting, function-level reset.
        self.put32(at + 0x04, 0x1000_8021, 0);
        // Relaxed ordering, no snoop, payloads of 256 bytes, read requests of 512: what a PC's firmware sets. All but the
        // reset bit is kept.
        self.put16(at + 0x08, 0x2830, 0x79FF);
        self.put32(at + 0x0C, link, 0);
        self.put16(at + 0x10, 0, 0x00CB);
        // The negotiated link is the best that card and slot can do; the reference clock is the slot's.
        self.put16(at + 0x12, negotiated | 1 << 12, 0);
        // The completion time-out can be disabled.
        self.put32(at + 0x24, 0x0000_0010, 0);
        self.put16(at + 0x28, 0, 0x001F);
        // Supported speeds are bits 1 and up; the target is the highest.
        self.put32(at + 0x2C, (1 << (speed + 1)) - 2, 0);
        self.put16(at + 0x30, speed.into(), 0x000F);
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "capabilities lie in the first 256 bytes")]
    fn msix(&mut self, msix: Msix, bars: &[Option<BarDescription>; 6]) -> Result<(), &'static str> {
        let Msix { vectors, bar, table, pending } = msix;
        let last = vectors.wrapping_sub(1);
        let vectors = u64::from(vectors);
        let size = bars.get(usize::from(bar)).copied().flatten().map_or(0, |bar| bar.size);
        if !(1..=2048).contains(&vectors) {
            return Err("MSI-X offers 1 to 2048 vectors");
        }
        if !table.is_multiple_of(8) || !pending.is_multiple_of(8) {
            return Err("the MSI-X table and pending bits start at multiples of 8");
        }
        let table_end = u64::from(table) + 16 * vectors;
        let pending_end = u64::from(pending) + 8 * vectors.div_ceil(64);
        if table_end > size || pending_end > size {
            return Err("the MSI-X table and pending bits lie within their BAR");
        }
        if u64::from(pending) < table_end && u64::from(table) < pending_end {
            return Err("the MSI-X table and pending bits overlap");
        }
        let at = self.capability(MSIX as u8, 0x11);
        // Software sets Enable and Function Mask.
        self.put16(at + 2, last, 0xC000);
        self.put32(at + 4, table | u32::from(bar), 0);
        self.put32(at + 8, pending | u32::from(bar), 0);
        Ok(())
    }

    fn serial_number(&mut self, serial: u64) {
        self.put32(EXTENDED, 0x0003 | 1 << 16, 0);
        self.put(EXTENDED + 4, serial.to_le_bytes(), [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MSIX: Msix = Msix { vectors: 18, bar: 0, table: 0x8000, pending: 0x8FE0 };
    const NO_INTERRUPT: InterruptKinds = InterruptKinds { line: false, msi: 0, msix: None };
    const LINE: InterruptKinds = InterruptKinds { line: true, ..NO_INTERRUPT };
    const MESSAGES: InterruptKinds = InterruptKinds { msi: 18, ..NO_INTERRUPT };
    const TABLE: InterruptKinds = InterruptKinds { msix: Some(MSIX), ..NO_INTERRUPT };
    const ALL: InterruptKinds = InterruptKinds { line: true, msi: 18, msix: Some(MSIX) };

    fn description(interrupts: InterruptKinds) -> Description {
        let small = BarDescription { size: 0x1_0000, is_64bit: false, prefetchable: false };
        let large = BarDescription { size: 1 << 33, is_64bit: true, prefetchable: true };
        Description {
            ids: [0x10EE, 0x7011, 0x0002, 0x0015],
            revision: 3,
            class: [5, 1, 2],
            bars: [Some(small), None, Some(large), None, None, None],
            interrupts,
            link: (2, 4),
            slot_lanes: None,
            serial: Some(0x0011_2233_4455_6677),
        }
    }

    fn space(interrupts: InterruptKinds) -> ConfigSpace {
        ConfigSpace::new(&description(interrupts)).unwrap()
    }

    fn read32(space: &ConfigSpace, offset: u64) -> u32 {
        let mut data = [0; 4];
        space.read(offset, &mut data, false).unwrap();
        u32::from_le_bytes(data)
    }

    fn capabilities(space: &ConfigSpace) -> Vec<(u8, u8)> {
        let mut at = space.bytes[0x34];
        let mut found = Vec::new();
        while at != 0 {
            found.push((space.bytes[usize::from(at)], at));
            at = space.bytes[usize::from(at) + 1];
        }
        found
    }

    #[test]
    fn says_who_it_is() {
        let space = space(TABLE);
        assert_eq!(read32(&space, 0x00), 0x7011_10EE);
        assert_eq!(read32(&space, 0x08), 0x0501_0203);
        assert_eq!(read32(&space, 0x2C), 0x0015_0002);
        assert_eq!(read32(&space, 0x100), 0x0001_0003);
        assert_eq!(read32(&space, 0x104), 0x4455_6677);
        assert_eq!(read32(&space, 0x108), 0x0011_2233);
    }

    #[test]
    fn probing_with_all_ones_shows_sizes_and_types() {
        let mut space = space(TABLE);
        for slot in 0..6 {
            space.write(0x10 + 4 * slot, &[0xFF; 4]).unwrap();
        }
        let slots: Vec<u32> = (0..6).map(|slot| read32(&space, 0x10 + 4 * slot)).collect();
        assert_eq!(slots, [0xFFFF_0000, 0, 0x0000_000C, 0xFFFF_FFFE, 0, 0]);
        space.write(0x10, &0xFE12_3456_u32.to_le_bytes()).unwrap();
        assert_eq!(read32(&space, 0x10), 0xFE12_0000);
    }

    #[test]
    fn each_kind_of_interrupt_has_its_capability_and_no_other() {
        let ids = |kind| capabilities(&space(kind)).iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(NO_INTERRUPT), [1, 0x10]);
        assert_eq!(ids(LINE), [1, 0x10]);
        assert_eq!(ids(MESSAGES), [1, 5, 0x10]);
        assert_eq!(ids(TABLE), [1, 0x10, 0x11]);
        assert_eq!(ids(ALL), [1, 5, 0x10, 0x11]);
        assert_eq!(space(ALL).bytes[0x3D], 1);
        assert_eq!(space(LINE).bytes[0x3D], 1);
        assert_eq!(space(TABLE).bytes[0x3D], 0);
        let msix = space(TABLE);
        assert_eq!(
            [read32(&msix, 0x9C) >> 16, read32(&msix, 0xA0), read32(&msix, 0xA4)],
            [17, 0x8000, 0x8FE0]
        );
        // 18 vectors are offered as 32.
        assert_eq!(read32(&space(MESSAGES), 0x48) >> 16, 0x8A);
    }

    #[test]
    fn the_link_is_up_at_its_best() {
        let space = space(TABLE);
        assert_eq!(read32(&space, 0x6C) & 0x3FF, 0x42);
        assert_eq!(read32(&space, 0x70) >> 16 & 0x3FF, 0x42);
        assert_eq!(read32(&space, 0x8C), 0b110);
        let narrow = Description { slot_lanes: Some(1), ..description(TABLE) };
        let space = ConfigSpace::new(&narrow).unwrap();
        assert_eq!((read32(&space, 0x6C) & 0x3FF, read32(&space, 0x70) >> 16 & 0x3FF), (0x42, 0x12));
    }

    #[test]
    fn the_reset_bit_is_seen_in_accesses_of_any_size_and_reads_zero() {
        let mut space = space(TABLE);
        assert_eq!(space.write(0x69, &[0x80]), Some(true));
        assert_eq!(space.write(0x68, &0x8810_u16.to_le_bytes()), Some(true));
        assert_eq!(space.write(0x68, &0xFFFF_8810_u32.to_le_bytes()), Some(true));
        assert_eq!(space.write(0x68, &[0xFF]), Some(false));
        assert_eq!(read32(&space, 0x68) & 0x8000, 0);
    }

    #[test]
    fn packet_sizes_are_what_software_set() {
        let mut space = space(TABLE);
        assert_eq!(space.packet_sizes(), PacketSizes { payload: 256, read_request: 512 });
        for (control, payload, read_request) in [(0x0000, 128, 128), (0x50ff, 256, 4096), (0x7810, 128, 4096)]
        {
            space.write(0x68, &u16::to_le_bytes(control)).unwrap();
            assert_eq!(space.packet_sizes(), PacketSizes { payload, read_request }, "{control:#x}");
        }
    }

    #[test]
    fn reset_puts_everything_back() {
        let mut space = space(TABLE);
        let before = space.bytes.clone();
        space.write(0, &[0xFF; SIZE]).unwrap();
        assert!(!space.bus_master() && !space.memory_space() && space.line_disabled(), "it is in D3hot");
        space.write(POWER_STATE as u64, &[0]).unwrap();
        assert!(space.bus_master() && space.memory_space());
        space.write(COMMAND as u64, &[COMMAND_BUS_MASTER]).unwrap();
        assert!(space.bus_master() && !space.memory_space());
        space.reset();
        assert!(!space.bus_master() && space.memory_space());
        assert_eq!(space.bytes, before);
    }

    #[test]
    fn the_status_register_shows_a_line_that_is_up() {
        let space = space(LINE);
        let mut data = [0; 4];
        space.read(4, &mut data, true).unwrap();
        assert_eq!(data, [2, 0, 0x18, 0]);
        space.read(8, &mut data, true).unwrap();
        assert_eq!(data, [3, 2, 1, 5]);
    }

    #[test]
    fn accesses_outside_are_refused() {
        let mut space = space(TABLE);
        assert_eq!(space.read(4095, &mut [0; 2], false), None);
        assert_eq!(space.write(u64::MAX, &[0; 2]), None);
        assert_eq!(space.read(4095, &mut [0], false), Some(()));
    }

    #[test]
    fn descriptions_that_cannot_be_are_refused() {
        let refused = |change: fn(&mut Description)| {
            let mut description = description(TABLE);
            change(&mut description);
            assert!(ConfigSpace::new(&description).is_err());
        };
        let msix = |change: fn(&mut Msix)| {
            let mut msix = MSIX;
            change(&mut msix);
            let description = Description {
                interrupts: InterruptKinds { msix: Some(msix), ..NO_INTERRUPT },
                ..description(TABLE)
            };
            assert!(ConfigSpace::new(&description).is_err(), "{msix:?}");
        };
        msix(|d| d.vectors = 0);
        msix(|d| d.vectors = 2049);
        msix(|d| (d.table, d.pending) = (0xFFF8, 0));
        msix(|d| d.pending = 0x8010);
        msix(|d| d.bar = 9);
        refused(|d| d.interrupts.msi = 33);
        refused(|d| d.link = (0, 4));
        refused(|d| d.slot_lanes = Some(8));
        refused(|d| d.slot_lanes = Some(3));
        refused(|d| d.bars[3] = d.bars[0]);
        refused(|d| d.bars[5] = Some(BarDescription { size: 1 << 20, is_64bit: true, prefetchable: false }));
        refused(|d| d.bars[1] = Some(BarDescription { size: 100, is_64bit: false, prefetchable: false }));
    }

    proptest! {
        #[test]
        fn writes_never_change_read_only_bits(
            writes in proptest::collection::vec((0..SIZE as u64, proptest::collection::vec(any::<u8>(), 1..9)), 1..200)
        ) {
            for kind in [LINE, MESSAGES, TABLE, ALL] {
                let mut space = space(kind);
                let initial = space.initial.clone();
                for (offset, data) in &writes {
                    space.write(*offset, data);
                }
                for at in 0..SIZE {
                    let fixed = !space.writable[at];
                    prop_assert_eq!(space.bytes[at] & fixed, initial[at] & fixed, "byte {:#x}", at);
                }
            }
        }
    }

    #[test]
    fn identity_and_structure_are_read_only() {
        // The mask itself, against a list made by hand: what must never be writable.
        let space = space(TABLE);
        for at in (0..4).chain(8..12).chain(0x2C..0x35).chain(0x9C..0x9F).chain(0xA0..0xA8).chain(0x100..SIZE)
        {
            assert_eq!(space.writable[at], 0, "byte {at:#x}");
        }
    }
}
