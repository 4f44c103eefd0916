//! The examples run, and what they assert holds.

#[path = "../examples/custom_scheduler.rs"]
mod custom_scheduler;
#[path = "../examples/gaussian_identity.rs"]
mod gaussian_identity;

#[test]
fn gaussian_identity() {
    gaussian_identity::main().unwrap();
}

#[test]
fn custom_scheduler() {
    custom_scheduler::main().unwrap();
}
