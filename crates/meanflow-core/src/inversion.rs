//! From data to noise by the average velocity: the jump (M15) solved for its upper end.

use crate::identity;
use crate::state::Norm;

/// When to stop looking for the upper end of a jump.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedPoint {
    /// Root mean square, over the dimensions of a sample, of the distance by which the jump may miss its lower end.
    pub tolerance: f64,
    /// Evaluations of `u` at most.
    pub max_nfe: usize,
}

/// The upper end of a jump, as far as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Inverse<S> {
    /// `z_t`.
    pub state: S,
    /// Root mean square of `z_t − (t−r) u(z_t, r, t) − z_r` in every sample, `[B]`: what the jump misses `z_r` by.
    pub residuals: Vec<f64>,
    /// Evaluations of `u` until the sample met the tolerance, or the last one, `[B]`.
    pub nfe: Vec<usize>,
}

/// The `z_t` from which a jump of `length = t − r` lands on `end = z_r`, where `u(z)` is `u(z, r, t)`.
///
/// (M15) gives `z_r` from `z_t`, but `u` is known as a function of `z_t` only: the other way is an equation, solved by the
/// iteration `z ← z − θ (z − (t−r) u(z) − z_r)` from `z = z_r`. Every sample has its own `θ`, 1 at first and halved
/// when half the step would have come nearer.
///
/// With `A = ∂z_r/∂z_t`, a step multiplies the error by `I − θA`. So `θ = 1` converges where the eigenvalues of `A` lie within the
/// unit circle around 1 (short jumps do: `A → I`), and some `θ` does wherever the symmetric part of `A` is positive. The
/// number of evaluations grows as one over the smallest eigenvalue: directions that the flow flattens are slow. A
/// sample that does not converge has a large residual and disturbs no other.
///
/// ```
/// use meanflow_core::inversion::{FixedPoint, invert_jump};
/// use meanflow_core::oracle::Gaussian;
/// use meanflow_core::Schedule;
///
/// let data = Gaussian::new(3.0, 0.5)?;
/// let u = |z: &f64| data.average_velocity(&Schedule::Linear, *z, 0.0, 1.0);
/// let settings = FixedPoint { tolerance: 1e-9, max_nfe: 100 };
/// // A data point one deviation above the mean comes from noise one deviation above its mean.
/// let noise = invert_jump(u, &3.5, 1.0, settings);
/// assert!((noise.state - 1.0).abs() < 1e-8 && noise.residuals[0] <= 1e-9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn invert_jump<S: Norm>(
    u: impl FnMut(&S) -> S,
    end: &S,
    length: f64,
    settings: FixedPoint,
) -> Inverse<S> {
    let mut search = Search::new(u, end, length);
    for evaluation in 2..=settings.max_nfe {
        let moving = search.beyond(settings.tolerance);
        if !moving.contains(&true) {
            break;
        }
        search.step(&moving);
        for row in (0..moving.len()).filter(|row| moving[*row]) {
            search.nfe[row] = evaluation;
        }
    }
    Inverse {
        state: search.state,
        residuals: search.residuals,
        nfe: search.nfe,
    }
}

/// Samples on their way to the upper end of a jump.
struct Search<'a, S, U> {
    u: U,
    end: &'a S,
    length: f64,
    state: S,
    /// What a jump from `state` misses `end` by, and its root mean square in every sample.
    missed: S,
    residuals: Vec<f64>,
    /// `θ` of every sample.
    damping: Vec<f64>,
    nfe: Vec<usize>,
}

impl<'a, S: Norm, U: FnMut(&S) -> S> Search<'a, S, U> {
    fn new(u: U, end: &'a S, length: f64) -> Self {
        let rows = end.rows();
        let mut search = Self {
            u,
            end,
            length,
            state: end.clone(),
            missed: end.clone(),
            residuals: Vec::new(),
            damping: vec![1.0; rows],
            nfe: vec![1; rows],
        };
        (search.missed, search.residuals) = search.miss(end);
        search
    }

    fn miss(&mut self, z: &S) -> (S, Vec<f64>) {
        let landed = identity::jump(z, &(self.u)(z), &vec![self.length; z.rows()]);
        let missed = S::uniform(&[(1.0, &landed), (-1.0, self.end)]);
        let sizes = sizes_of(&missed);
        (missed, sizes)
    }

    /// The samples that miss by more than the tolerance, or by what is no number.
    fn beyond(&self, tolerance: f64) -> Vec<bool> {
        let within = |size: &f64| *size <= tolerance;
        self.residuals.iter().map(|size| !within(size)).collect()
    }

    /// Moves those of the `moving` samples that come nearer, and shortens the next step of those that went too far.
    fn step(&mut self, moving: &[bool]) {
        let rows = moving.len();
        let lengths: Vec<f64> = self.damping.iter().map(|theta| -theta).collect();
        let trial = self.moved(&masked(&lengths, moving));
        let (missed, sizes) = self.miss(&trial);
        let nearer = (0..rows).map(|row| moving[row] && sizes[row] < self.residuals[row]);
        let nearer: Vec<bool> = nearer.collect();
        let rest: Vec<bool> = nearer.iter().map(|nearer| !nearer).collect();
        // What half a step misses by, where the jump is linear.
        let half = sizes_of(&S::uniform(&[(0.5, &self.missed), (0.5, &missed)]));
        for row in (0..rows).filter(|row| moving[*row]) {
            if !nearer[row] || half[row] < sizes[row] {
                self.damping[row] *= 0.5;
            }
            if nearer[row] {
                self.residuals[row] = sizes[row];
            }
        }
        self.state = self.moved(&masked(&lengths, &nearer));
        let ones = vec![1.0; rows];
        self.missed = S::combine(&[
            (&masked(&ones, &nearer), &missed),
            (&masked(&ones, &rest), &self.missed),
        ]);
    }

    /// Each sample moved so many times along what it misses.
    fn moved(&self, steps: &[f64]) -> S {
        S::combine(&[
            (&vec![1.0; steps.len()], &self.state),
            (steps, &self.missed),
        ])
    }
}

/// The root mean square of every sample.
fn sizes_of<S: Norm>(z: &S) -> Vec<f64> {
    z.mean_squares().into_iter().map(f64::sqrt).collect()
}

/// The values of the chosen samples, 0 for the others.
fn masked(values: &[f64], chosen: &[bool]) -> Vec<f64> {
    let pairs = values.iter().zip(chosen);
    pairs
        .map(|(value, chosen)| if *chosen { *value } else { 0.0 })
        .collect()
}
