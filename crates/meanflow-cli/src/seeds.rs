//! Lists of seeds such as `0-63,100`.

use std::str::FromStr;

/// More seeds than this in one call are a slip of the pen.
const MOST: u64 = 10_000_000;

/// Seeds in the order in which they were given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seeds(pub(crate) Vec<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| {
                text.trim()
                    .parse::<u64>()
                    .map_err(|_| format!("expected seeds such as 0-63,100, got {part:?}"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("expected a range from low to high, got {part}"));
            }
            if last - first >= MOST - seeds.len() as u64 {
                return Err(format!("expected at most {MOST} seeds"));
            }
            seeds.extend(first..=last);
        }
        Ok(Self(seeds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_both_ends() {
        assert_eq!("0-3,100".parse(), Ok(Seeds(vec![0, 1, 2, 3, 100])));
        assert_eq!("7".parse(), Ok(Seeds(vec![7])));
        assert_eq!(
            format!("{0}-{0}", u64::MAX).parse(),
            Ok(Seeds(vec![u64::MAX]))
        );
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "a",
            "1-",
            "-1",
            "3-1",
            "1,,2",
            "0-18446744073709551615",
            "1.5",
        ] {
            assert!(text.parse::<Seeds>().is_err(), "{text}");
        }
    }
}
