//! How long the threads of libgomp wait for each other awake.
//!
//! By default they spin for about a millisecond. Where other programs want the processors as well, threads that spin use up the time
//! that those need which they wait for, and a step of a small network takes a hundred times as long: docs/src/performance.md.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Variables by which the user chooses.
const CHOICES: [&str; 2] = ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"];

/// Turns of the loop before a thread sleeps: as fast as the default on an idle machine.
const TURNS: &str = "10000";

/// Starts this program anew, in the same process, where the user has chosen nothing: libgomp reads its variables before `main`.
///
/// Where that fails, threads wait as they would have.
pub(crate) fn spin_briefly() {
    if CHOICES.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    if let (Ok(program), Some(name)) = (env::current_exe(), arguments.next()) {
        let mut again = Command::new(program);
        let _failed = again
            .arg0(name)
            .args(arguments)
            .env(CHOICES[0], TURNS)
            .exec();
    }
}
