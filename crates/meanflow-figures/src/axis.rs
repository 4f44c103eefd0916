//! One axis of a chart: where values lie and which of them are worth a label.

use crate::Scale;

/// Labels wanted on an axis, about.
const LABELS: f64 = 6.0;

/// Neither an end of an axis nor the inverse of its length goes beyond this: their ratios stay finite.
const EXTREME: f64 = 1e140;

/// A range of values laid over a range of pixels.
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Pixel of the lowest value.
    pub(crate) start: f64,
    /// Pixel of the highest value.
    pub(crate) end: f64,
}

impl Axis {
    /// A linear axis that ends where the values end.
    pub(crate) fn tight(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = range(values, Scale::Linear);
        Self {
            scale: Scale::Linear,
            low,
            high,
            start,
            end,
        }
    }

    /// An axis with room around the values: up to whole ticks, or a little on a logarithmic one.
    pub(crate) fn new(
        values: impl Iterator<Item = f64>,
        scale: Scale,
        start: f64,
        end: f64,
    ) -> Self {
        let (low, high) = range(values, scale);
        let (low, high) = match scale {
            Scale::Linear => {
                let step = nice_step(high - low);
                ((low / step).floor() * step, (high / step).ceil() * step)
            }
            Scale::Logarithmic => {
                let room = (high / low).powf(0.04);
                (low / room, high * room)
            }
        };
        Self {
            scale,
            low,
            high,
            start,
            end,
        }
    }

    /// Pixel of a value, that of the nearer end outside the axis; `None` when it cannot be drawn.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        // Infinite values, and those that have no logarithm, interrupt a curve.
        let drawable = value.is_finite() && share.is_finite();
        drawable.then_some(self.start + share.clamp(0.0, 1.0) * (self.end - self.start))
    }

    /// Pixels of the ticks from low to high, with a label where there is room for one.
    pub(crate) fn ticks(&self) -> Vec<(f64, Option<String>)> {
        let ticks = match self.scale {
            Scale::Linear => self.linear_ticks(),
            Scale::Logarithmic => self.logarithmic_ticks(),
        };
        let place = |(value, label)| self.place(value).map(|place| (place, label));
        ticks.into_iter().filter_map(place).collect()
    }

    /// Letters of the longest label.
    pub(crate) fn widest_label(&self) -> usize {
        let labels = self.ticks().into_iter().filter_map(|(_, label)| label);
        labels.map(|label| label.chars().count()).max().unwrap_or(0)
    }

    fn linear_ticks(&self) -> Vec<(f64, Option<String>)> {
        let step = nice_step(self.high - self.low);
        let top = self.low.abs().max(self.high.abs());
        // Half a thousandth of a step forgives the rounding of the ends.
        let first = (self.low / step - 5e-4).ceil();
        let last = (self.high / step + 5e-4).floor();
        let indices = std::iter::successors(Some(first), |index| Some(index + 1.0));
        let indices = indices.take_while(|&index| index <= last);
        let tick = |value| (value, Some(linear_label(value, step, top)));
        indices.map(|index| tick(index * step)).collect()
    }

    /// Decades, as many as there is room for, and between them what the range leaves room for.
    fn logarithmic_ticks(&self) -> Vec<(f64, Option<String>)> {
        let decades = (self.high / self.low).log10();
        let every = (decades / (LABELS + 1.0)).ceil().max(1.0) as i32;
        let mut ticks = Vec::new();
        for decade in self.low.log10().floor() as i32..=self.high.log10().floor() as i32 {
            for digit in 1..10 {
                let labelled = match digit {
                    1 => decade.rem_euclid(every) == 0,
                    2 | 5 => decades < 2.5,
                    _ => false,
                };
                let value = power(f64::from(digit), decade);
                let shown = labelled || (decades < 6.0 && every == 1);
                if shown && (self.low..=self.high).contains(&value) {
                    ticks.push((value, labelled.then(|| logarithmic_label(digit, decade))));
                }
            }
        }
        let labels = ticks.iter().filter(|(_, label)| label.is_some()).count();
        if labels < 3 {
            self.linear_ticks()
        } else {
            ticks
        }
    }
}

/// Lowest and highest value, made different from each other; 0 to 1 (or 0.1 to 1) when there is none.
fn range(values: impl Iterator<Item = f64>, scale: Scale) -> (f64, f64) {
    let clamp = |value: f64| match scale {
        Scale::Linear => value.clamp(-EXTREME, EXTREME),
        Scale::Logarithmic => value.clamp(1.0 / EXTREME, EXTREME),
    };
    let (low, high) = match (ends(values.map(clamp)), scale) {
        (Some(ends), _) => ends,
        (None, Scale::Linear) => (0.0, 1.0),
        (None, Scale::Logarithmic) => (0.1, 1.0),
    };
    let top = low.abs().max(high.abs());
    if high - low > (1e-9 * top).max(1.0 / EXTREME) {
        return (low, high);
    }
    match scale {
        Scale::Linear if top <= 1.0 / EXTREME => (0.0, 1.0),
        Scale::Linear => (low - 0.5 * low.abs(), high + 0.5 * high.abs()),
        Scale::Logarithmic => (low / 2.0, high * 2.0),
    }
}

/// The least and the largest of some numbers.
pub(crate) fn ends(mut values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let first = values.next()?;
    let wider = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    Some(values.fold((first, first), wider))
}

/// 1, 2 or 5 times a power of ten, about `span / LABELS`.
fn nice_step(span: f64) -> f64 {
    let rough = span / LABELS;
    let decade = rough.log10().floor();
    let digit = rough / 10_f64.powf(decade);
    let nice = match digit {
        ..1.5 => 1.0,
        ..3.5 => 2.0,
        ..7.5 => 5.0,
        _ => 10.0,
    };
    power(nice, decade as i32)
}

/// `digit · 10^decade`, correctly rounded so that 3 · 10⁻¹ is 0.3.
fn power(digit: f64, decade: i32) -> f64 {
    if decade < 0 {
        digit / 10_f64.powi(-decade)
    } else {
        digit * 10_f64.powi(decade)
    }
}

/// A multiple of `step` with the digits that tell it from its neighbours; `top` is the largest one on the axis.
fn linear_label(value: f64, step: f64, top: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e9).contains(&top) {
        return scientific(value, step, top);
    }
    let (unit, suffix) = match top {
        _ if top >= 2e6 => (1e6, "M"),
        _ if top >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / unit).log10() - 1e-9).ceil().max(0.0) as usize;
    let mut digits = format!("{:.decimals$}", value.abs() / unit);
    if unit == 1.0 {
        digits = grouped(&digits);
    }
    format!("{}{digits}{suffix}", if value < 0.0 { "−" } else { "" })
}

/// `1500` as `1,500`.
fn grouped(digits: &str) -> String {
    let whole = digits.find('.').unwrap_or(digits.len());
    if whole == 4 {
        format!("{},{}", &digits[..1], &digits[1..])
    } else {
        digits.to_owned()
    }
}

/// `2.5×10⁻⁵`, with the power of ten of `top`.
fn scientific(value: f64, step: f64, top: f64) -> String {
    // A little more, lest a top of 9.999… × 10⁻⁷ passes for less than 10⁻⁶.
    let exponent = (top.log10() + 1e-9).floor();
    let decimals = (exponent - step.log10().floor()).max(0.0) as usize;
    let digits = format!("{:.decimals$}", value / 10_f64.powf(exponent)).replace('-', "−");
    format!("{digits}×10{}", superscript(exponent as i32))
}

fn logarithmic_label(digit: i32, decade: i32) -> String {
    match decade {
        0..=3 => grouped(&(digit * 10_i32.pow(decade.unsigned_abs())).to_string()),
        -3..0 => {
            let decimals = decade.unsigned_abs() as usize;
            format!("{:.decimals$}", power(f64::from(digit), decade))
        }
        _ if digit == 1 => format!("10{}", superscript(decade)),
        _ => format!("{digit}×10{}", superscript(decade)),
    }
}

fn superscript(number: i32) -> String {
    let raise = |letter: char| match letter.to_digit(10) {
        Some(digit) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
        None => '⁻',
    };
    number.to_string().chars().map(raise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], scale: Scale) -> Vec<String> {
        let axis = Axis::new(values.iter().copied(), scale, 0.0, 100.0);
        let ticks = axis.ticks().into_iter();
        ticks.filter_map(|(_, label)| label).collect()
    }

    #[test]
    fn labels_are_what_a_person_would_write() {
        let linear = |values: &[f64]| labels(values, Scale::Linear).join(" ");
        let logarithmic = |values: &[f64]| labels(values, Scale::Logarithmic).join(" ");
        assert_eq!(
            linear(&[0.0, 3000.0]),
            "0 500 1,000 1,500 2,000 2,500 3,000"
        );
        assert_eq!(linear(&[-0.31, 0.3]), "−0.4 −0.3 −0.2 −0.1 0 0.1 0.2 0.3");
        assert_eq!(linear(&[0.0, 60_000.0]), "0 10k 20k 30k 40k 50k 60k");
        assert_eq!(linear(&[0.0, 3e6]), "0 0.5M 1.0M 1.5M 2.0M 2.5M 3.0M");
        assert_eq!(
            linear(&[0.0, 6e-5]),
            "0 1×10⁻⁵ 2×10⁻⁵ 3×10⁻⁵ 4×10⁻⁵ 5×10⁻⁵ 6×10⁻⁵"
        );
        assert_eq!(linear(&[7.0]), "3 4 5 6 7 8 9 10 11");
        assert_eq!(linear(&[0.0]), "0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(logarithmic(&[0.009, 110.0]), "0.01 0.1 1 10 100");
        assert_eq!(logarithmic(&[0.1, 1.0]), "0.1 0.2 0.5 1");
        assert_eq!(logarithmic(&[0.5, 0.6]), "0.50 0.52 0.54 0.56 0.58 0.60");
        assert_eq!(
            logarithmic(&[1e-12, 1.0]),
            "10⁻¹² 10⁻¹⁰ 10⁻⁸ 10⁻⁶ 10⁻⁴ 0.01 1"
        );
        assert_eq!(logarithmic(&[]), "0.1 0.2 0.5 1");
    }

    #[test]
    fn ticks_are_few_increasing_and_inside_for_any_range() {
        let negative = [-1e300, -7.3, -1e-12];
        let positive = [1e-300, 1e-12, 3.0, 3.000_000_1, 1e15, f64::MAX];
        let extremes = [&negative[..], &[0.0], &positive].concat();
        for (index, &low) in extremes.iter().enumerate() {
            for &high in &extremes[index..] {
                for scale in [Scale::Linear, Scale::Logarithmic] {
                    if scale == Scale::Logarithmic && low <= 0.0 {
                        continue;
                    }
                    let axis = Axis::new([low, high].into_iter(), scale, 0.0, 100.0);
                    let ticks = axis.ticks();
                    let labelled = ticks.iter().filter(|(_, label)| label.is_some()).count();
                    assert!((2..=12).contains(&labelled), "{low} {high}: {labelled}");
                    assert!(ticks.len() <= 60);
                    // A thousandth of a pixel for rounding.
                    let is_inside = |(place, _): &(f64, _)| (-1e-3..100.001).contains(place);
                    assert!(ticks.iter().all(is_inside));
                    assert!(ticks.is_sorted_by(|a, b| a.0 < b.0), "{low} {high}");
                }
            }
        }
    }
}
