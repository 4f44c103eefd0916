//! Text of a terminal as a drawing: commands, lines that begin with `$`, are brighter than what they printed.

use std::fmt::Write;

use meanflow_figures::escape;

/// Pixels from line to line.
const LINE: f64 = 19.0;
/// Width of a letter at this size.
const LETTER: f64 = 7.83;

/// The lines on a dark card, as wide as the longest.
pub(crate) fn draw(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let lengths = lines.iter().map(|line| line.chars().count());
    let longest = lengths.max().unwrap_or(0);
    let width = (40.0 + longest as f64 * LETTER).round();
    let height = 58.0 + lines.len() as f64 * LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13\">\n<title>Text of a terminal</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1b2027\"/>\n"
    );
    for (index, color) in ["#ff6b5e", "#f5bf4f", "#5fc454"].iter().enumerate() {
        let x = 22 + 18 * index;
        let _ = writeln!(svg, r#"<circle cx="{x}" cy="18" r="5" fill="{color}"/>"#);
    }
    for (index, line) in lines.iter().enumerate() {
        let y = 52.0 + index as f64 * LINE;
        let is_command = line.starts_with('$');
        let color = if is_command { "#8fd3ff" } else { "#d6dce4" };
        let line = escape(line);
        let _ = writeln!(
            svg,
            "<text x=\"20\" y=\"{y}\" fill=\"{color}\" xml:space=\"preserve\">{line}</text>"
        );
    }
    svg.push_str("</svg>\n");
    svg
}
