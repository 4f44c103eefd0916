//! Phase h: a group of one rank over NCCL, on a CPU over Gloo, by the program `measure`.

use super::Session;
use super::report::Status;
use anyhow::Result;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    let kit = session.kit;
    let mut measure = kit.program("measure");
    measure.args(["group", "--device", &kit.device]);
    // Nobody else is to be found: NCCL asks no other interface than loopback.
    measure.env("NCCL_SOCKET_IFNAME", "lo");
    session.rows_of(measure)
}
