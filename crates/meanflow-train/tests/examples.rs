//! The example runs, and what it asserts holds.

#[path = "../examples/ten_steps.rs"]
mod ten_steps;

#[test]
fn ten_steps() {
    ten_steps::main().unwrap();
}
