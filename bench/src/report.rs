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
    /// Why there are no figures.
    error: Option<String>,
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
        let (figures, error) = match outcome {
            Ok(figures) => (figures, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let figures = figures.into_iter().map(|figure| Measured { met: figure.met(), figure }).collect();
        self.rows.push(Row { name, load_average, figures, error });
    }

    /// Whether everything could be measured and meets its bar.
    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.error.is_none() && row.figures.iter().all(|figure| figure.met))
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
        }
        writeln!(f, "{table}")
    }
}

/// The system's load average over the last minute, see proc(5).
pub(crate) fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
