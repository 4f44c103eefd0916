//! A grid of numbers over (r, t).

use crate::Drawing;
use crate::axis::ends;

/// Pixels of a cell.
const CELL: f64 = 36.0;
/// Room for the names of the axes.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;

/// A map whose rows are r, upwards, and whose columns are t, for a page; a darker cell is a larger number, on a logarithmic scale.
pub fn heat_map(title: &str, times: &[f64], values: &[Vec<Option<f64>>]) -> String {
    let count = times.len() as f64;
    let mut drawing = Drawing::new(LEFT + count * CELL + 16.0, TOP + count * CELL + BOTTOM);
    drawing.title([LEFT, 22.0], title);
    let known = values.iter().flatten().flatten().copied();
    let (low, high) = ends(known.filter(|value| *value > 0.0)).unwrap_or_default();
    let mut axis = |place, anchor, text: &str| drawing.text("axis", place, anchor, text);
    let (bottom, middle) = (TOP + count * CELL, count * CELL / 2.0);
    for (index, time) in times.iter().enumerate() {
        let (along, time) = ((index as f64 + 0.5) * CELL, format!("{time:.1}"));
        axis([LEFT - 10.0, bottom - along + 4.0], "end", &time);
        axis([LEFT + along, bottom + 18.0], "middle", &time);
    }
    axis([LEFT + middle, bottom + 42.0], "middle", "t");
    axis([18.0, TOP + middle], "middle", "r");
    for (row, line) in values.iter().enumerate() {
        let y = bottom - (row + 1) as f64 * CELL;
        for (column, value) in line.iter().enumerate() {
            if let Some(value) = value {
                let place = (LEFT + column as f64 * CELL, y);
                cell(&mut drawing, place, *value, shade(*value, low, high));
            }
        }
    }
    drawing.in_page(title)
}

/// From 0 for the smallest to 1 for the largest.
fn shade(value: f64, low: f64, high: f64) -> f64 {
    if value <= 0.0 || high <= low {
        return 0.0;
    }
    (value / low).ln() / (high / low).ln()
}

fn cell(drawing: &mut Drawing, (x, y): (f64, f64), value: f64, shade: f64) {
    // From a pale to a strong blue, in whose middle black and white are equally legible.
    let [red, green, blue] = [(236.0, 8.0), (243.0, 48.0), (251.0, 107.0)]
        .map(|(pale, strong)| (pale + shade * (strong - pale)) as u8);
    let ink = if shade > 0.5 { "#fff" } else { "#111" };
    let decimals = if value < 0.095 { 3 } else { 2 };
    let text = format!("{value:.decimals$}");
    drawing.add(format_args!(
        r#"<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="rgb({red},{green},{blue})"/><text x="{}" y="{}" text-anchor="middle" font-size="10" fill="{ink}">{text}</text>"#,
        x + CELL / 2.0,
        y + CELL / 2.0 + 4.0
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_cell_and_the_ends_their_shades() {
        let values = [
            vec![None, Some(0.01), Some(1.0)],
            vec![None, None, Some(0.1)],
            vec![None; 3],
        ];
        let svg = heat_map("map", &[0.0, 0.5, 1.0], &values);
        assert_eq!(svg.matches("<rect").count(), 3);
        let shades = ["rgb(236,243,251)", "rgb(8,48,107)"];
        for text in [">0.010<", ">1.00<", ">0.10<"].into_iter().chain(shades) {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(shade(0.1, 0.01, 1.0), 0.5);
        assert_eq!(shade(0.0, 0.01, 1.0), 0.0);
        assert_eq!(shade(0.3, 0.3, 0.3), 0.0);
    }
}
