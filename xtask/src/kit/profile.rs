//! Phase g: where the time of a step goes, by the program `measure`.

use super::Session;
use super::report::Status;
use anyhow::Result;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let kit = session.kit;
    let mut measure = kit.program("measure");
    measure.args(["profile", "--device", &kit.device]);
    measure.args(["--size", if kit.is_cpu() { "digits" } else { "b4" }]);
    session.rows_of(measure)
}
