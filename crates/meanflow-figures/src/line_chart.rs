//! Curves over a common axis, such as losses over steps.

use std::fmt::Write;

use crate::axis::Axis;
use crate::curve;
use crate::{Drawing, Scale, escape};

/// Curves over a common axis.
#[derive(Clone, Debug)]
pub struct LineChart {
    /// One line above everything.
    pub title: String,
    /// What runs to the right, with its unit.
    pub x_label: String,
    /// What runs upwards, with its unit.
    pub y_label: String,
    /// Scale of the upward axis; the other one is linear.
    pub y_scale: Scale,
    /// The curves; the legend names them in this order when there are several.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points (x, y) in the order of x. A point that cannot be drawn (NaN, infinite, not positive on a
    /// logarithmic axis) interrupts the line.
    pub points: Vec<(f64, f64)>,
    /// Points over which a strong line averages (centred, fewer at the ends), the points themselves being a faint
    /// line behind it; 0 or 1 draws the points alone, strongly.
    pub smooth_over: usize,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// Pixels right of the plot, which keep half of the last tick label.
const RIGHT: f64 = 28.0;
/// Pixels below the plot: tick labels and the name of the axis.
const BOTTOM: f64 = 58.0;
/// Height of one row of the legend.
const ROW: f64 = 21.0;
/// Mean width of a letter at the size of the labels; only spacing depends on it.
const LETTER: f64 = 6.7;
/// Strong and clear colours, and their brighter sisters for a dark background. A seventh curve starts again, dashed.
const COLORS: [(&str, &str); 6] = [
    ("#2463c4", "#7ab0ff"),
    ("#d4620f", "#ff9d52"),
    ("#14855f", "#4fd1a1"),
    ("#a83f8f", "#ec8bd4"),
    ("#8a6d00", "#dcbf4a"),
    ("#4d5b6b", "#b3c0cf"),
];

/// Rules of the lines, and which of them are others on a dark card.
const LIGHT: &str = ".fine{stroke:#f1f3f5}.axis{stroke:#8b949e}.c{fill:none;stroke-linejoin:round;stroke-linecap:round}";
const DARK: &str = ".fine{stroke:#1c222a}.axis{stroke:#6b7480}";

impl LineChart {
    /// The chart as an SVG document, which follows the reader's light or dark colour scheme.
    pub fn to_svg(&self) -> String {
        let legend = self.legend();
        let rows = legend.last().map_or(0, |&(_, row, _)| row + 1);
        let top = 50.0 + rows as f64 * ROW;
        let values = self.values(|point| point.1);
        let y = Axis::new(values, self.y_scale, HEIGHT - BOTTOM, top);
        let left = 44.0 + y.widest_label() as f64 * LETTER;
        let x = Axis::tight(self.values(|point| point.0), left, WIDTH - RIGHT);
        let mut drawing = Drawing::new(WIDTH, HEIGHT);
        self.draw_axes(&mut drawing, &x, &y);
        self.draw_legend(&mut drawing, &legend, left);
        for (index, series) in self.series.iter().enumerate() {
            draw_series(&mut drawing, index, series, &x, &y);
        }
        let (mut light, mut dark) = (LIGHT.to_owned(), DARK.to_owned());
        for (index, (on_light, on_dark)) in COLORS.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(light, ".c{index}{{stroke:{on_light}}}");
            let _ = write!(dark, ".c{index}{{stroke:{on_dark}}}");
        }
        drawing.on_card(&self.title, &light, &dark)
    }

    /// One coordinate of every point that can be drawn.
    fn values(&self, part: fn((f64, f64)) -> f64) -> impl Iterator<Item = f64> {
        let drawable = |&(x, y): &(f64, f64)| {
            x.is_finite() && y.is_finite() && (self.y_scale == Scale::Linear || y > 0.0)
        };
        let series = self.series.iter();
        let points = series.flat_map(|series| series.points.iter().copied());
        points.filter(drawable).map(part)
    }

    /// Index, row and horizontal offset of every entry, rows filled from the left; one curve needs no legend.
    fn legend(&self) -> Vec<(usize, usize, f64)> {
        let (mut row, mut offset) = (0, 0.0);
        let mut entries = Vec::new();
        if self.series.len() == 1 {
            return entries;
        }
        for (index, series) in self.series.iter().enumerate() {
            let width = 58.0 + series.name.chars().count() as f64 * LETTER;
            if offset > 0.0 && offset + width > WIDTH - 140.0 {
                (row, offset) = (row + 1, 0.0);
            }
            entries.push((index, row, offset));
            offset += width;
        }
        entries
    }

    /// Grid, tick labels, and the three texts.
    fn draw_axes(&self, drawing: &mut Drawing, x: &Axis, y: &Axis) {
        let (left, right, bottom, top) = (x.start, x.end, y.start, y.end);
        for (place, label) in y.ticks() {
            let class = if label.is_some() { "grid" } else { "fine" };
            drawing.add(format_args!(
                "<path class=\"{class}\" d=\"M{left:.1} {place:.1}H{right:.1}\"/>"
            ));
            if let Some(label) = label {
                drawing.text("soft", [left - 9.0, place + 4.3], "end", &label);
            }
        }
        drawing.add(format_args!(
            "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>"
        ));
        for (place, label) in x.ticks() {
            drawing.add(format_args!(
                "<path class=\"axis\" d=\"M{place:.1} {bottom:.1}v5\"/>"
            ));
            let label = label.unwrap_or_default();
            drawing.text("soft", [place, bottom + 19.0], "middle", &label);
        }
        drawing.title([left, 32.0], &self.title);
        let middle = (left + right) / 2.0;
        drawing.text("text", [middle, HEIGHT - 16.0], "middle", &self.x_label);
        let (middle, label) = ((top + bottom) / 2.0, escape(&self.y_label));
        drawing.add(format_args!(
            "<text class=\"text\" transform=\"translate(21 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{label}</text>"
        ));
    }

    fn draw_legend(&self, drawing: &mut Drawing, legend: &[(usize, usize, f64)], left: f64) {
        for &(index, row, offset) in legend {
            let (start, height) = (left + offset, 50.0 + row as f64 * ROW);
            let (class, dash) = look(index);
            drawing.add(format_args!(
                "<path class=\"{class}\" stroke-width=\"2.5\"{dash} d=\"M{start:.1} {height:.1}h20\"/>"
            ));
            let place = [start + 27.0, height + 4.3];
            drawing.text("text", place, "start", &self.series[index].name);
        }
    }
}

/// The faint line of the points and the strong one of their mean, or the points alone.
fn draw_series(drawing: &mut Drawing, index: usize, series: &Series, x: &Axis, y: &Axis) {
    let (class, dash) = look(index);
    let mut line = |points: &[(f64, f64)], style: &str| {
        let path = curve::path(points, x, y);
        if !path.is_empty() {
            drawing.add(format_args!(
                "<path class=\"{class}\" {style}{dash} d=\"{path}\"/>"
            ));
        }
    };
    if series.smooth_over > 1 {
        line(&series.points, "stroke-width=\"1\" stroke-opacity=\"0.28\"");
        let smooth = curve::smooth(&series.points, series.smooth_over);
        line(&smooth, "stroke-width=\"2\"");
    } else {
        line(&series.points, "stroke-width=\"1.6\"");
    }
}

/// Class and dashes of a curve.
fn look(index: usize) -> (String, &'static str) {
    let is_again = index >= COLORS.len();
    let dash = if is_again {
        " stroke-dasharray=\"6 4\""
    } else {
        ""
    };
    (format!("c c{}", index % COLORS.len()), dash)
}
