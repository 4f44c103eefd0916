//! Noise and three data points on a line: straight paths that cross, the curved trajectories of their mean velocity,
//! and one jump along the average velocity of each.

use std::error::Error;

use meanflow_core::oracle::{Gaussian, Mixture};
use meanflow_core::{CoreError, Purpose, RngStream, Schedule};
use meanflow_figures::Drawing;

use super::panel::{Panel, document};

/// Data points, each as a narrow Gaussian.
const DATA: [f64; 3] = [-1.6, 0.2, 1.5];
/// Their standard deviation, which keeps the velocity finite at the data.
const WIDTH: f64 = 0.05;
/// Trajectories that are drawn; they begin at evenly spaced quantiles of the noise.
const COUNT: usize = 17;
/// Straight pieces of a curve.
const PIECES: usize = 80;

/// Three such narrow Gaussians of one weight.
pub(crate) fn data() -> Result<Mixture, Box<dyn Error>> {
    let component = |mean| Ok((1.0, Gaussian::new(mean, WIDTH)?));
    let components: Result<Vec<_>, CoreError> = DATA.into_iter().map(component).collect();
    Ok(Mixture::new(components?)?)
}

/// The trajectory (M6) that begins at noise `e`, as points (1 − t, z) from noise to data.
pub(crate) fn trajectory(data: &Mixture, e: f64) -> Result<Vec<[f64; 2]>, Box<dyn Error>> {
    (0..=PIECES)
        .map(|piece| {
            let gone = piece as f64 / PIECES as f64;
            let u = data.average_velocity(&Schedule::Linear, e, 1.0 - gone, 1.0)?;
            // A jump (M15) by the exact average velocity is on the trajectory.
            Ok([gone, e - gone * u])
        })
        .collect()
}

/// The three panels.
pub(crate) fn draw() -> Result<String, Box<dyn Error>> {
    let mut drawing = Drawing::new(840.0, 330.0);
    let panels = [0.0, 1.0, 2.0].map(|column| Panel {
        place: [24.0 + 272.0 * column, 44.0, 248.0, 240.0],
        x: [-0.06, 1.06],
        y: [-2.5, 2.5],
    });
    let titles = [
        "pairs of noise and data",
        "flow matching: many steps",
        "MeanFlow: one jump",
    ];
    for (panel, title) in panels.iter().zip(titles) {
        panel.frame(&mut drawing, title, "noise  →  data");
    }
    pairs(&mut drawing, &panels[0]);
    let mixture = data()?;
    for e in starts() {
        let curve = trajectory(&mixture, e)?;
        let end = *curve.last().ok_or("an empty trajectory")?;
        panels[1].line(&mut drawing, "blue", &curve);
        panels[2].line(&mut drawing, "orange", &[curve[0], end]);
        panels[1].dots(&mut drawing, "dot-blue", 2.4, &[curve[0]]);
        panels[2].dots(&mut drawing, "dot-orange", 2.4, &[curve[0]]);
    }
    for panel in &panels {
        panel.dots(&mut drawing, "dot-text", 4.5, &DATA.map(|x| [1.0, x]));
    }
    let title = "Straight paths between noise and data cross; the trajectories of flow matching bend; one jump of MeanFlow joins their ends";
    Ok(document(&drawing, title))
}

/// Straight paths between independent draws of noise and data (M1).
fn pairs(drawing: &mut Drawing, panel: &Panel) {
    let mut stream = RngStream::new(4, Purpose::Noise, 0);
    for index in 0..48 {
        let e = stream.normal().clamp(-2.4, 2.4);
        let (noise, data) = ([0.0, e], [1.0, DATA[index % DATA.len()]]);
        panel.line(drawing, "grey", &[noise, data]);
        panel.dots(drawing, "dot-blue", 2.0, &[[0.0, e]]);
    }
}

/// Evenly spaced starts that cover nearly all of the noise.
fn starts() -> impl Iterator<Item = f64> {
    (0..COUNT).map(|index| -2.2 + 4.4 * index as f64 / (COUNT - 1) as f64)
}
