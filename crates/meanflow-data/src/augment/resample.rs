//! A picture seen through an affine map, without aliasing: mirrored at its edges, doubled with a wavelet's low-pass
//! filter, read off bilinearly on a doubled grid, and halved with the same filter.
//!
//! Karras et al. 2020 ("Training Generative Adversarial Networks with Limited Data", appendix B.2) introduced this
//! pipeline; doubling and halving are each other's inverse since the wavelet is orthogonal.

/// Low-pass filter of Daubechies' least asymmetric wavelet with six vanishing moments ("sym6"): twelve taps, sum √2,
/// orthogonal to its own even shifts (Daubechies, "Ten Lectures on Wavelets", 1992, table 6.3).
const SYM6: [f64; 12] = [
    0.015_404_109_327_027_373,
    0.003_490_712_084_217_47,
    -0.117_990_111_148_190_57,
    -0.048_311_742_585_633,
    0.491_055_941_926_746_6,
    0.787_641_141_030_194,
    0.337_929_421_727_621_8,
    -0.072_637_522_786_462_52,
    -0.021_060_292_512_300_564,
    0.044_724_901_770_665_78,
    0.001_767_711_864_242_803_6,
    -0.007_800_708_325_034_148,
];

/// The tap of [`SYM6`] that lies on a pixel.
const CENTRE: isize = 5;

/// An affine map of the plane, `(x, y) ↦ (a·x + b·y + c, d·x + e·y + f)`; x points right, y down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine([[f64; 3]; 2]);

impl Affine {
    /// Every point stays where it is.
    pub const IDENTITY: Self = Self([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    /// Adds (x, y).
    pub fn shift(x: f64, y: f64) -> Self {
        Self([[1.0, 0.0, x], [0.0, 1.0, y]])
    }

    /// Multiplies by x and y.
    pub fn scale(x: f64, y: f64) -> Self {
        Self([[x, 0.0, 0.0], [0.0, y, 0.0]])
    }

    /// Turns the x axis towards the y axis.
    pub fn turn(angle: f64) -> Self {
        let (sin, cos) = libm::sincos(angle);
        Self([[cos, -sin, 0.0], [sin, cos, 0.0]])
    }

    /// First `other`, then `self`.
    #[must_use]
    pub fn after(self, other: Self) -> Self {
        let [x, y] = other.0;
        Self(self.0.map(|[a, b, c]| {
            let mut row = [0, 1, 2].map(|i| a * x[i] + b * y[i]);
            row[2] += c;
            row
        }))
    }

    /// The image of a point.
    pub fn map(self, [x, y]: [f64; 2]) -> [f64; 2] {
        self.0.map(|[a, b, c]| a * x + b * y + c)
    }
}

/// The picture whose value at a point is the value of `picture` at the image of that point under `origins`.
///
/// Points are measured in pixels from the centre. Beyond its edges the picture goes on as its mirror image, once;
/// beyond that it is 0.
///
/// # Shapes
/// `picture` and the result are `[C, H, W]` with `shape = [C, H, W]`.
///
/// # Panics
/// When the picture is not of that shape.
pub fn resample(picture: &[f32], shape: [usize; 3], origins: Affine) -> Vec<f32> {
    let [channels, height, width] = shape;
    assert_eq!(picture.len(), channels * height * width, "shape {shape:?}");
    let (wide, high) = (Doubled::of(width), Doubled::of(height));
    let places = places(origins, wide, high);
    let (columns, rows) = (wide.needed(&places, 0), high.needed(&places, 1));
    let mut result = Vec::with_capacity(picture.len());
    for plane in picture.chunks_exact(height * width) {
        let finer = double(plane, width, columns);
        let finer = transposed(&finer, columns.count);
        let finer = double(&finer, height, rows);
        // `finer` is [columns, rows], doubled along both.
        let read: Vec<f32> = places
            .iter()
            .map(|&place| bilinear(&finer, columns, rows, place))
            .collect();
        let narrow = halve(&read, wide.read(), width);
        let short = halve(&transposed(&narrow, width), high.read(), height);
        result.extend(transposed(&short, height));
    }
    result
}

/// One axis of a picture of `side` pixels, doubled: pixel k is at place 2k.
#[derive(Clone, Copy, Debug)]
struct Doubled {
    side: usize,
}

/// Consecutive places of a doubled axis.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: isize,
    count: usize,
}

impl Doubled {
    fn of(side: usize) -> Self {
        Self { side }
    }

    /// How many places the filter reads to halve the axis: from -5 to 2·side + 4.
    fn read(self) -> usize {
        2 * self.side + SYM6.len() - 2
    }

    /// The point of a place that is read, counted from the first.
    fn point(self, index: usize) -> f64 {
        (index as f64 - CENTRE as f64 + 1.0 - self.side as f64) / 2.0
    }

    /// The place of a point.
    fn place(self, point: f64) -> f64 {
        2.0 * point + self.side as f64 - 1.0
    }

    /// The places around those that are read, as far as the filter spreads the mirrored picture.
    fn needed(self, places: &[[f64; 2]], axis: usize) -> Span {
        let side = self.side as isize;
        let reach = SYM6.len() as isize - 1;
        let low = -2 * (side - 1) - CENTRE;
        let high = 4 * (side - 1) + reach - CENTRE;
        let ends = places.iter().map(|place| place[axis]);
        let (least, most) = ends.fold((f64::MAX, f64::MIN), |(least, most), place| {
            (least.min(place), most.max(place))
        });
        let first = (least.floor() as isize).clamp(low, high);
        let last = (most.floor() as isize).saturating_add(1).clamp(first, high);
        let count = (last - first + 1) as usize;
        Span { first, count }
    }
}

/// Where each place that is read comes from, in places of the doubled picture, row by row.
fn places(origins: Affine, wide: Doubled, high: Doubled) -> Vec<[f64; 2]> {
    let row = |y: f64| {
        (0..wide.read()).map(move |column| {
            let [x, y] = origins.map([wide.point(column), y]);
            [wide.place(x), high.place(y)]
        })
    };
    (0..high.read())
        .flat_map(|index| row(high.point(index)))
        .collect()
}

/// The places `span` of every row of `side` pixels, doubled: `Σ_k pixel_k · √2 h[place − 2k + 5]`.
fn double(plane: &[f32], side: usize, span: Span) -> Vec<f32> {
    // Six taps reach a place; which pixels they lie on is the same for every row.
    let taps: Vec<Vec<(usize, f32)>> = (span.first..)
        .take(span.count)
        .map(|place| taps_at(place, side))
        .collect();
    let mut result = Vec::with_capacity(plane.len() / side * span.count);
    for row in plane.chunks_exact(side) {
        let weighed = |taps: &Vec<(usize, f32)>| taps.iter().map(|&(k, tap)| row[k] * tap).sum();
        result.extend(taps.iter().map(|taps| -> f32 { weighed(taps) }));
    }
    result
}

/// The pixels under the taps of the doubling filter at a place, each with its tap.
fn taps_at(place: isize, side: usize) -> Vec<(usize, f32)> {
    let taps = SYM6.len() as isize;
    let last = (place + CENTRE).div_euclid(2);
    let first = (place + CENTRE - taps + 2).div_euclid(2);
    (first..=last)
        .filter_map(|k| {
            let tap = SYM6[usize::try_from(place - 2 * k + CENTRE).ok()?];
            let pixel = reflected(k, side)?;
            Some((pixel, (std::f64::consts::SQRT_2 * tap) as f32))
        })
        .collect()
}

/// The pixel that stands for pixel `k` of a row that goes on as its mirror image, once, on both sides.
fn reflected(k: isize, side: usize) -> Option<usize> {
    let last = side as isize - 1;
    let inside = (-last..=2 * last).contains(&k);
    inside.then(|| (last - (last - k.abs()).abs()) as usize)
}

/// Every row of `read` places, halved to `side` pixels: `Σ_place value · h[place − 2k + 5] / √2`.
fn halve(values: &[f32], read: usize, side: usize) -> Vec<f32> {
    let taps = SYM6.map(|tap| (tap * std::f64::consts::FRAC_1_SQRT_2) as f32);
    let mut result = Vec::with_capacity(values.len() / read * side);
    for row in values.chunks_exact(read) {
        let weighed = |k: usize| row[2 * k..].iter().zip(&taps).map(|(x, tap)| x * tap).sum();
        result.extend((0..side).map(|k| -> f32 { weighed(k) }));
    }
    result
}

/// The value between four places of `[columns, rows]`; beyond them it falls to 0 within one place.
fn bilinear(finer: &[f32], columns: Span, rows: Span, [x, y]: [f64; 2]) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, lower_share) = ((x - left) as f32, (y - top) as f32);
    // Far away places saturate, and are outside.
    let column = (left as isize).saturating_sub(columns.first);
    let row = (top as isize).saturating_sub(rows.first);
    let at = |column: isize, row: isize| {
        let inside = |place: isize, span: Span| (0..span.count as isize).contains(&place);
        if inside(column, columns) && inside(row, rows) {
            finer[column as usize * rows.count + row as usize]
        } else {
            0.0
        }
    };
    let between = |column| {
        let (upper, lower) = (at(column, row), at(column, row.saturating_add(1)));
        upper + lower_share * (lower - upper)
    };
    let (left, right) = (between(column), between(column.saturating_add(1)));
    left + right_share * (right - left)
}

/// Rows and columns exchanged.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    let height = values.len() / width;
    let value = |place: usize| values[place % height * width + place / height];
    (0..values.len()).map(value).collect()
}
