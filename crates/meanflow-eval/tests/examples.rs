//! The example runs, and what it asserts holds.

#[path = "../examples/evaluate.rs"]
mod evaluate;

#[test]
fn evaluate() {
    evaluate::main().unwrap();
}
