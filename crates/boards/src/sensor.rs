//! What the monitors of all boards have in common: a quantity and its extremes, its alarm, and a list of readings that looks
//! the same whatever measured them.

use serde::Serialize;
use std::fmt;

/// A quantity and its extremes since the monitor was last reset.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tracked {
    /// The value now.
    pub now: f64,
    /// The least value; `None` if the monitor has not kept one.
    pub min: Option<f64>,
    /// The greatest value; `None` if the monitor has not kept one.
    pub max: Option<f64>,
    /// Whether it is outside of the limits that the design has set; `None` if nobody watches it.
    pub alarm: Option<bool>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Degrees Celsius.
    Temperature,
    /// Volts.
    Voltage,
    /// Amperes.
    Current,
    /// Watts.
    Power,
    /// Turns of a fan in a minute.
    Speed,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Temperature, Self::Voltage, Self::Current, Self::Power, Self::Speed];

    /// Its unit: `°C`, `V`, `A`, `W` or `rpm`.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Temperature => "°C",
            Self::Voltage => "V",
            Self::Current => "A",
            Self::Power => "W",
            Self::Speed => "rpm",
        }
    }

    /// Digits behind the point that a reading of it is worth.
    #[must_use]
    pub const fn decimals(self) -> usize {
        match self {
            Self::Temperature | Self::Power => 1,
            Self::Voltage | Self::Current => 3,
            Self::Speed => 0,
        }
    }
}

/// Writes `temperature`, `voltage` and so on.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Temperature => "temperature",
            Self::Voltage => "voltage",
            Self::Current => "current",
            Self::Power => "power",
            Self::Speed => "speed",
        })
    }
}

/// One sensor's reading, in the unit of its quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// What the sensor is called where it is described: `VCCINT`, `12V_PEX`.
    pub name: String,
    /// What it measures.
    pub quantity: Quantity,
    /// The value now.
    pub now: f64,
    /// The least value since the monitor was reset, if it keeps one.
    pub min: Option<f64>,
    /// The average, if the monitor forms one.
    pub average: Option<f64>,
    /// The greatest value since the monitor was reset, if it keeps one.
    pub max: Option<f64>,
    /// Whether it is outside of its limits; `None` if nobody watches it.
    pub alarm: Option<bool>,
}

impl Reading {
    /// A value alone.
    pub(crate) fn new(name: impl Into<String>, quantity: Quantity, now: f64) -> Self {
        Self { name: name.into(), quantity, now, min: None, average: None, max: None, alarm: None }
    }

    /// A value with its extremes.
    pub(crate) fn tracked(name: &str, quantity: Quantity, tracked: Tracked) -> Self {
        let Tracked { now, min, max, alarm } = tracked;
        Self { min, max, alarm, ..Self::new(name, quantity, now) }
    }
}
