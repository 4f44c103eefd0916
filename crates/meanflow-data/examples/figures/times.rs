//! The triangle of times (r, t) and where recipes draw from it.

use meanflow_core::{MaskOrder, MeanFlowRatio, Purpose, RngStream, TimeDistribution, TimeSampler};
use meanflow_figures::Drawing;

use super::panel::{Panel, document};

/// Pairs drawn for each panel.
const PAIRS: usize = 1000;

/// The law of the paper's ImageNet recipes, and that of `configs/digits.toml`.
fn laws() -> [(&'static str, TimeSampler); 2] {
    let normal = |mean, std| TimeDistribution::LogitNormal { mean, std };
    let law = |t, r, ratio, order| TimeSampler {
        t,
        r,
        mean_flow_ratio: MeanFlowRatio::Count(ratio),
        order,
    };
    let imagenet = law(normal(-0.4, 1.0), None, 0.25, MaskOrder::AfterOrdering);
    let r = Some(normal(-4.0, 1.6));
    let digits = law(normal(-0.6, 1.6), r, 0.5, MaskOrder::BeforeOrdering);
    [
        ("ImageNet recipes", imagenet),
        ("digits and pictures", digits),
    ]
}

/// The two panels.
pub(crate) fn draw() -> String {
    let mut drawing = Drawing::new(700.0, 382.0);
    for (column, (name, law)) in laws().into_iter().enumerate() {
        let panel = Panel {
            place: [46.0 + 336.0 * column as f64, 46.0, 290.0, 290.0],
            x: [0.0, 1.0],
            y: [0.0, 1.0],
        };
        panel.frame(&mut drawing, name, "t: 0 is data, 1 is noise");
        let [left, top, _, height] = panel.place;
        drawing.text("soft", [left - 8.0, top + 10.0], "end", "r");
        panel.line(&mut drawing, "dash", &[[0.0, 0.0], [1.0, 1.0]]);
        let draw = law.draw(PAIRS, &mut RngStream::new(0, Purpose::Times, 0));
        let points: Vec<_> = draw.intervals.iter().map(|i| [i.t(), i.r()]).collect();
        let (mean_flow, flow_matching) = points.split_at(draw.jumps);
        panel.dots(&mut drawing, "faint-blue", 2.0, flow_matching);
        panel.dots(&mut drawing, "faint-orange", 2.0, mean_flow);
        panel.dots(&mut drawing, "dot-text", 5.0, &[[1.0, 0.0]]);
        let corner = [left + 282.0, top + height - 12.0];
        drawing.text("halo", corner, "end", "one-step sampling");
        let share = |rows: usize| (100.0 * rows as f64 / PAIRS as f64).round();
        let without = format!("{} % on the diagonal, r = t", share(PAIRS - draw.jumps));
        let with = format!("{} % below it, r < t", share(draw.jumps));
        drawing.text("say-blue", [left + 14.0, top + 28.0], "start", &without);
        drawing.text("say-orange", [left + 14.0, top + 48.0], "start", &with);
    }
    let title =
        "Pairs of times that two recipes draw: some on the diagonal r = t, the others below it";
    document(&drawing, title)
}
