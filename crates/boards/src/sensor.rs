//! What the monitors of all FPGA families have in common.

use serde::Serialize;

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
}
