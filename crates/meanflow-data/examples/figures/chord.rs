//! One trajectory, its tangent (the instantaneous velocity) and its chord (the average velocity).

use std::error::Error;

use meanflow_core::Schedule;
use meanflow_core::oracle::Mixture;
use meanflow_figures::Drawing;

use super::panel::{Panel, document};
use super::trajectories::{data, trajectory};

/// Where the trajectory begins.
const START: f64 = -1.15;
/// The interval of the chord.
const R: f64 = 0.1;
const T: f64 = 0.8;
/// Length of the tangent in time.
const REACH: f64 = 0.34;

/// The panel.
pub(crate) fn draw() -> Result<String, Box<dyn Error>> {
    let mut drawing = Drawing::new(640.0, 340.0);
    let panel = Panel {
        place: [24.0, 44.0, 592.0, 248.0],
        x: [-0.04, 1.04],
        y: [-1.75, -0.4],
    };
    let title = "v is the tangent of a trajectory, u its chord";
    panel.frame(&mut drawing, title, "noise, t = 1  →  data, t = 0");
    let data = data()?;
    panel.line(&mut drawing, "thick-blue", &trajectory(&data, START)?);
    let (z_t, z_r) = (state(&data, T)?, state(&data, R)?);
    let v = data.velocity(&Schedule::Linear, z_t, T);
    // Time runs to the left here, so a step towards the data is one by −v.
    let along = |length: f64| [1.0 - T + length, z_t - length * v];
    let (here, there, tangent, end) = (along(0.0), [1.0 - R, z_r], along(REACH), along(T - R));
    panel.line(&mut drawing, "dash", &[tangent, end]);
    panel.arrow(&mut drawing, "thick-orange", here, there);
    panel.arrow(&mut drawing, "blue", here, tangent);
    panel.dots(&mut drawing, "dot-text", 4.5, &[here, there]);
    let middle = [f64::midpoint(here[0], there[0]), f64::midpoint(z_t, z_r)];
    let says = "tangent: where v(z_t, t) points";
    let chord = "chord: (t − r) · u(z_t, r, t)";
    for (class, point, [dx, dy], anchor, text) in [
        ("text", here, [-4.0, -12.0], "end", "z_t"),
        ("text", there, [0.0, 22.0], "middle", "z_r"),
        ("say-blue", end, [-120.0, 8.0], "end", says),
        ("say-orange", middle, [-16.0, 24.0], "end", chord),
    ] {
        let [x, y] = panel.at(point);
        drawing.text(class, [x + dx, y + dy], anchor, text);
    }
    let title = "The tangent leaves a bent trajectory, the chord joins two of its points";
    Ok(document(&drawing, title))
}

/// The state of the trajectory at a time.
fn state(data: &Mixture, t: f64) -> Result<f64, Box<dyn Error>> {
    let u = data.average_velocity(&Schedule::Linear, START, t, 1.0)?;
    Ok(START - (1.0 - t) * u)
}
