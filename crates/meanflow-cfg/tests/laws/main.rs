//! The laws of guidance, on numbers and on batches.

mod guidance;
mod label_drop;
mod plan;
mod settings;
