//! A grid of numbers over (r, t) as SVG.

use std::fmt::Write;

/// Pixels of a cell.
const CELL: f64 = 36.0;
/// Room for the names of the axes.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;

/// A map whose rows are r, upwards, and whose columns are t; a darker cell is a larger number, on a logarithmic scale.
pub(super) fn svg(title: &str, times: &[f64], values: &[Vec<Option<f64>>]) -> String {
    let count = times.len() as f64;
    let (width, height) = (LEFT + count * CELL + 16.0, TOP + count * CELL + BOTTOM);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}" font-family="system-ui, sans-serif" font-size="12"><text x="{LEFT}" y="22" font-size="14" font-weight="600" fill="currentColor">{title}</text>"#
    );
    let known = values
        .iter()
        .flatten()
        .flatten()
        .copied()
        .filter(|value| *value > 0.0);
    let (low, high) = known.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    for (row, (r, line)) in times.iter().zip(values).enumerate() {
        let y = TOP + (count - 1.0 - row as f64) * CELL;
        axis(
            &mut svg,
            LEFT - 10.0,
            y + CELL / 2.0 + 4.0,
            "end",
            &format!("{r:.1}"),
        );
        for (column, value) in line.iter().enumerate() {
            if let Some(value) = value {
                let x = LEFT + column as f64 * CELL;
                cell(&mut svg, (x, y), *value, shade(*value, low, high));
            }
        }
    }
    let bottom = TOP + count * CELL;
    for (column, t) in times.iter().enumerate() {
        let x = LEFT + (column as f64 + 0.5) * CELL;
        axis(&mut svg, x, bottom + 18.0, "middle", &format!("{t:.1}"));
    }
    axis(
        &mut svg,
        LEFT + count * CELL / 2.0,
        bottom + 42.0,
        "middle",
        "t",
    );
    axis(&mut svg, 18.0, TOP + count * CELL / 2.0, "middle", "r");
    svg + "</svg>"
}

/// From 0 for the smallest to 1 for the largest.
fn shade(value: f64, low: f64, high: f64) -> f64 {
    if value <= 0.0 || high <= low {
        return 0.0;
    }
    (value / low).ln() / (high / low).ln()
}

fn cell(svg: &mut String, (x, y): (f64, f64), value: f64, shade: f64) {
    // From a pale to a strong blue, in whose middle black and white are equally legible.
    let [red, green, blue] = [(236.0, 8.0), (243.0, 48.0), (251.0, 107.0)]
        .map(|(pale, strong)| (pale + shade * (strong - pale)) as u8);
    let ink = if shade > 0.5 { "#fff" } else { "#111" };
    let text = if value < 0.095 {
        format!("{value:.3}")
    } else {
        format!("{value:.2}")
    };
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        r#"<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="rgb({red},{green},{blue})"/><text x="{}" y="{}" text-anchor="middle" font-size="10" fill="{ink}">{text}</text>"#,
        x + CELL / 2.0,
        y + CELL / 2.0 + 4.0
    );
}

fn axis(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(
        svg,
        r#"<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor">{text}</text>"#
    );
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
        let svg = svg("map", &[0.0, 0.5, 1.0], &values);
        assert_eq!(svg.matches("<rect").count(), 3);
        for text in [
            ">0.010<",
            ">1.00<",
            ">0.10<",
            "rgb(236,243,251)",
            "rgb(8,48,107)",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(shade(0.1, 0.01, 1.0), 0.5);
        assert_eq!(shade(0.0, 0.01, 1.0), 0.0);
        assert_eq!(shade(0.3, 0.3, 0.3), 0.0);
    }
}
