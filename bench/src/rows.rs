//! What is measured.

mod buffer;
mod commands;
mod faces;
mod first_pass;
mod instructions;
mod iova;
pub(crate) mod kernel;
mod memory;
mod pattern;
mod queue;
mod register;
mod requests;
mod ring;
mod streams;
mod transfer;

use crate::figure::Figure;

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) quick: bool,
    /// Boot no virtual machine.
    pub(crate) no_lab: bool,
}

impl Wish {
    /// A number of rounds, fewer if there is no time.
    pub(crate) fn rounds(self, thorough: usize) -> usize {
        if self.quick { thorough.div_ceil(4) } else { thorough }
    }
}

/// Figures that are measured together.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) measure: fn(Wish) -> anyhow::Result<Vec<Figure>>,
}

pub(crate) const ROWS: [Row; 16] = [
    Row { name: "transfer", measure: transfer::measure },
    Row { name: "queue", measure: queue::measure },
    Row { name: "streams", measure: streams::measure },
    Row { name: "ring", measure: ring::measure },
    Row { name: "commands", measure: commands::measure },
    Row { name: "pattern", measure: pattern::measure },
    Row { name: "register", measure: register::measure },
    Row { name: "from-c", measure: faces::c },
    Row { name: "from-python", measure: faces::python },
    Row { name: "buffer", measure: buffer::measure },
    Row { name: "requests", measure: requests::measure },
    Row { name: "iova", measure: iova::measure },
    Row { name: "instructions", measure: instructions::measure },
    Row { name: "memory", measure: memory::measure },
    Row { name: "first-pass", measure: first_pass::measure },
    Row { name: "kernel", measure: kernel::measure },
];
