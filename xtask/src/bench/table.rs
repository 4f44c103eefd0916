//! Medians and the table of a comparison.

use super::rival::Reply;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// One variant at one size.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Row {
    /// The size's name.
    pub size: String,
    /// The variant's name.
    pub variant: String,
    /// Median wall time of a step, in milliseconds.
    pub median_ms: f64,
    /// That, divided by the first variant's.
    pub ratio_to_plain: f64,
    /// Memory of a step at its peak, in MiB, where it can be had.
    pub peak_mib: Option<f64>,
    /// What a step does, in network forwards over its batch: the mean over the rounds, where it is counted.
    pub units: Option<f64>,
}

/// A row for each variant; the first one is what the others are divided by.
pub(super) fn rows(size: &str, replies: &[(&str, Vec<Reply>)]) -> Vec<Row> {
    let time = |list: &[Reply]| median(list.iter().map(|reply| reply.ms).collect());
    let plain = replies.first().map_or(f64::NAN, |(_, list)| time(list));
    let row = |(variant, list): &(&str, Vec<Reply>)| Row {
        size: size.to_owned(),
        variant: (*variant).to_owned(),
        median_ms: time(list),
        ratio_to_plain: time(list) / plain,
        peak_mib: list.last().and_then(|reply| reply.peak_mib),
        units: mean_units(list),
    };
    replies.iter().map(row).collect()
}

/// What a step does on average: where labels are dropped by chance, guidance has not the same rows in every step.
pub(super) fn mean_units(replies: &[Reply]) -> Option<f64> {
    let units: Option<Vec<f64>> = replies.iter().map(|reply| reply.units).collect();
    let units = units.filter(|units| !units.is_empty())?;
    Some(units.iter().sum::<f64>() / units.len() as f64)
}

/// The middle value, or the mean of the two; NaN of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// A number with so many decimals, or a dash.
pub(super) fn shown(number: Option<f64>, decimals: usize) -> String {
    number.map_or("–".to_owned(), |number| format!("{number:.decimals$}"))
}

/// The rows for people.
pub(super) fn text(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10} {:<18} {:>10} {:>9} {:>10} {:>6}",
        "size", "variant", "median ms", "÷ plain", "peak MiB", "units"
    );
    for row in rows {
        let (peak, units) = (shown(row.peak_mib, 0), shown(row.units, 2));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n{:<10} {:<18} {:>10.2} {:>9.2} {peak:>10} {units:>6}",
            row.size, row.variant, row.median_ms, row.ratio_to_plain
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn rows_are_relative_to_the_first() {
        let reply = |ms| Reply {
            ms,
            peak_mib: Some(ms * 10.0),
            units: Some(3.0 + ms / 4.0),
        };
        let replies = [
            ("plain", vec![reply(2.0), reply(200.0), reply(1.0)]),
            ("dual", vec![reply(3.0)]),
        ];
        let rows = rows("s4", &replies);
        assert_eq!((rows[0].median_ms, rows[0].ratio_to_plain), (2.0, 1.0));
        assert_eq!(
            (rows[1].ratio_to_plain, rows[1].peak_mib),
            (1.5, Some(30.0))
        );
        assert_eq!(rows[1].units, Some(3.75));
        assert!(text(&rows).lines().nth(2).unwrap().contains("1.50"));
    }
}
