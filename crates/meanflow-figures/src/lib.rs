//! Charts as SVG texts, legible in a browser, a README and a printout, without a plotting library.
//!
//! [`LineChart`] is for curves, [`interval_chart`] for values with their intervals, [`heat_map`] for numbers over (r, t);
//! [`Drawing`] is what all of them are drawn on. Equal numbers give equal bytes.

mod axis;
mod curve;
mod drawing;
mod heat_map;
mod interval_chart;
mod line_chart;
mod scale;

pub use drawing::{Drawing, escape};
pub use heat_map::heat_map;
pub use interval_chart::{Mark, interval_chart};
pub use line_chart::{LineChart, Series};
pub use scale::Scale;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
