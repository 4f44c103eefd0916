//! The phases that the program `measure` answers alone.

use super::Session;
use super::report::Status;
use anyhow::Result;
use std::process::Command;

/// The program, asked this about the device.
fn measure(session: &Session<'_>, question: &str) -> Command {
    let mut measure = session.kit.program("measure");
    measure.args([question, "--device", &session.kit.device]);
    measure
}

/// Phase d: the step table.
pub(super) fn steps(session: &mut Session<'_>) -> Result<Status> {
    let mut measure = measure(session, "steps");
    // A tenth is left for what cannot be stopped midway: making a network, the least number of rounds.
    let seconds = 0.9 * session.left().as_secs_f64();
    measure.args(["--seconds", &format!("{seconds:.1}")]);
    let sizes: &[&str] = if session.kit.is_cpu() {
        &["digits", "small-unet"]
    } else {
        &["b4", "cifar-unet", "b2", "xl2"]
    };
    measure.args(sizes.iter().flat_map(|size| ["--size", size]));
    session.rows_of(measure)
}

/// Phase g: where the time of a step goes.
pub(super) fn profile(session: &mut Session<'_>) -> Result<Status> {
    let mut measure = measure(session, "profile");
    measure.args(["--size", session.kit.size()]);
    session.rows_of(measure)
}

/// Phase h: a group of one rank over NCCL, on a CPU over Gloo.
pub(super) fn group(session: &mut Session<'_>) -> Result<Status> {
    let mut measure = measure(session, "group");
    // Nobody else is to be found: NCCL asks no other interface than loopback.
    measure.env("NCCL_SOCKET_IFNAME", "lo");
    session.rows_of(measure)
}
