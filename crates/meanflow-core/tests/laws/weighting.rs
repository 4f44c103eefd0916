//! The adaptive weight.

use meanflow_core::{AdaptiveWeight, Reduction};
use proptest::prelude::*;

fn weight(power: f64, offset: f64) -> AdaptiveWeight {
    AdaptiveWeight::new(power, offset, Reduction::Sum).expect("a weight")
}

proptest! {
    #[test]
    fn power_one_hides_the_size_of_the_loss(loss in 0.0..1e6f64, offset in 1e-6..1.0) {
        let weighted = weight(1.0, offset).weight(&loss) * loss;
        // L/(L+c), by a power and a product: a few roundings.
        prop_assert!((weighted - loss / (loss + offset)).abs() < 1e-14);
        prop_assert!((0.0..=1.0).contains(&weighted));
    }

    #[test]
    fn power_zero_changes_nothing(loss in 0.0..1e6, offset in 1e-6..1.0) {
        prop_assert_eq!(weight(0.0, offset).weight(&loss), 1.0);
    }

    #[test]
    fn a_larger_loss_weighs_less(loss in 0.0..1e3, more in 0.1..1e3, power in 0.1..2.0) {
        let weight = weight(power, 0.01);
        prop_assert!(weight.weight(&(loss + more)) < weight.weight(&loss));
    }

    #[test]
    fn samples_are_weighed_each_on_its_own(losses in prop::collection::vec(0.0..1e3, 1..6), power in 0.0..2.0) {
        let weight = weight(power, 0.01);
        let single: Vec<f64> = losses.iter().map(|loss| weight.weight(loss)).collect();
        prop_assert_eq!(weight.weight(&losses), single);
    }
}

#[test]
fn a_perfect_sample_has_a_finite_weight() {
    // The CIFAR recipe: p = 0.75, c = 10⁻³, so the weight is 10^(9/4).
    assert!((weight(0.75, 1e-3).weight(&0.0) / 10f64.powf(2.25) - 1.0).abs() < 1e-14);
}

#[test]
fn the_reduction_is_a_factor_on_the_sum_of_squares() {
    assert_eq!(
        (Reduction::Sum.factor(64), Reduction::Mean.factor(64)),
        (1.0, 1.0 / 64.0)
    );
}
