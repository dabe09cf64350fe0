//! Curves as pictures.

use crate::errno::{FileError, must_be_writable};
use crate::report::Report;
use crate::size::human;
use anyhow::{anyhow, bail};
use clap::Args;
use plotters::prelude::*;
use std::path::PathBuf;

/// Whether, and where, a picture is wanted.
#[derive(Debug, Args)]
pub(crate) struct Plot {
    /// Draw it into this file; one that is there is overwritten.
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
pub(crate) struct Axis {
    name: &'static str,
    /// How a value is written.
    label: fn(f64) -> String,
    marks: Marks,
}

impl Axis {
    /// How large transfers are.
    pub(crate) const BYTES: Self = Self { name: "bytes of a transfer", label: bytes, marks: Marks::Binary };

    /// Something that is measured, and how a value of it is written.
    pub(crate) const fn measured(name: &'static str, label: fn(f64) -> String) -> Self {
        Self { name, label, marks: Marks::Decimal }
    }

    fn marks(self, (least, most): (f64, f64)) -> Vec<f64> {
        let inside = |marks: &[f64], base: f64, powers: std::ops::Range<i32>| -> Vec<f64> {
            let all = powers.flat_map(|power| marks.iter().map(move |mark| mark * base.powi(power)));
            all.filter(|mark| (least..=most).contains(mark)).collect()
        };
        match self.marks {
            Marks::Binary => {
                let all = inside(&[1.0], 2.0, 0..64);
                let step = all.len().div_ceil(MOST_MARKS).max(1);
                all.into_iter().step_by(step).collect()
            }
            Marks::Decimal => {
                let ones: Vec<f64> = (1..10).map(f64::from).collect();
                let tiers = [&ones[..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
                let mut tiers = tiers.iter().map(|tier| inside(tier, 10.0, -6..16));
                match tiers.find(|marks| marks.len() <= MOST_MARKS) {
                    Some(marks) if marks.len() > 2 => marks,
                    Some(_) => even((least, most)),
                    None => Vec::new(),
                }
            }
        }
    }
}

/// The corner of a picture that curves leave free for their names, if there is one.
fn free_corner(
    curves: &[(&str, Vec<(f64, f64)>)],
    (x0, x1): (f64, f64),
    (y0, y1): (f64, f64),
) -> Option<SeriesLabelPosition> {
    /// What the names take of a picture, each way.
    const TAKEN: (f64, f64) = (0.24, 0.34);
    const STEPS: u8 = 16;
    let along = |value: f64, least: f64, most: f64| (value / least).ln() / (most / least).ln();
    let place = |(x, y): &(f64, f64)| (along(*x, x0, x1), along(*y, y0, y1));
    let mut places = Vec::new();
    for (_, points) in curves {
        let points: Vec<(f64, f64)> = points.iter().map(place).collect();
        places.extend(&points);
        for pair in points.windows(2) {
            let ((from_x, from_y), (to_x, to_y)) = (pair[0], pair[1]);
            places.extend((1..STEPS).map(|step| {
                let part = f64::from(step) / f64::from(STEPS);
                (from_x + part * (to_x - from_x), from_y + part * (to_y - from_y))
            }));
        }
    }
    let crossed = |left: bool, upper: bool| {
        let is_in = |(x, y): &(f64, f64)| {
            let x = if left { *x } else { 1.0 - x };
            let y = if upper { 1.0 - y } else { *y };
            x < TAKEN.0 && y < TAKEN.1
        };
        places.iter().any(is_in)
    };
    let corners = [
        (crossed(true, true), SeriesLabelPosition::UpperLeft),
        (crossed(false, false), SeriesLabelPosition::LowerRight),
        (crossed(false, true), SeriesLabelPosition::UpperRight),
        (crossed(true, false), SeriesLabelPosition::LowerLeft),
    ];
    corners.into_iter().find(|(crossed, _)| !crossed).map(|(_, corner)| corner)
}

/// Round values at even distances, for an axis that is too short for those of a logarithm.
fn even((least, most): (f64, f64)) -> Vec<f64> {
    let power = 10_f64.powf((most - least).log10().floor());
    let steps = [0.1, 0.2, 0.5, 1.0].map(|part| part * power);
    let fits = |step: &f64| (most - least) / step < 6.0;
    let Some(step) = steps.into_iter().find(fits) else { return Vec::new() };
    let mark = |index: u8| ((least / step).ceil() + f64::from(index)) * step;
    (0..6).map(mark).filter(|mark| *mark <= most).collect()
}

/// Which values are marked along an axis.
#[derive(Debug, Clone, Copy)]
enum Marks {
    /// Powers of two.
    Binary,
    /// What is round in decimal.
    Decimal,
}

/// More marks than that are not read, or stand in each other's way.
const MOST_MARKS: usize = 10;

fn bytes(value: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a mark is a power of two below 2^64"
    )]
    human(value as u64)
}

const SIZE: (u32, u32) = (900, 480);

/// Colours that are told apart on white, by the colour-blind too (M. Okabe and K. Ito, "Color Universal Design").
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
];

/// A title with more letters than that does not fit in the usual size.
const LONG_TITLE: usize = 90;

/// The curves as SVG, both axes logarithmic; values that are not positive are left out.
pub(crate) fn svg(title: &str, x: Axis, y: Axis, curves: &[Curve]) -> anyhow::Result<String> {
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
    let ((x0, x1), (y0, mut y1)) = (range(|point| point.0), range(|point| point.1));
    let corner = free_corner(&curves, (x0, x1), (y0, y1)).unwrap_or_else(|| {
        // There is room for names above all of the curves then.
        y1 *= (y1 / y0).sqrt();
        SeriesLabelPosition::UpperLeft
    });
    let mut picture = String::new();
    let failed = |error: String| anyhow!("a picture could not be drawn: {error}");
    {
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|error| failed(error.to_string()))?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", if title.chars().count() > LONG_TITLE { 13 } else { 20 }))
            .margin(10)
            .margin_right(30)
            .x_label_area_size(50)
            .y_label_area_size(80)
            .build_cartesian_2d(
                (x0..x1).log_scale().with_key_points(x.marks((x0, x1))),
                (y0..y1).log_scale().with_key_points(y.marks((y0, y1))),
            )
            .map_err(|error| failed(error.to_string()))?;
        let (x_label, y_label) = (|value: &f64| (x.label)(*value), |value: &f64| (y.label)(*value));
        chart
            .configure_mesh()
            .x_desc(x.name)
            .y_desc(y.name)
            .x_label_formatter(&x_label)
            .y_label_formatter(&y_label)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 14))
            .draw()
            .map_err(|error| failed(error.to_string()))?;
        for (index, (name, points)) in curves.iter().enumerate() {
            let color = COLORS[index % COLORS.len()].to_rgba();
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
            .position(corner)
            .label_font(("sans-serif", 13))
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
        let axis = Axis::measured("MB/s", |value| format!("{value:.0}"));
        let curve = Curve {
            name: "h2c <0>".into(),
            points: vec![(0.0, 1.0), (4096.0, 10.0), (8192.0, f64::NAN), (8192.0, 20.0)],
        };
        let picture = svg("rates", Axis::BYTES, axis, &[curve]).unwrap();
        assert!(
            picture.starts_with("<svg") && picture.contains("h2c &lt;0&gt;") && picture.contains("<polyline")
        );
        for mark in ["4 KiB", "8 KiB", ">\n10\n<", ">\n20\n<"] {
            assert!(picture.contains(mark), "{mark}: {picture}");
        }
        assert!(svg("none", Axis::BYTES, axis, &[]).unwrap().contains("none"));
    }

    #[test]
    fn names_stand_where_no_curve_is() {
        let corner = |points: &[(f64, f64)]| {
            let corner = free_corner(&[("", points.to_vec())], (1.0, 100.0), (1.0, 100.0));
            corner.map_or_else(|| "none".into(), |corner| format!("{corner:?}"))
        };
        assert_eq!(corner(&[(1.0, 1.0), (10.0, 50.0), (90.0, 90.0)]), "UpperLeft");
        assert_eq!(corner(&[(1.0, 90.0), (90.0, 90.0)]), "LowerRight");
        assert_eq!(corner(&[(1.0, 90.0), (90.0, 1.0)]), "UpperRight");
        assert_eq!(corner(&[(1.0, 90.0), (90.0, 90.0), (90.0, 1.0)]), "LowerLeft");
        assert_eq!(corner(&[(1.0, 90.0), (90.0, 1.0), (1.0, 1.0), (90.0, 90.0)]), "none");
        assert_eq!(corner(&[]), "UpperLeft");
    }

    #[test]
    fn marks_are_round_and_few() {
        let decimal = Axis::measured("MB/s", |value| value.to_string());
        for (range, marks) in [
            ((80.0, 9000.0), &[100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0][..]),
            ((900.0, 1300.0), &[900.0, 1000.0, 1100.0, 1200.0, 1300.0]),
            ((1e-3, 2e9), &[]),
        ] {
            let found = decimal.marks(range);
            assert!(found.len() <= MOST_MARKS, "{found:?}");
            let equal = found.iter().zip(marks).all(|(found, mark)| (found / mark - 1.0).abs() < 1e-9);
            assert!(equal && (marks.is_empty() || found.len() == marks.len()), "{found:?}");
        }
        assert_eq!(Axis::BYTES.marks((3000.0, 20e6)).len(), 7);
        assert_eq!(Axis::BYTES.marks((3000.0, 20e6))[..2], [4096.0, 16384.0]);
        assert_eq!(Axis::BYTES.marks((60.0, 1100.0)), [64.0, 128.0, 256.0, 512.0, 1024.0]);
    }
}
