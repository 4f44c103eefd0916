//! Runs on four processes, one of which is killed at a random moment, that go on with two, of which one is killed, and end with one.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::runs::{Runs, ended_well, kill};

/// How many processes a run has before each kill.
const WORLDS: [u64; 2] = [4, 2];

/// Kills so many processes of runs on four, and as many where they go on with two.
pub(super) fn run(runs: &mut Runs, count: usize) -> Result<()> {
    // They share cores, so that a run takes longer than one process does.
    let begun = Instant::now();
    ended_well(launch(runs, "processes-whole", WORLDS[0])?)?;
    runs.compare("processes-whole")?;
    let usual = begun.elapsed();
    let (mut done, mut all, mut rest) = (0, 0, 0);
    for number in 0.. {
        if done >= count {
            break;
        }
        let scene = format!("processes-{number}");
        let killed = WORLDS.map(|world| kill_one(runs, &scene, world, usual));
        for killed in killed {
            all += usize::from(killed?);
        }
        let said = runs.finish(&scene)?;
        rest += usize::from(!said.contains("already finished"));
        runs.compare(&scene)?;
        done = all / WORLDS.len();
    }
    println!(
        "processes: {all} killed, of four and of two; one process did the rest of {rest} runs; 0 runs differ"
    );
    Ok(())
}

/// Trains on some processes and kills one of them within the time that a run takes; whether it came to that.
fn kill_one(runs: &mut Runs, scene: &str, world: u64, usual: Duration) -> Result<bool> {
    let launcher = launch(runs, scene, world)?;
    thread::sleep(usual.mul_f64(runs.random.f64()));
    let children = format!("/proc/{0}/task/{0}/children", launcher.id());
    // It may have ended.
    let children = fs::read_to_string(children).unwrap_or_default();
    let children: Vec<u32> = children.split(' ').flat_map(str::parse).collect();
    if let Some(child) = runs.random.choice(children) {
        kill("KILL", child)?;
    }
    let output = launcher.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // That of the killed process, as a shell has it.
    let was_killed = output.status.code() == Some(128 + 9);
    ensure!(
        was_killed || output.status.success(),
        "{}: {said}",
        output.status
    );
    Ok(was_killed)
}

fn launch(runs: &Runs, scene: &str, world: u64) -> Result<Child> {
    let mut command = Command::new(&runs.program);
    command.args(["launch", "--processes", &world.to_string(), "--"]);
    runs.train_by(scene, command)
}
