//! Numbers that cannot be out of range: the range is checked once, when the config is read.

use serde::de::{Deserialize, Deserializer, Error, Unexpected};
use serde::{Serialize, Serializer};

/// Declares a number type: its name, what it holds, the range as a person reads it, and the test for it.
macro_rules! bounded {
    ($name:ident, $about:literal, $range:literal, $holds:expr) => {
        #[doc = $about]
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
        pub struct $name(f64);

        impl $name {
            /// The number in its range; `None` outside of it and for NaN.
            pub fn new(value: f64) -> Option<Self> {
                let holds: fn(f64) -> bool = $holds;
                holds(value).then_some(Self(value))
            }

            /// The plain number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_f64(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = f64::deserialize(deserializer)?;
                Self::new(value)
                    .ok_or_else(|| D::Error::invalid_value(Unexpected::Float(value), &$range))
            }
        }
    };
}

bounded!(
    Positive,
    "A finite number above zero.",
    "a number > 0",
    |x| x > 0.0 && x.is_finite()
);
bounded!(
    NonNegative,
    "Zero or a finite number above it.",
    "a number >= 0",
    |x| x >= 0.0 && x.is_finite()
);
bounded!(
    Decay,
    "A number in `[0, 1)`: what an average keeps of its past.",
    "a number in [0, 1)",
    |x| (0.0..1.0).contains(&x)
);
bounded!(Share, "A number in `[0, 1]`.", "a number in [0, 1]", |x| {
    (0.0..=1.0).contains(&x)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_each_range_are_as_documented() {
        assert!(Positive::new(0.0).is_none() && Positive::new(f64::MIN_POSITIVE).is_some());
        assert!(NonNegative::new(0.0).is_some() && NonNegative::new(-f64::MIN_POSITIVE).is_none());
        assert!(Decay::new(0.0).is_some() && Decay::new(1.0).is_none());
        assert!(Share::new(1.0).is_some() && Share::new(1.0 + f64::EPSILON).is_none());
    }

    #[test]
    fn nothing_holds_what_is_not_finite() {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Positive::new(x).is_none() && NonNegative::new(x).is_none());
            assert!(Decay::new(x).is_none() && Share::new(x).is_none());
        }
    }
}
