//! All figures, as a table or as JSON.

use crate::figure::Figure;
use comfy_table::{Table, presets};
use serde::Serialize;
use std::fmt;

/// What came of all rows.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// What came of a row.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// How many programs wanted a processor in the minute before, without this one.
    load_average: Option<f64>,
    figures: Vec<Measured>,
    /// Why there are no figures, though there should be.
    error: Option<String>,
    /// Why there need not be any.
    skipped: Option<String>,
}

/// A row cannot be measured here, which is no defect of anything.
#[derive(Debug)]
pub(crate) struct Skipped(String);

impl Skipped {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl std::error::Error for Skipped {}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Serialize)]
struct Measured {
    #[serde(flatten)]
    figure: Figure,
    met: bool,
}

impl Report {
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        load_average: Option<f64>,
        outcome: anyhow::Result<Vec<Figure>>,
    ) {
        let (figures, error, skipped) = match outcome {
            Ok(figures) => (figures, None, None),
            Err(error) if error.is::<Skipped>() => (Vec::new(), None, Some(error.to_string())),
            Err(error) => (Vec::new(), Some(format!("{error:#}")), None),
        };
        let figures = figures.into_iter().map(|figure| Measured { met: figure.met(), figure }).collect();
        self.rows.push(Row { name, load_average, figures, error, skipped });
    }

    /// Whether something was measured, nothing failed, and every figure meets its bar.
    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().any(|row| !row.figures.is_empty())
            && self.rows.iter().all(|row| row.error.is_none() && row.figures.iter().all(|figure| figure.met))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["Row", "Figure", "Measured", "Bar", "", "Load"]);
        for row in &self.rows {
            let load = row.load_average.map_or_else(|| "?".to_owned(), |load| format!("{load:.1}"));
            for Measured { figure, met } in &row.figures {
                let what = format!("{}\n{}", figure.what, figure.detail);
                let verdict = if *met { "met" } else { "MISSED" };
                table.add_row([row.name, &what, &figure.value(), &figure.bar(), verdict, &load]);
            }
            if let Some(error) = &row.error {
                table.add_row([row.name, error, "", "", "FAILED", &load]);
            }
            if let Some(reason) = &row.skipped {
                table.add_row([row.name, reason, "", "", "skipped", &load]);
            }
        }
        writeln!(f, "{table}")
    }
}

/// The system's load average over the last minute, see proc(5).
pub(crate) fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Bar, Unit};

    fn figure() -> Figure {
        let (what, detail) = (String::new(), String::new());
        Figure { what, measured: 1.0, unit: Unit::Ratio, bar: Bar::AtMost(1.0), detail }
    }

    #[test]
    fn a_row_that_is_skipped_is_no_failure_but_nothing_measured_is_no_success() {
        let mut report = Report::default();
        report.add("kernel", None, Err(Skipped::new("--no-lab was given").into()));
        assert!(!report.all_met());
        report.add("iova", None, Ok(vec![figure()]));
        assert!(report.all_met());
        let table = report.to_string();
        assert!(table.contains("skipped") && table.contains("--no-lab was given"), "{table}");
        report.add("buffer", None, Err(anyhow::anyhow!("no board")));
        assert!(!report.all_met());
    }

    #[test]
    fn figures_come_back_from_a_guest_as_they_were() {
        let line = serde_json::to_string(&[figure()]).unwrap();
        let back: Vec<Figure> = serde_json::from_str(&line).unwrap();
        assert!(back[0].met() && back[0].bar() == "≤ 1");
    }
}
