//! A chart is well-formed for any series, however broken.

use meanflow_figures::{LineChart, Scale, Series};
use proptest::prelude::*;

/// Numbers a diverging run can produce.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        -10.0..10.0_f64,
        any::<f64>(),
        Just(0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY),
        Just(f64::MAX),
        Just(f64::MIN_POSITIVE),
    ]
}

fn chart() -> impl Strategy<Value = LineChart> {
    let points = prop::collection::vec((number(), number()), 0..30);
    let series = (".*", points, 0_usize..50).prop_map(|(name, points, smooth_over)| Series {
        name,
        points,
        smooth_over,
    });
    let scale = prop_oneof![Just(Scale::Linear), Just(Scale::Logarithmic)];
    (".*", scale, prop::collection::vec(series, 0..9)).prop_map(|(title, y_scale, series)| {
        LineChart {
            title,
            x_label: "step".into(),
            y_label: "<loss>".into(),
            y_scale,
            series,
        }
    })
}

proptest! {
    #[test]
    fn every_chart_is_well_formed_and_finite(chart in chart()) {
        let svg = chart.to_svg();
        prop_assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        // Coordinates are numbers, and texts cannot open a tag of their own.
        let tags: Vec<_> = svg.split('<').skip(1).map(|tag| tag.split_once('>')).collect();
        for tag in tags {
            let (tag, text) = tag.expect("every < is followed by its >");
            prop_assert!(!text.contains('>'), "{}", text);
            prop_assert!(!tag.contains("NaN") && !tag.contains("inf"), "{}", tag);
            prop_assert_eq!(tag.matches('"').count() % 2, 0, "{}", tag);
        }
        let opened = svg.matches("<text").count();
        prop_assert_eq!(opened, svg.matches("</text>").count());
    }
}

#[test]
fn a_single_series_needs_no_legend_and_a_smoothed_one_two_lines() {
    let points = (0..100).map(|x| (f64::from(x), f64::from(x % 7))).collect();
    let alone = Series {
        name: "alone".into(),
        points,
        smooth_over: 9,
    };
    let beside = Series {
        name: "beside".into(),
        ..alone.clone()
    };
    let counts = |series: &[&Series], class: &str| {
        let chart = LineChart {
            title: String::new(),
            x_label: String::new(),
            y_label: String::new(),
            y_scale: Scale::Linear,
            series: series.iter().copied().cloned().collect(),
        };
        let svg = chart.to_svg();
        [class, "alone"].map(|text| svg.matches(text).count())
    };
    assert_eq!(counts(&[&alone], "class=\"c c0\""), [2, 0]);
    // Two lines and the mark in the legend.
    assert_eq!(counts(&[&alone, &beside], "class=\"c c1\""), [3, 1]);
}
