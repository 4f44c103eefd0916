//! The meanflow command.
fn main() {}
