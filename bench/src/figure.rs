//! A figure and the bar that it has to meet.

use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What the figure is, as "A ÷ B".
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) unit: Unit,
    pub(crate) bar: Bar,
    /// The two sides of the ratio, or how it was come by.
    pub(crate) detail: String,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Ratio,
    Kibibytes,
    Nanoseconds,
    Milliseconds,
    /// Instructions that differ.
    Differences,
}

/// What is good enough.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    pub(crate) fn met(&self) -> bool {
        match self.bar {
            Bar::AtLeast(least) => self.measured >= least,
            Bar::AtMost(most) => self.measured <= most,
        }
    }

    /// The measured value for people.
    pub(crate) fn value(&self) -> String {
        self.unit.show(self.measured)
    }

    /// The bar for people.
    pub(crate) fn bar(&self) -> String {
        match self.bar {
            Bar::AtLeast(least) => format!("≥ {}", self.unit.show_bar(least)),
            Bar::AtMost(most) => format!("≤ {}", self.unit.show_bar(most)),
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Ratio => format!("{value:.2}"),
            Self::Kibibytes => format!("{value:.1} KiB"),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Differences => format!("{value} differ"),
        }
    }

    fn show_bar(self, value: f64) -> String {
        match self {
            Self::Ratio | Self::Differences => format!("{value}"),
            Self::Kibibytes => format!("{value} KiB"),
            Self::Nanoseconds => format!("{value} ns"),
            Self::Milliseconds => format!("{value} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_the_bar_meets_it_and_nan_meets_none() {
        let figure = |measured, bar| Figure {
            what: String::new(),
            measured,
            unit: Unit::Ratio,
            bar,
            detail: String::new(),
        };
        assert!(figure(0.8, Bar::AtLeast(0.8)).met() && !figure(0.79, Bar::AtLeast(0.8)).met());
        assert!(figure(4.0, Bar::AtMost(4.0)).met() && !figure(4.01, Bar::AtMost(4.0)).met());
        assert!(!figure(f64::NAN, Bar::AtLeast(0.8)).met() && !figure(f64::NAN, Bar::AtMost(4.0)).met());
    }
}
