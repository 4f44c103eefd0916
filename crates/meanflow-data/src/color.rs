//! A colour map whose steps look equally large: lightness rises evenly from night to sand.
//!
//! Anchors are lightness, chroma and hue in OKLab (B. Ottosson, *A perceptual color space for image processing*,
//! 2020), in which equal distances look equal.

/// Lightness, chroma and hue (degrees) at equally spaced values from 0 to 1; lightness is linear in the value.
const ANCHORS: [[f64; 3]; 5] = [
    [0.16, 0.04, 275.0],
    [0.36, 0.15, 295.0],
    [0.56, 0.19, 358.0],
    [0.76, 0.15, 410.0],
    [0.96, 0.06, 460.0],
];

/// The sRGB colour of `value`, which is clamped to [0, 1]; NaN is 0.
pub fn perceptual(value: f64) -> [u8; 3] {
    let value = if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    };
    let place = value * (ANCHORS.len() - 1) as f64;
    let left = (place as usize).min(ANCHORS.len() - 2);
    let share = place - left as f64;
    let mix = |part: usize| {
        let (a, b) = (ANCHORS[left][part], ANCHORS[left + 1][part]);
        a + share * (b - a)
    };
    let (chroma, hue) = (mix(1), mix(2).to_radians());
    linear_srgb(mix(0), chroma * hue.cos(), chroma * hue.sin()).map(encode)
}

/// OKLab to linear sRGB (Ottosson 2020, the two matrices of "Converting from linear sRGB to Oklab", inverted).
fn linear_srgb(lightness: f64, a: f64, b: f64) -> [f64; 3] {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
}

/// The transfer function of sRGB, to a byte; a channel outside the gamut is cut off.
fn encode(linear: f64) -> u8 {
    let curve = if linear <= 0.003_130_8 {
        12.92 * linear
    } else {
        1.055 * linear.powf(1.0 / 2.4) - 0.055
    };
    (curve * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_of_oklab_is_grey() {
        let [red, green, blue] = linear_srgb(1.0, 0.0, 0.0);
        // The published coefficients have ten digits; their rows sum to 1 within 1e-7.
        assert!(
            [red, green, blue]
                .iter()
                .all(|channel| (channel - 1.0).abs() < 1e-6)
        );
    }

    #[test]
    fn brightness_rises_and_no_step_jumps() {
        let luma = |[red, green, blue]: [u8; 3]| {
            0.2126 * f64::from(red) + 0.7152 * f64::from(green) + 0.0722 * f64::from(blue)
        };
        for step in 0..256 {
            let (low, high) = (
                perceptual(f64::from(step) / 256.0),
                perceptual(f64::from(step + 1) / 256.0),
            );
            // Rounding to bytes may take back half a unit of each channel.
            assert!(luma(high) > luma(low) - 0.5);
            assert!(
                low.iter()
                    .zip(high)
                    .all(|(&low, high)| low.abs_diff(high) <= 6)
            );
        }
        assert_eq!(perceptual(f64::NAN), perceptual(0.0));
        assert_eq!(perceptual(7.0), perceptual(1.0));
    }
}
