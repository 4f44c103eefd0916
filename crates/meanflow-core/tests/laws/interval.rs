//! An interval is two ordered times of [0, 1], or an error that says why not.

use meanflow_core::{Interval, IntervalError};
use proptest::prelude::*;

proptest! {
    #[test]
    fn ordered_times_are_an_interval(r in 0.0..=1.0, t in 0.0..=1.0, is_empty: bool) {
        let r = if is_empty { t } else { r };
        let interval = Interval::new(r, t);
        prop_assert_eq!(interval.is_ok(), r <= t);
        if let Ok(interval) = interval {
            prop_assert_eq!((interval.r(), interval.t(), interval.length()), (r, t, t - r));
            prop_assert_eq!(interval.is_jump(), interval.length() > 0.0);
        }
    }
}

#[test]
fn errors_say_which_time_is_wrong() {
    let reversed = Interval::new(0.8, 0.3).unwrap_err();
    assert_eq!(reversed, IntervalError::Reversed { r: 0.8, t: 0.3 });
    assert!(reversed.to_string().contains("got r = 0.8 and t = 0.3"));
    for (r, t, name) in [
        (-0.1, 0.5, "r"),
        (0.0, 1.5, "t"),
        (f64::NAN, 0.5, "r"),
        (0.0, f64::NAN, "t"),
        (0.0, f64::INFINITY, "t"),
    ] {
        let message = Interval::new(r, t).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("time {name}: expected a number in [0, 1]")),
            "{message}"
        );
    }
}
