//! Every rule of a dual number against libtorch's forward mode of the plain operation.

use meanflow_testing::{agrees, normal};
use meanflow_torch::{Dual, Tensor};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn of_one_argument((rows, k) in (1..6_i64).prop_flat_map(|rows| (Just(rows), 1..=rows)), n in 1..5_i64, d in 2..9_i64) {
        let x = [vec![rows, n, d]];
        let (weight, bias) = (normal(50, &[3, d]), normal(51, &[3]));
        agrees(&x, k, |x| x[0].linear(&weight, Some(&bias)));
        agrees(&x, k, |x| x[0].silu());
        agrees(&x, k, |x| x[0].gelu());
        // Two normalised numbers are ±1 whatever they were: nothing but rounding would be compared.
        agrees(&[vec![rows, n, d + 1]], k, |x| x[0].layer_norm(1e-6));
        agrees(&x, k, |x| x[0].scale(-1.7));
        agrees(&x, k, |x| x[0].clamp_min(0.3));
        agrees(&x, k, |x| x[0].add_constant(&normal(52, &[1, n, d])));
        agrees(&x, k, |x| x[0].map_linear(|x| x.transpose(1, 2)));
        agrees(&[vec![rows]], k, |x| x[0].sinusoid(&normal(53, &[d])));
    }

    #[test]
    fn of_several_arguments((rows, k) in (1..6_i64).prop_flat_map(|rows| (Just(rows), 1..=rows)), n in 1..5_i64, d in 1..9_i64) {
        let (x, c) = (vec![rows, n, d], vec![rows, 1, d]);
        let two = [x.clone(), x.clone()];
        agrees(&two, k, |x| x[0].add(&x[1]));
        agrees(&two, k, |x| x[0].sub(&x[1]));
        agrees(&two, k, |x| Dual::cat(&[&x[0], &x[1]], 1));
        // Far from 0, where a quotient is all rounding.
        agrees(&[x.clone(), vec![rows]], k, |x| x[0].div_rows(&x[1].clamp_min(0.3)));
        agrees(&[vec![rows, n, 3 * d]], k, |x| {
            let [first, second, third] = x[0].chunk(2);
            first.add(&third.scale(2.0)).sub(&second)
        });
        agrees(&[x.clone(), c.clone(), c.clone()], k, |x| x[0].modulate(&x[1], &x[2]));
        agrees(&[x.clone(), c, x], k, |x| x[0].add_gated(&x[1], &x[2]));
        let heads = vec![rows, 2, n, d];
        agrees(&[heads.clone(), heads.clone(), heads], k, |x| Dual::attention(&x[0], &x[1], &x[2]));
    }
}

#[test]
fn a_state_that_does_not_move_counts_as_zero() {
    let (x, dx) = (normal(1, &[3, 2, 4]), normal(2, &[2, 2, 4]));
    let moving = Dual::new(x.shallow_clone(), dx.shallow_clone()).unwrap();
    let still = Dual::from(normal(3, &[3, 2, 4]));
    assert_eq!(moving.add(&still).tangent(), Some(&dx));
    assert_eq!(still.sub(&moving).tangent(), Some(&dx.neg()));
    let half = Dual::from(Tensor::from_slice(&[0.5; 3]));
    assert_eq!(moving.div_rows(&half).tangent(), Some(&(&dx / 0.5)));
    let side_by_side = Dual::cat(&[&still, &moving], 2);
    assert_eq!(
        side_by_side.tangent().unwrap().narrow(2, 0, 4),
        dx.zeros_like()
    );
    assert!(still.gelu().tangent().is_none());
    let condition = Dual::from(normal(4, &[3, 1, 4]));
    assert!(still.modulate(&condition, &condition).tangent().is_none());
    assert_eq!(moving.add_gated(&condition, &still).tangent(), Some(&dx));
}
