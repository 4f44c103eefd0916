//! The MeanFlow identity on Gaussian data, where the average velocity is known in closed form.
//!
//! `cargo run -p meanflow-core --example gaussian_identity`

use std::error::Error;

use meanflow_core::oracle::{Gaussian, along_trajectory};
use meanflow_core::{Interval, Schedule, identity_residual, jump, target};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let (data, path) = (Gaussian::new(3.0, 0.5)?, Schedule::Linear);
    println!("   z    r    t        u   target  residual");
    for (z, r, t) in [(1.0, 0.0, 1.0), (2.5, 0.2, 0.7), (-0.5, 0.4, 0.4)] {
        let interval = Interval::new(r, t)?;
        let length = [interval.length()];
        let v = data.velocity(&path, z, t);
        let u = data.average_velocity(&path, z, r, t);
        // The derivative of u along the trajectory, by forward mode through the closed form itself.
        let dudt = along_trajectory(
            |z, r, t| data.average_velocity(&path, z, r, t),
            z,
            v,
            interval,
        );
        // What a network is trained on (M13) is the average velocity itself.
        let target: f64 = target(&v, &dudt, &length);
        let residual: f64 = identity_residual(&u, &v, &dudt, &length);
        println!("{z:4} {r:4} {t:4} {u:8.5} {target:8.5} {residual:9.1e}");
        // Rounding of a handful of operations on numbers near one.
        assert!(residual.abs() < 1e-12 && (u - target).abs() < 1e-12);
    }
    let noise = 1.0;
    let u = data.average_velocity(&path, noise, 0.0, 1.0);
    println!("one step from noise {noise}: {}", jump(&noise, &u, &[1.0]));
    Ok(())
}
