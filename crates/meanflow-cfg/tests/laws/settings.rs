//! Guidance as written in configurations: nonsense is refused, and the message says why.

use meanflow_cfg::{ClassDropout, DropoutRows, Guidance, GuidanceError, GuidanceInterval};
use proptest::prelude::*;
use serde::de::DeserializeOwned;

fn refused<T: DeserializeOwned + std::fmt::Debug>(json: &str, reason: &str) {
    let message = serde_json::from_str::<T>(json).expect_err(json).to_string();
    assert!(
        message.contains(reason),
        "{json} was refused for: {message}"
    );
}

proptest! {
    #[test]
    fn settings_survive_a_round_trip(omega in 0.1..5.0, kappa in 0.0..1.0, start in 0.0..0.5, end in 0.5..=1.0) {
        let guidance = Guidance::new(omega, kappa, GuidanceInterval::new(start, end).unwrap()).unwrap();
        let text = serde_json::to_string(&guidance).unwrap();
        prop_assert_eq!(serde_json::from_str::<Guidance>(&text).unwrap(), guidance);
        let read = (guidance.omega(), guidance.kappa(), guidance.interval().start(), guidance.interval().end());
        prop_assert_eq!(read, (omega, kappa, start, end));
        let drop = ClassDropout::new(start, DropoutRows::FlowMatching).unwrap();
        let text = serde_json::to_string(&drop).unwrap();
        prop_assert_eq!(serde_json::from_str::<ClassDropout>(&text).unwrap(), drop);
        prop_assert_eq!((drop.prob(), drop.rows()), (start, DropoutRows::FlowMatching));
    }

    #[test]
    fn only_scales_with_a_meaning_are_guidance(omega in -2.0..2.0, kappa in -2.0..2.0) {
        let guidance = Guidance::new(omega, kappa, GuidanceInterval::ALL);
        prop_assert_eq!(guidance.is_ok(), omega > 0.0 && (0.0..1.0).contains(&kappa));
        if let Ok(guidance) = guidance {
            prop_assert!(guidance.effective_scale().is_finite() && guidance.effective_scale() > 0.0);
        }
    }
}

#[test]
fn the_scale_grows_without_bound_towards_kappa_one() {
    let nearest = Guidance::new(1.0, 1f64.next_down(), GuidanceInterval::ALL).unwrap();
    assert!(nearest.effective_scale() > 1e15);
    let error = Guidance::new(1.0, 1.0, GuidanceInterval::ALL).unwrap_err();
    assert_eq!(error, GuidanceError::KappaOutOfRange { got: 1.0 });
    let why = "ω/(1−κ), infinite at κ = 1";
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn omega_zero_is_refused_because_no_data_is_left() {
    let error = Guidance::new(0.0, 0.5, GuidanceInterval::ALL).unwrap_err();
    assert_eq!(error, GuidanceError::OmegaNotPositive { got: 0.0 });
    let why = "learn from its own output alone";
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn numbers_that_are_none_are_refused_by_name() {
    for got in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for (name, omega, kappa) in [("omega", got, 0.5), ("kappa", 1.0, got)] {
            let error = Guidance::new(omega, kappa, GuidanceInterval::ALL).unwrap_err();
            let expected = format!("{name}: expected a finite number");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        for (start, end) in [(got, 1.0), (0.0, got)] {
            assert!(GuidanceInterval::new(start, end).is_err());
        }
        assert!(ClassDropout::new(got, DropoutRows::FlowMatching).is_err());
    }
}

#[test]
fn windows_and_probabilities_out_of_range_are_refused() {
    for (start, end) in [(0.8, 0.3), (-0.1, 0.5), (0.0, 1.1)] {
        let error = GuidanceInterval::new(start, end).unwrap_err().to_string();
        let got = format!("got start = {start} and end = {end}");
        assert!(error.contains(&got), "{error}");
    }
    assert!(GuidanceInterval::new(0.5, 0.5).unwrap().contains(0.5));
    for probability in [-0.1, 1.1] {
        assert!(ClassDropout::new(probability, DropoutRows::Independent).is_err());
    }
}

#[test]
fn configurations_are_checked_as_they_are_read() {
    let interval = r#""interval": [0.0, 1.0]"#;
    for (keys, reason) in [
        (r#""omega": 1.0, "kappa": 1.0"#, "infinite at κ = 1"),
        (r#""omega": 1.0"#, "missing field `kappa`"),
        (
            r#""omega": 1.0, "kappa": 0.5, "scale": 2.0"#,
            "unknown field `scale`",
        ),
    ] {
        refused::<Guidance>(&format!("{{ {keys}, {interval} }}"), reason);
    }
    refused::<GuidanceInterval>("[0.8, 0.3]", "0 ≤ start ≤ end ≤ 1");
    refused::<ClassDropout>(
        r#"{ "prob": 1.5, "rows": "flow-matching" }"#,
        "expected a number in [0, 1], got 1.5",
    );
    refused::<ClassDropout>(
        r#"{ "prob": 0.1, "rows": "first" }"#,
        "unknown variant `first`",
    );
}
