//! The mathematics of MeanFlow: paths, times, the identity, solvers and closed forms.
