//! A drawing made of panels, each with its own coordinates, on a card that is light or dark with the reader's system.

use std::fmt::Write;

/// A drawing that grows by what is added to it.
pub(crate) struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// A rectangle of the drawing in which a range of two coordinates is shown, the second upwards.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    /// Left, top, width and height in pixels.
    pub(crate) place: [f64; 4],
    /// Least and largest first coordinate.
    pub(crate) x: [f64; 2],
    /// Least and largest second coordinate.
    pub(crate) y: [f64; 2],
}

impl Panel {
    /// Where a point is, in pixels.
    pub(crate) fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [left, top, width, height] = self.place;
        let share = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
        [
            left + width * share(x, self.x),
            top + height * (1.0 - share(y, self.y)),
        ]
    }
}

impl Drawing {
    /// An empty drawing of this size in pixels.
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self {
            width,
            height,
            body: String::new(),
        }
    }

    /// A line through points of a panel.
    pub(crate) fn line(&mut self, panel: &Panel, class: &str, points: &[[f64; 2]]) {
        let mut path = String::new();
        for (index, &point) in points.iter().enumerate() {
            let [x, y] = panel.at(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
        }
        let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{path}\"/>");
    }

    /// Dots of one radius at points of a panel: pieces of no length with round ends.
    pub(crate) fn dots(&mut self, panel: &Panel, class: &str, radius: f64, points: &[[f64; 2]]) {
        let mut path = String::new();
        for &point in points {
            let [x, y] = panel.at(point);
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        let width = 2.0 * radius;
        let _ = writeln!(
            self.body,
            "<path class=\"{class}\" stroke-width=\"{width}\" stroke-linecap=\"round\" d=\"{path}\"/>"
        );
    }

    /// An arrow between two points of a panel.
    pub(crate) fn arrow(&mut self, panel: &Panel, class: &str, from: [f64; 2], to: [f64; 2]) {
        self.line(panel, class, &[from, to]);
        let ([x0, y0], [x1, y1]) = (panel.at(from), panel.at(to));
        let length = (x1 - x0).hypot(y1 - y0);
        let (dx, dy) = ((x1 - x0) / length, (y1 - y0) / length);
        let wing = |side: f64| {
            let (x, y) = (
                x1 - 9.0 * dx + side * 4.0 * dy,
                y1 - 9.0 * dy - side * 4.0 * dx,
            );
            format!("{x:.1} {y:.1}")
        };
        let _ = writeln!(
            self.body,
            "<path class=\"{class}\" d=\"M{}L{x1:.1} {y1:.1}L{}\"/>",
            wing(1.0),
            wing(-1.0)
        );
    }

    /// Text at a place in pixels; `anchor` is `start`, `middle` or `end`.
    pub(crate) fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// The frame of a panel with its title above and the name of its first coordinate below.
    pub(crate) fn frame(&mut self, panel: &Panel, title: &str, below: &str) {
        let [left, top, width, height] = panel.place;
        let _ = writeln!(
            self.body,
            "<rect class=\"frame\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        );
        let middle = left + width / 2.0;
        self.text("title", [middle, top - 12.0], "middle", title);
        self.text("soft", [middle, top + height + 22.0], "middle", below);
    }

    /// The drawing as an SVG document; `title` is what a screen reader says.
    pub(crate) fn finish(self, title: &str) -> String {
        let Self {
            width,
            height,
            body,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\" font-size=\"13\">\n\
             <title>{title}</title>\n<style>{LIGHT}@media (prefers-color-scheme:dark){{{DARK}}}</style>\n\
             <rect class=\"card\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n{body}</svg>\n"
        )
    }
}

/// Text as XML allows it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const LIGHT: &str = ".card{fill:#fff}.title{fill:#24292f;font-weight:600}.text{fill:#24292f}.soft{fill:#5b6470}\
    .frame{fill:none;stroke:#c9d0d8}.blue,.orange,.grey,.thick-blue,.thick-orange,.dash{fill:none;stroke-linejoin:round;stroke-linecap:round}\
    .grey{stroke:#8b949e;stroke-opacity:.45}.dash{stroke:#8b949e;stroke-dasharray:4 4}\
    .blue{stroke:#2463c4;stroke-width:1.2;stroke-opacity:.75}.orange{stroke:#d4620f;stroke-width:1.2;stroke-opacity:.8}\
    .thick-blue{stroke:#2463c4;stroke-width:2.4}.thick-orange{stroke:#d4620f;stroke-width:2.4}\
    .say-blue{fill:#2463c4}.say-orange{fill:#c2570b}.dot-blue{stroke:#2463c4}.dot-orange{stroke:#d4620f}.dot-text{stroke:#24292f}\
    .faint-blue{stroke:#2463c4;stroke-opacity:.4}.faint-orange{stroke:#d4620f;stroke-opacity:.4}\
    .halo{fill:#24292f;stroke:#fff;stroke-width:5;stroke-linejoin:round;paint-order:stroke}";
const DARK: &str = ".card{fill:#12161c}.title,.text{fill:#e6eaef}.soft{fill:#9aa4b0}.frame{stroke:#39424d}.grey,.dash{stroke:#8b96a3}\
    .blue,.thick-blue,.dot-blue,.faint-blue{stroke:#7ab0ff}.orange,.thick-orange,.dot-orange,.faint-orange{stroke:#ff9d52}\
    .say-blue{fill:#7ab0ff}.say-orange{fill:#ff9d52}.dot-text{stroke:#e6eaef}\
    .faint-blue,.faint-orange{stroke-opacity:.6}.halo{fill:#e6eaef;stroke:#12161c}";
