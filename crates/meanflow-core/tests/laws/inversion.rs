//! Inversion: a jump from the state it finds lands where it should, or the residual says by how much it does not.

use meanflow_core::oracle::Gaussian;
use meanflow_core::{FixedPoint, Schedule, invert_jump, jump};
use ndarray::{Array2, array};
use proptest::prelude::*;

use crate::cases;

const SETTINGS: FixedPoint = FixedPoint {
    tolerance: 1e-10,
    max_nfe: 2000,
};

proptest! {
    #[test]
    fn the_upper_end_of_a_jump_is_found(
        schedule in cases::schedules(),
        // From data that the flow flattens to data that it spreads: A = S_r/S_t from 0.05 to 20.
        std in 0.05f64..20.0,
        mean in -3.0f64..3.0,
        z in -3.0f64..3.0,
        (r, length) in (0.0f64..0.9, 0.01f64..1.0),
    ) {
        let t = (r + length).min(1.0);
        let data = Gaussian::new(mean, std).unwrap();
        let end = data.flow(&schedule, z, r, t);
        let u = |z: &f64| data.average_velocity(&schedule, *z, r, t);
        let inverse = invert_jump(u, &end, t - r, SETTINGS);
        prop_assert!(inverse.residuals[0] <= SETTINGS.tolerance);
        prop_assert!(inverse.nfe[0] <= SETTINGS.max_nfe);
        // The residual is A times the error of the state, and A is at least 0.05 with any schedule.
        let slope = data.flow(&schedule, 1.0, r, t) - data.flow(&schedule, 0.0, r, t);
        prop_assert!((inverse.state - z).abs() <= 1.01 * SETTINGS.tolerance / slope + 1e-12);
    }
}

#[test]
fn samples_of_a_batch_do_not_meet() {
    let data = [0.3, 1.0, 4.0].map(|std| Gaussian::new(1.0, std).unwrap());
    let path = Schedule::Linear;
    let field = |row: usize, z: f64| data[row].average_velocity(&path, z, 0.0, 1.0);
    let end = array![[0.5, -1.0], [2.0, 0.1], [3.0, -5.0]];
    let together = invert_jump(
        |z: &Array2<f64>| Array2::from_shape_fn((3, 2), |(row, j)| field(row, z[[row, j]])),
        &end,
        1.0,
        SETTINGS,
    );
    for row in 0..3 {
        let alone = invert_jump(
            |z: &Array2<f64>| z.mapv(|z| field(row, z)),
            &end.slice(ndarray::s![row..=row, ..]).to_owned(),
            1.0,
            SETTINGS,
        );
        assert_eq!(alone.state.row(0), together.state.row(row));
        assert_eq!(alone.residuals[0], together.residuals[row]);
        assert_eq!(alone.nfe[0], together.nfe[row]);
    }
    // std = 1 is at the fixed point's best, where u does not depend on z; 0.3 contracts by 0.7 a step; 4 needs θ ≤ ½.
    assert_eq!(together.nfe[1], 2);
    assert!(together.nfe[0] > 20 && together.nfe[2] > 3);
}

#[test]
fn what_no_jump_reaches_keeps_its_residual() {
    // z − z = 0 everywhere: no state jumps to 1.
    let inverse = invert_jump(|z: &f64| *z, &1.0, 1.0, SETTINGS);
    assert_eq!(inverse.residuals, [1.0]);
    assert_eq!(inverse.nfe, [SETTINGS.max_nfe]);
    let broken = invert_jump(|_: &f64| f64::NAN, &1.0, 1.0, SETTINGS);
    assert!(
        broken.residuals[0].is_nan(),
        "and does not end as if it had converged"
    );
}

#[test]
fn nothing_is_left_to_do_at_the_tolerance() {
    let loose = FixedPoint {
        tolerance: 10.0,
        max_nfe: 50,
    };
    let u = |z: &f64| 0.5 * z;
    let inverse = invert_jump(u, &1.0, 0.5, loose);
    assert_eq!((inverse.state, inverse.nfe), (1.0, vec![1]));
    assert_eq!(
        inverse.residuals,
        [(jump(&1.0, &0.5, &[0.5]) - 1.0f64).abs()]
    );
}
