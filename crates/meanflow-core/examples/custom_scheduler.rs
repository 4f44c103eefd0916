//! A scheduler of one's own: two functions, which everything of this crate then follows.
//!
//! `cargo run -p meanflow-core --example custom_scheduler`

use std::error::Error;

use meanflow_core::oracle::{Gaussian, along_trajectory};
use meanflow_core::scheduler::{Jet, Scheduler};
use meanflow_core::{Interval, Schedule, identity_residual, jump};
use num_dual::DualNum;

/// `a = cos²(πt/2)`, `b = sin²(πt/2)`: it leaves the data slowly and comes to the noise slowly.
#[derive(Debug)]
struct RaisedCosine;

impl Scheduler for RaisedCosine {
    fn a(&self, t: Jet) -> Jet {
        (t * std::f64::consts::FRAC_PI_2).cos().powi(2)
    }

    fn b(&self, t: Jet) -> Jet {
        (t * std::f64::consts::FRAC_PI_2).sin().powi(2)
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let schedule = Schedule::register("raised-cosine", &RaisedCosine)?;
    for t in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let point = schedule.at(t);
        println!(
            "t = {t:4}: a = {:.3}, b = {:.3}, a' = {:.3}, b' = {:.3}",
            point.a, point.b, point.da, point.db
        );
    }

    // The closed forms and the identity hold on it as on every other path.
    let data = Gaussian::new(3.0, 0.5)?;
    let (z, interval) = (1.7, Interval::new(0.1, 0.8)?);
    let u = data.average_velocity(&schedule, z, interval.r(), interval.t());
    let v = data.velocity(&schedule, z, interval.t());
    let dudt = along_trajectory(
        |z, r, t| data.average_velocity(&schedule, z, r, t),
        z,
        v,
        interval,
    );
    let residual: f64 = identity_residual(&u, &v, &dudt, &[interval.length()]);
    println!("residual of the identity: {residual:.1e}");
    assert!(residual.abs() < 1e-12, "a handful of roundings");

    let noise = 1.0;
    let u = data.average_velocity(&schedule, noise, 0.0, 1.0);
    let sample = jump(&noise, &u, &[1.0]);
    println!("one step from noise {noise}: {sample}");
    // One deviation above the mean of the noise is one above the mean of the data; cos²(π/2) is 4·10⁻³³.
    assert!((sample - 3.5).abs() < 1e-12);
    Ok(())
}
