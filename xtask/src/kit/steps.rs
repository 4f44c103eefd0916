//! Phase d: the step table, by the program `measure`.

use super::Session;
use super::report::Status;
use anyhow::Result;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let kit = session.kit;
    let mut measure = kit.program("measure");
    measure.args(["steps", "--device", &kit.device]);
    // A tenth is left for what cannot be stopped midway: making a network, the least number of rounds.
    let seconds = 0.9 * session.left().as_secs_f64();
    measure.args(["--seconds", &format!("{seconds:.1}")]);
    let sizes: &[&str] = if kit.is_cpu() {
        &["digits", "small-unet"]
    } else {
        &["b4", "cifar-unet", "b2", "xl2"]
    };
    for size in sizes {
        measure.args(["--size", size]);
    }
    session.rows_of(measure)
}
