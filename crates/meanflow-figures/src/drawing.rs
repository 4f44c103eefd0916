//! A drawing that grows by what is added to it, and becomes an SVG document.

use std::fmt::{Display, Write};

/// A drawing of a size in pixels; places in it are counted from its left and upper edge.
///
/// ```
/// use meanflow_figures::Drawing;
///
/// let mut drawing = Drawing::new(80.0, 40.0);
/// drawing.add(r#"<circle class="dot" cx="20" cy="20" r="4"/>"#);
/// drawing.text("text", [30.0, 24.0], "start", "u < v");
/// let svg = drawing.on_card("a dot", ".dot{fill:#2463c4}", ".dot{fill:#7ab0ff}");
/// assert!(svg.contains("u &lt; v"));
/// ```
#[derive(Clone, Debug)]
pub struct Drawing {
    size: [f64; 2],
    body: String,
}

impl Drawing {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Self {
        Self {
            size: [width, height],
            body: String::new(),
        }
    }

    /// Adds SVG as it is; text in it must have passed [`escape`].
    pub fn add(&mut self, element: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// Adds a text at a place; `anchor` is `start`, `middle` or `end`.
    pub fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: &str, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// Adds a large title that begins at a place.
    pub fn title(&mut self, [x, y]: [f64; 2], text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text class=\"title\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"16\" font-weight=\"600\">{text}</text>"
        ));
    }

    /// A document of its own, on a card that is light or dark with the reader's system.
    ///
    /// The classes `text`, `title` and `soft` are for texts and `grid` for lines; rules of further classes, and what is
    /// different on a dark card, are given. A screen reader says `title`.
    pub fn on_card(&self, title: &str, light: &str, dark: &str) -> String {
        let ([width, height], body, title) = (self.size, &self.body, escape(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"12.5\">\n\
             <title>{title}</title>\n<style>{LIGHT}{light}@media (prefers-color-scheme:dark){{{DARK}{dark}}}</style>\n\
             <rect class=\"card\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
        )
    }

    /// A part of a page, in the colour of its text. A screen reader says `title`.
    pub fn in_page(&self, title: &str) -> String {
        let ([width, height], body, title) = (self.size, &self.body, escape(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"currentColor\">\n{body}</svg>"
        )
    }
}

const LIGHT: &str = ".card{fill:#fff}.text,.title{fill:#24292f}.title{font-weight:600}.soft{fill:#5b6470}.grid{stroke:#e4e7eb}";
const DARK: &str =
    ".card{fill:#12161c}.text,.title{fill:#e6eaef}.soft{fill:#9aa4b0}.grid{stroke:#2a313a}";

/// Text as XML allows it: markup escaped, control characters replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ if letter.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_opens_a_tag_or_ends_an_attribute() {
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.text("text", [0.0, 0.0], "start", "<b>\"&\u{0}");
        drawing.title([0.0, 0.0], "<b>");
        for svg in [drawing.on_card("<i>\"", "", ""), drawing.in_page("<i>\"")] {
            assert!(!svg.contains("<b>") && !svg.contains("<i>"), "{svg}");
            assert!(svg.contains("&lt;b&gt;&quot;&amp;\u{FFFD}"), "{svg}");
            assert!(svg.contains("&lt;i&gt;&quot;"), "{svg}");
        }
    }
}
