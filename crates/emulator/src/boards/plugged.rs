//! A board in its slot: the function that the server presents to clients.

use super::assembly::Assembly;
use super::bar::{Bar, BusWindow};
use crate::axi::{read_registers, write_registers};
use crate::fault::{Fault, Faults};
use crate::function::{Description, Function, Mappable};
use std::fmt;
use std::sync::Arc;

/// An emulated board, plugged into a host. Its engines end when it is dropped.
pub struct PluggedBoard {
    assembly: Assembly,
    faults: Arc<Faults>,
}

impl fmt::Debug for PluggedBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluggedBoard")
            .field("description", &self.assembly.description)
            .finish_non_exhaustive()
    }
}

impl PluggedBoard {
    pub(super) fn new(assembly: Assembly, faults: Arc<Faults>) -> Self {
        Self { assembly, faults }
    }

    /// Asks for a fault, while the board runs.
    pub fn inject(&self, fault: Fault) {
        self.faults.inject(fault);
    }

    /// Why a fault cannot happen here, if it cannot.
    pub(super) fn refuses_fault(&self, fault: &Fault) -> Option<String> {
        let dma = self.assembly.xdma.as_ref().map(|xdma| xdma.interface());
        fault.impossible_on(dma, |kind| self.assembly.modelled.contains(&kind))
    }

    /// Why there is no user interrupt of this number, if there is none.
    pub(super) fn refuses_user_interrupt(&self, number: u8) -> Option<String> {
        let count = if self.assembly.xdma.is_some() { self.assembly.user_interrupts } else { 0 };
        (number >= count).then(|| format!("the design has {count} of them"))
    }

    /// Sets the level of a user interrupt's request line (`usr_irq_req` of PG195), 0 to 15. Nothing happens on a board
    /// without an XDMA, or whose XDMA has fewer.
    pub fn set_user_interrupt(&self, interrupt: u8, level: bool) {
        let there = interrupt < self.assembly.user_interrupts;
        let xdma = self.assembly.xdma.as_ref().filter(|_| there);
        if let Some(line) = xdma.and_then(|xdma| xdma.user_interrupt(interrupt)) {
            line.set(level);
        }
    }

    /// Executes up to `most` descriptors of each channel in the caller's thread; says how many there were.
    #[cfg(fuzzing)]
    pub(crate) fn step(&self, most: u32) -> u32 {
        self.assembly.xdma.as_ref().map_or(0, |xdma| xdma.step(most))
    }

    /// Fills the memory that the DMA engines reach.
    #[cfg(fuzzing)]
    pub(crate) fn fill_memory(&self, byte: u8) {
        if let Some(xdma) = &self.assembly.xdma {
            xdma.fill_memory(byte);
        }
    }

    fn bar(&self, bar: usize) -> Option<&Bar> {
        self.assembly.bars.get(bar)?.as_ref()
    }
}

impl Function for PluggedBoard {
    fn description(&self) -> &Description {
        &self.assembly.description
    }

    fn read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        // What nothing answers reads as all ones.
        data.fill(0xff);
        if self.link_down() {
            return;
        }
        match self.bar(bar) {
            Some(Bar::Registers(registers)) => read_registers(&**registers, offset, data),
            Some(Bar::Bus(window)) => window.read(offset, data),
            None => {}
        }
    }

    fn write(&self, bar: usize, offset: u64, data: &[u8]) {
        if self.link_down() {
            return;
        }
        match self.bar(bar) {
            Some(Bar::Registers(registers)) => write_registers(&**registers, offset, data),
            Some(Bar::Bus(window)) => window.write(offset, data),
            None => {}
        }
    }

    fn mappable(&self, bar: usize) -> Option<Mappable<'_>> {
        match self.bar(bar)? {
            Bar::Bus(window) => window.mappable(),
            Bar::Registers(_) => None,
        }
    }

    fn reset(&self) {
        for bar in self.assembly.bars.iter().flatten() {
            match bar {
                Bar::Registers(registers) => registers.reset(),
                Bar::Bus(BusWindow { bus, .. }) => bus.reset(),
            }
        }
    }

    fn link_down(&self) -> bool {
        self.faults.link_down()
    }
}
