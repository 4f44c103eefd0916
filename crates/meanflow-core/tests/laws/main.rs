//! The laws of this crate, on numbers and on batches.

mod average_velocity;
mod cases;
mod combination;
mod interval;
mod inversion;
mod mixture;
mod random;
mod schedule;
mod scheduler;
mod settings;
mod solver;
mod state;
mod times;
mod weighting;
