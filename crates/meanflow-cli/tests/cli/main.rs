//! The program as a user runs it.

mod bad_input;
mod check;
mod commands;
mod custom_parts;
mod data;
mod editing;
mod eval;
mod export;
mod fine_tune;
mod latents;
mod launch;
mod manners;
mod pictures;
mod presets;
mod progress;
mod reliability;
mod routes;
mod serve;
mod support;
