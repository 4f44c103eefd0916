//! The laws of guidance, on numbers and on batches.

mod class_dropout;
mod guidance;
mod plan;
mod settings;
