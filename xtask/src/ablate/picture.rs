//! The picture of the document: every variant a line, at one and at two steps, in two panels with logarithmic axes.

use super::document::measured;
use super::parts::{BASE, PARTS, Row};
use super::results::{Outcome, Results};
use meanflow_figures::Drawing;

const WIDTH: f64 = 820.0;
/// Height of a line, and of the title of a part.
const LINE: f64 = 19.0;
const TITLE: f64 = 34.0;
/// Where the first part begins.
const TOP: f64 = 86.0;
/// What is left below the last line.
const BOTTOM: f64 = 44.0;
/// Right end of the labels.
const LABELS: f64 = 178.0;

/// A panel: a number of a run on a logarithmic axis.
struct Panel {
    title: &'static str,
    number: fn(&Outcome, usize) -> f64,
    /// Pixels.
    left: f64,
    right: f64,
    /// Values at these pixels.
    low: f64,
    high: f64,
}

/// The chart as an SVG document, for light and dark pages.
pub(super) fn svg(results: &Results) -> String {
    let panels = [
        Panel::new("Fréchet distance", frechet, [200.0, 480.0], results),
        Panel::new(
            "samples of a wrong class, %",
            wrong,
            [520.0, 800.0],
            results,
        ),
    ];
    let parts = || PARTS.iter().filter(|part| measured(part, results));
    let measured = |row: &&Row| !results.of(&row.run).is_empty();
    let rows = parts().flat_map(|part| part.rows.iter().filter(measured));
    let bottom = TOP + TITLE * parts().count() as f64 + LINE * (rows.count() + 1) as f64;
    let mut drawing = Drawing::new(WIDTH, bottom + BOTTOM);
    drawing.title([20.0, 34.0], NAME);
    for (x, class, text) in [(626.0, "one", "1 step"), (704.0, "two", "2 steps")] {
        drawing.add(circle(class, [x, 29.0]));
        drawing.text("text", [x + 10.0, 33.3], "start", text);
    }
    for panel in &panels {
        panel.draw_axis(&mut drawing, bottom);
    }
    let mut y = TOP;
    for part in parts() {
        y += TITLE;
        drawing.text("title", [20.0, y], "start", &part.title);
        for row in part.rows.iter().filter(measured) {
            y += LINE;
            draw_row(&mut drawing, row, y, &panels, results);
        }
    }
    drawing.on_card(NAME, LIGHT, DARK)
}

/// What the chart shows.
const NAME: &str = "One setting at a time: digits by one and by two steps";
/// Rules of lines and marks, and which of them are others on a dark card.
const LIGHT: &str = ".between{stroke:#aeb6bf}.one{fill:#2463c4;stroke:#2463c4}.two{fill:#fff;stroke:#d4620f;stroke-width:1.8}\
    .range{fill:none;stroke-width:3;stroke-opacity:.45}";
const DARK: &str =
    ".between{stroke:#525c68}.one{fill:#7ab0ff;stroke:#7ab0ff}.two{fill:#12161c;stroke:#ff9d52}";

fn circle(class: &str, [x, y]: [f64; 2]) -> String {
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>")
}

fn frechet(outcome: &Outcome, steps: usize) -> f64 {
    outcome.scores[steps].frechet
}

/// In percent; none at all is drawn as half a sample of the 1797.
fn wrong(outcome: &Outcome, steps: usize) -> f64 {
    (100.0 * (1.0 - outcome.scores[steps].accuracy)).max(100.0 * 0.5 / 1797.0)
}

fn draw_row(drawing: &mut Drawing, row: &Row, y: f64, panels: &[Panel], results: &Results) {
    let class = if row.run == BASE { "title" } else { "text" };
    drawing.text(class, [LABELS, y + 4.3], "end", &row.label);
    for panel in panels {
        let at = |steps| results.spread(&row.run, |run| (panel.number)(run, steps));
        let (Some(one), Some(two)) = (at(0), at(1)) else {
            continue;
        };
        let [x1, x2] = [one, two].map(|spread| panel.place(spread.mean));
        drawing.add(format_args!(
            "<path class=\"between\" d=\"M{x1:.1} {y:.1}H{x2:.1}\"/>"
        ));
        for (spread, class) in [(one, "one"), (two, "two")] {
            let (low, high) = (panel.place(spread.low), panel.place(spread.high));
            if high - low > 1.0 {
                drawing.add(format_args!(
                    "<path class=\"{class} range\" d=\"M{low:.1} {y:.1}H{high:.1}\"/>"
                ));
            }
        }
        drawing.add(circle("two", [x2, y]));
        drawing.add(circle("one", [x1, y]));
    }
}

impl Panel {
    /// A panel between these pixels for all that is drawn.
    fn new(
        title: &'static str,
        number: fn(&Outcome, usize) -> f64,
        [left, right]: [f64; 2],
        results: &Results,
    ) -> Self {
        let numbers = results
            .all()
            .flat_map(|run| [number(run, 0), number(run, 1)]);
        let ends = numbers.fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| {
                (low.min(value), high.max(value))
            }))
        });
        let (low, high) = ends.unwrap_or((1.0, 10.0));
        Self {
            title,
            number,
            left,
            right,
            low: low / 1.3,
            high: high * 1.3,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.left + share.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// 1, 2 and 5 times powers of ten.
    fn ticks(&self) -> Vec<(f64, String)> {
        let decades = -3..=6;
        let ticks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| (digit, decade)));
        let tick = |(digit, decade): (f64, i32)| {
            let decimals = decade.min(0).unsigned_abs() as usize;
            let value = digit * 10_f64.powi(decade);
            (value, format!("{value:.decimals$}"))
        };
        let inside = |(value, _): &(f64, String)| (self.low..=self.high).contains(value);
        ticks.map(tick).filter(inside).collect()
    }

    fn draw_axis(&self, drawing: &mut Drawing, bottom: f64) {
        let middle = f64::midpoint(self.left, self.right);
        drawing.text("title", [middle, TOP - 18.0], "middle", self.title);
        for (value, text) in self.ticks() {
            let x = self.place(value);
            drawing.add(format_args!(
                "<path class=\"grid\" d=\"M{x:.1} {TOP:.1}V{bottom:.1}\"/>"
            ));
            drawing.text("soft", [x, bottom + 17.0], "middle", &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parts::variants;
    use super::super::results::outcome;
    use super::*;

    #[test]
    fn every_measured_row_is_drawn_in_both_panels() {
        let mut results = Results::default();
        for variant in variants(&["omega".to_owned()]) {
            results.add(&variant.run, outcome([30.0, 20.0], [0.9, 1.0]));
        }
        let svg = svg(&results);
        // Four rows of ω, and κ = 0, which is one of them; two marks in each of two panels, and the legend.
        assert_eq!(svg.matches("<circle").count(), 5 * 4 + 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn an_axis_goes_from_left_to_right_with_round_numbers() {
        let panel = Panel {
            title: "",
            number: frechet,
            left: 100.0,
            right: 300.0,
            low: 0.05,
            high: 20.0,
        };
        let labels: Vec<String> = panel.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(
            labels,
            ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]
        );
        let places = [0.001, 0.05, 1.0, 20.0, 99.0].map(|value| panel.place(value));
        // 1 lies in the middle, 20 times the lowest and a 20th of the highest; rounding of a few operations.
        assert_eq!(
            [places[0], places[1], places[3], places[4]],
            [100.0, 100.0, 300.0, 300.0]
        );
        assert!((places[2] - 200.0).abs() < 1e-9);
    }
}
