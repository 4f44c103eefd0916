//! Tests that `cargo xtask soak` does more often: what is not finite, files with damage, runs with damage, memory over many steps.

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../meanflow-data/tests/common/damage.rs"]
mod damage;
mod damages;
mod flat_memory;
mod hostile;
mod injections;
