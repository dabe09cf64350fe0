//! `jitney.Board`, `jitney.Design`, `jitney.Reading`: what a board is, by the catalogue, and what it measures.

use crate::failure::OrRaise;
use jitney::boards::{self, Catalogue, Design as Known, Memory as KnownMemory, designs::names_of};
use pyo3::prelude::*;

/// Memory on a card.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Memory {
    /// What it is made of, where known: `ddr`, `block-ram`, `hbm`, `ultra-ram`.
    kind: Option<String>,
    /// Address of its first byte, on the card.
    base: u64,
    /// Bytes.
    size: u64,
}

#[pymethods]
impl Memory {
    fn __repr__(&self) -> String {
        let kind = self.kind.as_deref().unwrap_or("memory");
        format!("<jitney.Memory: {:#x} bytes of {kind} at {:#x}>", self.size, self.base)
    }
}

fn memories(all: &[KnownMemory]) -> Vec<Memory> {
    let memory = |own: &KnownMemory| Memory {
        kind: own.kind.map(|kind| kind.to_string()),
        base: own.base,
        size: own.size,
    };
    all.iter().map(memory).collect()
}

/// A design of the catalogue.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Design {
    /// The design's name, unique in the catalogue.
    #[pyo3(get)]
    name: String,
    /// Other names of it, of its variants too.
    #[pyo3(get)]
    aliases: Vec<String>,
    /// The board that it is for.
    #[pyo3(get)]
    board: String,
    /// The FPGAs that it is built for.
    #[pyo3(get)]
    fpga: Vec<String>,
    /// Whether it has an XDMA.
    #[pyo3(get)]
    xdma: bool,
    /// What on it has registers and a name.
    #[pyo3(get)]
    peripherals: Vec<String>,
    /// What a user should know besides.
    #[pyo3(get)]
    note: Option<String>,
    memories: Vec<KnownMemory>,
}

impl Design {
    fn new(design: &Known) -> Self {
        let peripherals: Vec<_> = design.peripherals.iter().collect();
        Self {
            name: design.name.clone(),
            aliases: design.names().skip(1).map(str::to_owned).collect(),
            board: design.board.clone(),
            fpga: design.fpga.clone(),
            xdma: design.has_xdma(),
            peripherals: names_of(&peripherals),
            note: design.note.clone(),
            memories: design.memory.clone(),
        }
    }
}

#[pymethods]
impl Design {
    /// The memories that its DMA engine reaches.
    #[getter]
    fn memories(&self) -> Vec<Memory> {
        memories(&self.memories)
    }

    fn __repr__(&self) -> String {
        format!("<jitney.Design {} for {}>", self.name, self.board)
    }
}

/// The designs that are known: those of the library, and the user's.
pub(crate) fn designs() -> PyResult<Vec<Design>> {
    let catalogue = Catalogue::load().map_err(boards::Error::from).or_raise()?;
    Ok(catalogue.designs().map(|design| Design::new(design)).collect())
}

/// Which board a card is.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Board {
    /// The board's name.
    #[pyo3(get)]
    name: String,
    /// The design's name.
    #[pyo3(get)]
    design: String,
    /// The board's version, if its design has one.
    #[pyo3(get)]
    version: Option<u32>,
    /// The FPGAs that it may have.
    #[pyo3(get)]
    fpga: Vec<String>,
    memories: Vec<KnownMemory>,
}

impl Board {
    pub(crate) fn new(board: &boards::Board) -> Self {
        Self {
            name: board.name().to_owned(),
            design: board.design().name.clone(),
            version: board.version(),
            fpga: board.fpga().to_vec(),
            memories: board.memories().to_vec(),
        }
    }
}

#[pymethods]
impl Board {
    /// The memories that its DMA engine reaches.
    #[getter]
    fn memories(&self) -> Vec<Memory> {
        memories(&self.memories)
    }

    fn __repr__(&self) -> String {
        let version = self.version.map(|version| format!(" version {version}")).unwrap_or_default();
        format!("<jitney.Board {}{version} ({})>", self.name, self.design)
    }
}

/// What a sensor says.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Reading {
    /// What measures: `xadc`, `sysmon`, `cms`.
    monitor: String,
    /// What the sensor is called.
    name: String,
    /// `temperature`, `voltage`, `current`, `power` or `speed`.
    quantity: String,
    /// The unit of the values.
    unit: &'static str,
    /// The value now.
    now: f64,
    /// The least value since the monitor was reset, if it keeps one.
    min: Option<f64>,
    /// The average, if the monitor forms one.
    average: Option<f64>,
    /// The greatest value since the monitor was reset, if it keeps one.
    max: Option<f64>,
    /// Whether it is outside of its limits; None if nobody watches it.
    alarm: Option<bool>,
}

impl Reading {
    pub(crate) fn new(monitor: String, reading: boards::Reading) -> Self {
        let boards::Reading { name, quantity, now, min, average, max, alarm } = reading;
        let (unit, quantity) = (quantity.unit(), quantity.to_string());
        Self { monitor, name, quantity, unit, now, min, average, max, alarm }
    }
}

#[pymethods]
impl Reading {
    fn __repr__(&self) -> String {
        format!("<jitney.Reading {} {}: {:.3} {}>", self.monitor, self.name, self.now, self.unit)
    }
}
