//! The laws of the average velocity (M8–M15) on Gaussian data, where everything is known in closed form.
//!
//! `du/dt` comes from dual numbers carried along the trajectory through the closed form of `u`, the velocity from the
//! marginal path, the states from the flow: three routes, none of which knows the identity.

use meanflow_core::oracle::{Gaussian, along_trajectory, average_by_solver};
use meanflow_core::{
    Interval, Leg, Schedule, consistency_residual, displacement, identity_residual, jump, target,
};
use ndarray::Array2;
use num_dual::Dual64;
use proptest::prelude::*;

use crate::cases::{analytic_schedules, gaussians, intervals, likely_state, schedules};

/// Numbers of order 1 to 100 pass through some ten operations; closed forms with nothing to cancel keep 12 digits.
const EXACT: f64 = 1e-12;

/// A trajectory of Gaussian data.
#[derive(Clone, Copy, Debug)]
struct Trajectory {
    schedule: Schedule,
    data: Gaussian,
    interval: Interval,
    z: f64,
    /// Size of the numbers met on the way: residuals are relative to it.
    scale: f64,
}

impl Trajectory {
    fn new(schedule: Schedule, data: Gaussian, interval: Interval, quantile: f64) -> Self {
        let z = likely_state(&schedule, &data, quantile, interval.t());
        let mut path = Self {
            schedule,
            data,
            interval,
            z,
            scale: 1.0,
        };
        let slope = schedule.at(interval.t()).da.abs();
        path.scale += data.mean().abs() * (1.0 + slope) + path.v().abs() + path.u().abs();
        path
    }

    fn v(&self) -> f64 {
        let t = self.interval.t();
        self.data.velocity(&self.schedule, self.z, t)
    }

    fn u(&self) -> f64 {
        let (r, t) = (self.interval.r(), self.interval.t());
        self.data.average_velocity(&self.schedule, self.z, r, t)
    }

    fn dudt(&self) -> f64 {
        let u = |z: Dual64, r, t| self.data.average_velocity(&self.schedule, z, r, t);
        along_trajectory(u, self.z, self.v(), self.interval)
    }

    /// Where the trajectory is at `time`.
    fn at(&self, time: f64) -> f64 {
        let t = self.interval.t();
        self.data.flow(&self.schedule, self.z, time, t)
    }

    /// The part of the trajectory below its state at `t`.
    fn part(&self, r: f64, t: f64) -> Self {
        let interval = Interval::new(r, t).expect("ordered times");
        Self {
            interval,
            z: self.at(t),
            ..*self
        }
    }

    fn length(&self) -> [f64; 1] {
        [self.interval.length()]
    }
}

/// Trajectories on every schedule whose closed forms lose no digit.
fn trajectories() -> impl Strategy<Value = Trajectory> {
    (analytic_schedules(), gaussians(), intervals(), -3.0..3.0)
        .prop_map(|(s, d, i, q)| Trajectory::new(s, d, i, q))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn identity_m11(path in trajectories()) {
        let residual = identity_residual(&path.u(), &path.v(), &path.dudt(), &path.length());
        prop_assert!(residual.abs() <= EXACT * path.scale, "{residual:e} of {}", path.scale);
    }

    #[test]
    fn identity_m11_where_a_fractional_power_starts(
        degree in 1.0..4.0, data in gaussians(), interval in intervals(), quantile in -3.0..3.0,
    ) {
        let path = Trajectory::new(Schedule::Polynomial { degree }, data, interval, quantile);
        let residual = identity_residual(&path.u(), &path.v(), &path.dudt(), &path.length());
        // tⁿ has no Taylor series at 0, so near 0 only the quotient is left, whose rounding grows as 1/(t − r).
        let rounding = if interval.is_jump() { 1e-14 / interval.length() } else { 0.0 };
        prop_assert!(residual.abs() <= (EXACT + rounding) * path.scale, "{residual:e} of {}", path.scale);
    }

    #[test]
    fn target_of_the_true_fields_is_the_true_average(path in trajectories()) {
        let target = target(&path.v(), &path.dudt(), &path.length());
        prop_assert!((target - path.u()).abs() <= EXACT * path.scale);
    }

    #[test]
    fn consistency_m10(path in trajectories(), share in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]) {
        let (r, t) = (path.interval.r(), path.interval.t());
        let s = (r + share * (t - r)).clamp(r, t);
        let (lower, upper) = (path.part(r, s), path.part(s, t));
        let residual = consistency_residual(
            &Leg { u: &path.u(), lengths: &path.length() },
            &Leg { u: &lower.u(), lengths: &lower.length() },
            &Leg { u: &upper.u(), lengths: &upper.length() },
        );
        prop_assert!(residual.abs() <= EXACT * path.scale, "{residual:e} of {}", path.scale);
    }

    #[test]
    fn jump_m15_lands_on_the_trajectory(path in trajectories()) {
        let landed = jump(&path.z, &path.u(), &path.length());
        prop_assert!((landed - path.at(path.interval.r())).abs() <= EXACT * path.scale);
        let way = displacement(&path.u(), &path.length());
        // z − (z − w) is w up to the rounding of z.
        prop_assert!((path.z - landed - way).abs() <= EXACT * path.scale);
    }

    #[test]
    fn any_decreasing_grid_samples_the_same_point(
        schedule in analytic_schedules(), data in gaussians(), quantile in -3.0..3.0,
        mut grid in prop::collection::vec(0.0..1.0, 0..6),
    ) {
        grid.extend([0.0, 1.0]);
        grid.sort_by(|x, y| f64::total_cmp(y, x));
        let whole = Trajectory::new(schedule, data, Interval::new(0.0, 1.0).unwrap(), quantile);
        let landed = grid.windows(2).fold(whole.z, |z, step| {
            let interval = Interval::new(step[1], step[0]).unwrap();
            let u = whole.data.average_velocity(&schedule, z, interval.r(), interval.t());
            jump(&z, &u, &[interval.length()])
        });
        // Up to seven jumps, each of which may stretch an error by S_r/S_t, in all by s/S_1 ≤ 3.
        prop_assert!((landed - whole.at(0.0)).abs() <= 10.0 * EXACT * whole.scale);
    }

    #[test]
    fn limit_m9_is_the_velocity(path in trajectories()) {
        let t = path.interval.t();
        let instant = path.part(t, t);
        prop_assert!((instant.u() - path.v()).abs() <= EXACT * path.scale);
        // u − v is a mean of differences of v, so at most the length times the largest |dv/dτ| met.
        let acceleration = |time: f64| {
            let z = path.at(time);
            let v = path.data.velocity(&path.schedule, z, time);
            path.data.velocity(&path.schedule, Dual64::new(z, v), Dual64::new(time, 1.0)).eps.abs()
        };
        let (r, length) = (path.interval.r(), path.interval.length());
        let largest = (0..=64).map(|i| acceleration(r + length * f64::from(i) / 64.0)).fold(0.0, f64::max);
        // Half as much again for a largest value between the 65 points.
        prop_assert!((path.u() - path.v()).abs() <= 1.5 * length * largest + EXACT * path.scale);
    }

    #[test]
    fn marginal_velocity_m3_is_the_mean_of_the_conditional_one(
        schedule in schedules(), mean in -5.0..5.0, std in 0.05..3.0, z in -5.0..5.0, t in 1e-3..=1.0,
    ) {
        // Given z_t = a x + b e, jointly Gaussian: the regression of x and of e on z.
        let (a, b) = (schedule.a(t), schedule.b(t));
        let deviation = (z - a * mean) / (a * a * std * std + b * b);
        let (x, e) = (mean + a * std * std * deviation, b * deviation);
        let expected = schedule.velocity(&x, &e, &[t]);
        let v = Gaussian::new(mean, std).unwrap().velocity(&schedule, z, t);
        let point = schedule.at(t);
        let scale = 1.0 + (point.da * x).abs() + (point.db * e).abs();
        prop_assert!((v - expected).abs() <= EXACT * scale, "{v} and {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The closed forms against the definition (M8), integrated numerically with its derivative.
    #[test]
    fn definition_m8_by_quadrature_gives_u_and_its_derivative(path in trajectories()) {
        let field = |z, t| path.data.velocity(&path.schedule, z, t);
        let (z, v) = (path.z, path.v());
        let (r, t) = (Dual64::from_re(path.interval.r()), Dual64::new(path.interval.t(), 1.0));
        let u = average_by_solver(field, Dual64::new(z, v), r, t).unwrap();
        // Steps of error 10⁻¹², of which there are up to some hundreds where narrow data is near.
        prop_assert!((u.re - path.u()).abs() <= 1e-9 * path.scale);
        prop_assert!((u.eps - path.dudt()).abs() <= 1e-9 * (path.scale + path.dudt().abs()));
    }

    /// The same formulas on a batch: every row its own interval, every column its own data.
    #[test]
    fn batches_obey_the_same_laws(
        schedule in analytic_schedules(),
        rows in prop::collection::vec((intervals(), -3.0..3.0), 1..5),
        columns in prop::collection::vec(gaussians(), 1..4),
    ) {
        let paths = Array2::from_shape_fn((rows.len(), columns.len()), |(i, j)| {
            Trajectory::new(schedule, columns[j], rows[i].0, rows[i].1)
        });
        let lengths: Vec<f64> = rows.iter().map(|(interval, _)| interval.length()).collect();
        let (z, u, v) = (paths.mapv(|p| p.z), paths.mapv(|p| p.u()), paths.mapv(|p| p.v()));
        let dudt = paths.mapv(|p| p.dudt());

        let residual = identity_residual(&u, &v, &dudt, &lengths);
        let miss = jump(&z, &u, &lengths) - paths.mapv(|p| p.at(p.interval.r()));
        let middle = |p: Trajectory| 0.5 * (p.interval.r() + p.interval.t());
        let lower = paths.mapv(|p| p.part(p.interval.r(), middle(p)));
        let upper = paths.mapv(|p| p.part(middle(p), p.interval.t()));
        let column = |parts: &Array2<Trajectory>| parts.column(0).iter().map(|p| p.interval.length()).collect::<Vec<_>>();
        let gap = consistency_residual(
            &Leg { u: &u, lengths: &lengths },
            &Leg { u: &lower.mapv(|p| p.u()), lengths: &column(&lower) },
            &Leg { u: &upper.mapv(|p| p.u()), lengths: &column(&upper) },
        );
        for (index, path) in paths.indexed_iter() {
            for error in [residual[index], miss[index], gap[index]] {
                prop_assert!(error.abs() <= EXACT * path.scale, "{error:e} at {index:?}");
            }
        }
    }
}

#[test]
fn at_r_equal_t_the_target_is_the_velocity_to_the_bit() {
    // Even a huge derivative is multiplied by an exact zero.
    assert_eq!(target(&0.3, &1e300, &[0.0]), 0.3);
}
