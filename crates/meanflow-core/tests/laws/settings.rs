//! Settings as written in configurations: what is read is what was written, and nonsense is refused with its reason.

use meanflow_core::{
    AdaptiveWeight, MaskOrder, MeanFlowRatio, Reduction, Schedule, TimeDistribution, TimeSampler,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cases::schedules;

fn survives<T: Clone + DeserializeOwned + PartialEq + Serialize + std::fmt::Debug>(value: &T) {
    let json = serde_json::to_string(value).expect("finite numbers");
    assert_eq!(&serde_json::from_str::<T>(&json).expect(&json), value);
    let text = toml::to_string(value).expect("a table");
    assert_eq!(&toml::from_str::<T>(&text).expect(&text), value);
}

fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str, reason: &str) {
    let message = toml::from_str::<T>(text).expect_err(text).to_string();
    assert!(
        message.contains(reason),
        "{text} was refused for: {message}"
    );
}

proptest! {
    #[test]
    fn schedules_survive_a_round_trip(schedule in schedules()) {
        survives(&schedule);
    }

    #[test]
    fn laws_survive_a_round_trip(mean in -5.0..5.0, std in 0.1..3.0, share in 0.0..=1.0, two: bool, count: bool) {
        let t = TimeDistribution::LogitNormal { mean, std };
        let mean_flow_ratio = if count { MeanFlowRatio::Count(share) } else { MeanFlowRatio::Bernoulli(share) };
        survives(&TimeSampler { t, r: two.then_some(TimeDistribution::Uniform), mean_flow_ratio, order: MaskOrder::BeforeOrdering });
        survives(&AdaptiveWeight::new(share, std, Reduction::Mean).unwrap());
    }
}

#[test]
fn the_official_recipe_reads_as_it_should() {
    let text = r#"
        t = { kind = "logit-normal", mean = -0.4, std = 1.0 }
        mean_flow_ratio = { count = 0.25 }
        order = "after-ordering"
    "#;
    let (mean, std) = (-0.4, 1.0);
    let law = TimeSampler {
        t: TimeDistribution::LogitNormal { mean, std },
        r: None,
        mean_flow_ratio: MeanFlowRatio::Count(0.25),
        order: MaskOrder::AfterOrdering,
    };
    assert_eq!(toml::from_str::<TimeSampler>(text).unwrap(), law);
    assert_eq!(
        toml::from_str::<Schedule>("kind = 'linear'").unwrap(),
        Schedule::Linear
    );
}

#[test]
fn numbers_out_of_range_are_refused_with_their_name() {
    refused::<TimeDistribution>(
        "kind = 'logit-normal'\nmean = 0.0\nstd = 0.0",
        "times.std: expected a finite number > 0, got 0",
    );
    refused::<TimeDistribution>("kind = 'logit-normal'\nmean = 0.0\nstd = nan", "times.std");
    refused::<TimeDistribution>(
        "kind = 'logit-normal'\nmean = nan\nstd = 1.0",
        "times.mean: expected a finite number, got NaN",
    );
    for ratio in ["1.5", "-0.1", "nan"] {
        let expected = "times.mean_flow_ratio: expected a number in [0, 1]";
        refused::<MeanFlowRatio>(&format!("count = {ratio}"), expected);
        refused::<MeanFlowRatio>(&format!("bernoulli = {ratio}"), expected);
    }
    for degree in ["0.5", "nan", "inf"] {
        let text = format!("kind = 'polynomial'\ndegree = {degree}");
        refused::<Schedule>(&text, "schedule.degree");
    }
    for (min, max, name) in [(0.0, 20.0, "beta_min"), (1.0, 0.5, "beta_max")] {
        let text = format!("kind = 'variance-preserving'\nbeta_min = {min:?}\nbeta_max = {max:?}");
        refused::<Schedule>(&text, name);
    }
    for (p, eps, name) in [(-1.0, 0.01, "loss.norm_p"), (1.0, 0.0, "loss.norm_eps")] {
        let text = format!("norm_p = {p:?}\nnorm_eps = {eps:?}\nreduction = 'sum'");
        refused::<AdaptiveWeight>(&text, name);
    }
}

#[test]
fn unknown_missing_and_misspelt_keys_are_refused() {
    refused::<Schedule>("kind = 'linear'\ndegree = 2.0", "unknown field `degree`");
    refused::<Schedule>("kind = 'quadratic'", "unknown variant `quadratic`");
    refused::<Schedule>("kind = 'polynomial'", "missing field `degree`");
    refused::<TimeDistribution>("kind = 'uniform'\nmean = 0.0", "unknown field `mean`");
    refused::<MeanFlowRatio>("share = 0.75", "unknown variant `share`");
    refused::<AdaptiveWeight>("norm_p = 1.0\nnorm_eps = 0.01", "missing field `reduction`");
    refused::<TimeSampler>(
        "t = { kind = 'uniform' }\norder = 'after-ordering'",
        "missing field `mean_flow_ratio`",
    );
}

#[test]
fn values_made_by_hand_are_checked_by_validate() {
    let is_valid = |t, r, share| {
        let law = TimeSampler {
            t,
            r,
            mean_flow_ratio: MeanFlowRatio::Count(share),
            order: MaskOrder::AfterOrdering,
        };
        law.validate().is_ok()
    };
    let (mean, std) = (0.0, -1.0);
    let bad = TimeDistribution::LogitNormal { mean, std };
    assert!(is_valid(TimeDistribution::Uniform, None, 0.5));
    assert!(!is_valid(bad, None, 0.5));
    assert!(!is_valid(TimeDistribution::Uniform, Some(bad), 0.5));
    assert!(!is_valid(TimeDistribution::Uniform, None, f64::NAN));
}
