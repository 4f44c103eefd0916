//! The phases of the GPU kit, as `run.sh` starts them.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::kit()
}
