//! The average velocity and its identity (M10–M15): the whole of MeanFlow on a screen.
//!
//! `h = t − r`, one number per sample, is called `lengths`. A derivative `du/dt` follows the trajectory (M12): it is
//! the derivative of `u(z, r, t)` in direction `(v, 0, 1)`.
//!
//! # Shapes
//! States `[B, …]`, lengths `[B]`.

use crate::state::State;

/// The regression target `v − (t−r) du/dt` (M11, M13); at `r = t` it is `v`, plain flow matching.
pub fn target<S: State>(v: &S, dudt: &S, lengths: &[f64]) -> S {
    S::combine(&[(&constant(1.0, lengths), v), (&negated(lengths), dudt)])
}

/// `u − v + (t−r) du/dt`: zero where the identity (M11) holds.
pub fn identity_residual<S: State>(u: &S, v: &S, dudt: &S, lengths: &[f64]) -> S {
    S::uniform(&[(1.0, u), (-1.0, &target(v, dudt, lengths))])
}

/// `(t−r) u = ∫_r^t v dτ`: the way a sample travels in its interval (M8).
pub fn displacement<S: State>(u: &S, lengths: &[f64]) -> S {
    u.scaled(lengths)
}

/// `z_r = z_t − (t−r) u(z_t, r, t)`: a step of sampling (M15).
pub fn jump<S: State>(z: &S, u: &S, lengths: &[f64]) -> S {
    S::combine(&[(&constant(1.0, lengths), z), (&negated(lengths), u)])
}

/// An average velocity over one part of a trajectory.
#[derive(Debug)]
pub struct Leg<'a, S> {
    /// `u(z_t, r, t)`, from the state at the upper end.
    pub u: &'a S,
    /// `t − r`.
    pub lengths: &'a [f64],
}

/// `(t−r) u(z_t,r,t) − (s−r) u(z_s,r,s) − (t−s) u(z_t,s,t)`, for `r ≤ s ≤ t` (M10).
///
/// Zero where `u` is consistent: the way from `t` to `r` is the way from `t` to `s` (`upper`) and from `s` to `r`
/// (`lower`), `z_s` being on the trajectory of `z_t`.
pub fn consistency_residual<S: State>(whole: &Leg<S>, lower: &Leg<S>, upper: &Leg<S>) -> S {
    S::combine(&[
        (whole.lengths, whole.u),
        (&negated(lower.lengths), lower.u),
        (&negated(upper.lengths), upper.u),
    ])
}

fn constant(value: f64, like: &[f64]) -> Vec<f64> {
    vec![value; like.len()]
}

fn negated(lengths: &[f64]) -> Vec<f64> {
    lengths.iter().map(|h| -h).collect()
}
