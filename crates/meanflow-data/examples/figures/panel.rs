//! Panels of a drawing, each with its own coordinates.

use meanflow_figures::Drawing;

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

    /// A line through points.
    pub(crate) fn line(&self, drawing: &mut Drawing, class: &str, points: &[[f64; 2]]) {
        let points = points.iter().map(|point| self.at(*point));
        let points = points.map(|[x, y]| format!("{x:.1} {y:.1}"));
        let path = points.collect::<Vec<_>>().join("L");
        drawing.add(format_args!("<path class=\"{class}\" d=\"M{path}\"/>"));
    }

    /// Dots of one radius: pieces of no length with round ends.
    pub(crate) fn dots(
        &self,
        drawing: &mut Drawing,
        class: &str,
        radius: f64,
        points: &[[f64; 2]],
    ) {
        let points = points.iter().map(|point| self.at(*point));
        let points = points.map(|[x, y]| format!("M{x:.1} {y:.1}h0"));
        let path = points.collect::<String>();
        let width = 2.0 * radius;
        drawing.add(format_args!(
            "<path class=\"{class}\" stroke-width=\"{width}\" stroke-linecap=\"round\" d=\"{path}\"/>"
        ));
    }

    /// An arrow between two points.
    pub(crate) fn arrow(&self, drawing: &mut Drawing, class: &str, from: [f64; 2], to: [f64; 2]) {
        self.line(drawing, class, &[from, to]);
        let ([x0, y0], [x1, y1]) = (self.at(from), self.at(to));
        let length = (x1 - x0).hypot(y1 - y0);
        let (dx, dy) = ((x1 - x0) / length, (y1 - y0) / length);
        let wing = |side: f64| {
            let x = x1 - 9.0 * dx + side * 4.0 * dy;
            let y = y1 - 9.0 * dy - side * 4.0 * dx;
            format!("{x:.1} {y:.1}")
        };
        let (left, right) = (wing(1.0), wing(-1.0));
        drawing.add(format_args!(
            "<path class=\"{class}\" d=\"M{left}L{x1:.1} {y1:.1}L{right}\"/>"
        ));
    }

    /// The frame with its title above and the name of the first coordinate below.
    pub(crate) fn frame(&self, drawing: &mut Drawing, title: &str, below: &str) {
        let [left, top, width, height] = self.place;
        drawing.add(format_args!(
            "<rect class=\"frame\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
        ));
        let middle = left + width / 2.0;
        drawing.text("title", [middle, top - 12.0], "middle", title);
        drawing.text("soft", [middle, top + height + 22.0], "middle", below);
    }
}

/// The drawing as a document; `title` is what a screen reader says.
pub(crate) fn document(drawing: &Drawing, title: &str) -> String {
    drawing.on_card(title, LIGHT, DARK)
}

/// Rules of the classes of these drawings.
const LIGHT: &str = ".frame{fill:none;stroke:#c9d0d8}.blue,.orange,.grey,.thick-blue,.thick-orange,.dash{fill:none;stroke-linejoin:round;stroke-linecap:round}\
    .grey{stroke:#8b949e;stroke-opacity:.45}.dash{stroke:#8b949e;stroke-dasharray:4 4}\
    .blue{stroke:#2463c4;stroke-width:1.2;stroke-opacity:.75}.orange{stroke:#d4620f;stroke-width:1.2;stroke-opacity:.8}\
    .thick-blue{stroke:#2463c4;stroke-width:2.4}.thick-orange{stroke:#d4620f;stroke-width:2.4}\
    .say-blue{fill:#2463c4}.say-orange{fill:#c2570b}.dot-blue{stroke:#2463c4}.dot-orange{stroke:#d4620f}.dot-text{stroke:#24292f}\
    .faint-blue{stroke:#2463c4;stroke-opacity:.4}.faint-orange{stroke:#d4620f;stroke-opacity:.4}\
    .halo{fill:#24292f;stroke:#fff;stroke-width:5;stroke-linejoin:round;paint-order:stroke}";
/// What of them is different on a dark card.
const DARK: &str = ".frame{stroke:#39424d}.grey,.dash{stroke:#8b96a3}\
    .blue,.thick-blue,.dot-blue,.faint-blue{stroke:#7ab0ff}.orange,.thick-orange,.dot-orange,.faint-orange{stroke:#ff9d52}\
    .say-blue{fill:#7ab0ff}.say-orange{fill:#ff9d52}.dot-text{stroke:#e6eaef}\
    .faint-blue,.faint-orange{stroke-opacity:.6}.halo{fill:#e6eaef;stroke:#12161c}";
