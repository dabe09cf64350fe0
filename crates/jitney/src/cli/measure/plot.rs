//! Curves as pictures.

use crate::cli::errno::{FileError, must_be_writable};
use crate::cli::report::Report;
use anyhow::{anyhow, bail};
use clap::Args;
use plotters::prelude::*;
use std::path::PathBuf;

/// Whether, and where, a picture is wanted.
#[derive(Debug, Args)]
pub(crate) struct Plot {
    /// Draw it into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

impl Plot {
    pub(crate) const fn is_wanted(&self) -> bool {
        self.plot.is_some()
    }

    /// Fails before anything is measured if so many boards do not fit a picture, or it could not be written.
    pub(crate) fn check(&self, boards: usize) -> anyhow::Result<()> {
        let Some(path) = &self.plot else { return Ok(()) };
        if boards > 1 {
            bail!("one picture cannot show {boards} boards: name one with --only, for {}", path.display());
        }
        must_be_writable(path)
    }

    /// Writes what was drawn, if anything was.
    pub(crate) fn write(&self, picture: Option<&str>, report: &Report) -> anyhow::Result<()> {
        if let (Some(path), Some(picture)) = (&self.plot, picture) {
            std::fs::write(path, picture)
                .map_err(|error| FileError::new(path.display().to_string(), error))?;
            report.line(format!("drawn in {}", path.display()));
        }
        Ok(())
    }
}

/// A curve and what it is called.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    /// Goes on with the curve of this name, or begins it.
    pub(crate) fn add(curves: &mut Vec<Self>, name: String, point: (f64, f64)) {
        match curves.iter_mut().find(|curve| curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Self { name, points: vec![point] }),
        }
    }
}

/// What is drawn along an axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis<'a> {
    pub(crate) name: &'a str,
    /// How a value is written.
    pub(crate) label: fn(f64) -> String,
}

const SIZE: (u32, u32) = (900, 480);

/// The curves as SVG, both axes logarithmic; values that are not positive are left out.
pub(crate) fn svg(title: &str, x: Axis<'_>, y: Axis<'_>, curves: &[Curve]) -> anyhow::Result<String> {
    let positive = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points
            .iter()
            .copied()
            .filter(|(x, y)| *x > 0.0 && *y > 0.0 && x.is_finite() && y.is_finite())
            .collect()
    };
    let curves: Vec<(&str, Vec<(f64, f64)>)> =
        curves.iter().map(|curve| (curve.name.as_str(), positive(&curve.points))).collect();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let all = || curves.iter().flat_map(|(_, points)| points.iter().map(of));
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        if least.is_finite() { (least * 0.8, most * 1.25) } else { (1.0, 10.0) }
    };
    let ((x0, x1), (y0, y1)) = (range(|point| point.0), range(|point| point.1));
    let mut picture = String::new();
    let failed = |error: String| anyhow!("a picture could not be drawn: {error}");
    {
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 20))
            .margin(10)
            .x_label_area_size(45)
            .y_label_area_size(75)
            .build_cartesian_2d((x0..x1).log_scale(), (y0..y1).log_scale())
            .map_err(|error| failed(error.to_string()))?;
        let (x_label, y_label) = (|value: &f64| (x.label)(*value), |value: &f64| (y.label)(*value));
        chart
            .configure_mesh()
            .x_desc(x.name)
            .y_desc(y.name)
            .x_label_formatter(&x_label)
            .y_label_formatter(&y_label)
            .draw()
            .map_err(|error| failed(error.to_string()))?;
        for (index, (name, points)) in curves.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            let marks = points.iter().map(|point| Circle::new(*point, 3, color.filled()));
            chart.draw_series(marks).map_err(|error| failed(error.to_string()))?;
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))
                .map_err(|error| failed(error.to_string()))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(|error| failed(error.to_string()))?;
        root.present().map_err(|error| failed(error.to_string()))?;
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_curves_and_nothing_breaks_without_any() {
        let axis = Axis { name: "bytes", label: |value| format!("{value:.0}") };
        let curve = Curve {
            name: "h2c <0>".into(),
            points: vec![(0.0, 1.0), (4096.0, 10.0), (8192.0, f64::NAN), (8192.0, 20.0)],
        };
        let picture = svg("rates", axis, axis, &[curve]).unwrap();
        assert!(
            picture.starts_with("<svg") && picture.contains("h2c &lt;0&gt;") && picture.contains("<polyline")
        );
        assert!(svg("none", axis, axis, &[]).unwrap().contains("none"));
    }
}
