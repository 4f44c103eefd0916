//! Phase e: the same step here and elsewhere by turns, after each has shown that it computes the same.

use super::Session;
use super::report::Status;
use crate::bench::proof::Errors;
use crate::bench::rival::Rival;
use crate::bench::table::median;
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What is compared.
struct Setting {
    size: &'static str,
    guidance: &'static str,
    precision: &'static str,
}

/// In order of value.
const CUDA: [Setting; 3] = [
    Setting {
        size: "b4",
        guidance: "kappa",
        precision: "bf16",
    },
    Setting {
        size: "b4",
        guidance: "kappa",
        precision: "tf32",
    },
    Setting {
        size: "b4",
        guidance: "none",
        precision: "bf16",
    },
];
const CPU: [Setting; 1] = [Setting {
    size: "digits",
    guidance: "kappa",
    precision: "f32",
}];

const EAGER: &[&str] = &["pytorch_func_jvp", "pytorch_two_pass"];
const COMPILED: &[&str] = &["pytorch_compiled"];
const JAX: &[&str] = &["jax_jit"];

/// A program with its variants, each of which is timed on its own.
struct Competitor {
    rival: Rival,
    variants: Vec<&'static str>,
    start: Duration,
    apart: BTreeMap<String, f64>,
}

const ROUNDS: usize = 15;
/// What a setting has of the time that is left for it and those after it.
const FIRST: f64 = 0.6;
/// What the programs of the rivals have of the time of a setting until they are warm. They start together.
const START: f64 = 0.8;

pub(super) fn run(session: &mut Session<'_>) -> Result<Status> {
    if session.kit.python.is_none() && session.kit.jax.is_none() {
        return Ok(Status::Skipped(
            "no Python with torch or jax was found".to_owned(),
        ));
    }
    let settings: &[Setting] = if session.kit.is_cpu() { &CPU } else { &CUDA };
    let end = session.deadline;
    for (index, setting) in settings.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        // The first, which says most, also has what the others cannot do without it: most of the time to compile.
        let share = if index + 1 == settings.len() {
            1.0
        } else {
            FIRST
        };
        session.deadline = Instant::now() + left.mul_f64(share);
        compare(session, setting)?;
    }
    Ok(Status::Done)
}

fn compare(session: &mut Session<'_>, setting: &Setting) -> Result<()> {
    let proof = session.kit.out.join("proof.safetensors");
    let start = Instant::now();
    let until = start + session.left().mul_f64(START);
    let waiting = launched(session, setting)?;
    let ours = told(session, session.kit.program("step"), setting)?;
    let rival = Rival::start_until(session.deadline, "step", ours)?;
    let mut competitors = vec![Competitor {
        rival,
        variants: vec!["dual"],
        start: start.elapsed(),
        apart: BTreeMap::new(),
    }];
    export(session, setting, &proof)?;
    let mut replies = Replies::new();
    for (variants, rival) in waiting {
        if variants != EAGER && replies.is_empty() {
            // What needs no compiler is measured while the others compile, in case that they are not ready in time.
            replies = race(session, &mut competitors, until)?;
        }
        let entered = rival
            .and_then(|rival| rival.ready_until(until))
            .and_then(|rival| enter(session, rival, variants, start, &proof));
        match entered {
            Ok(competitor) => competitors.push(competitor),
            Err(error) => session.remark(format!(
                "{}, {}, {}: without {}: {error:#}",
                setting.size,
                setting.guidance,
                setting.precision,
                variants.join(", ")
            ))?,
        }
    }
    std::fs::remove_file(&proof)?;
    if replies.len() < competitors.iter().map(|one| one.variants.len()).sum() {
        let end = session.deadline;
        replies = race(session, &mut competitors, end)?;
    }
    tell(session, setting, &competitors, &replies)
}

/// The rivals that there is a Python for, all of them started.
fn launched(
    session: &mut Session<'_>,
    setting: &Setting,
) -> Result<Vec<(&'static [&'static str], Result<Rival>)>> {
    let mut waiting = Vec::new();
    let (python, jax) = (session.kit.python.clone(), session.kit.jax.clone());
    for (python, script, variants) in [
        (&python, "step.py", EAGER),
        (&python, "step.py", COMPILED),
        (&jax, "step_jax.py", JAX),
    ] {
        let Some(python) = python else {
            session.remark(format!(
                "{}: no Python for {script} was found.",
                variants.join(", ")
            ))?;
            continue;
        };
        let mut command = told(session, session.kit.script(python, script), setting)?;
        command.args(["--variants", &variants.join(",")]);
        waiting.push((variants, Rival::launch(script, command)));
    }
    Ok(waiting)
}

/// A command with what every rival is told.
fn told(session: &Session<'_>, mut command: Command, setting: &Setting) -> Result<Command> {
    command.args(["--size", setting.size, "--device", &session.kit.device]);
    command.args([
        "--guidance",
        setting.guidance,
        "--precision",
        setting.precision,
    ]);
    if session.kit.is_cpu() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.args(["--threads", &cores.to_string()]);
    }
    command.stderr(session.stderr()?);
    Ok(command)
}

/// Weights, a batch, loss and gradients, in f32.
fn export(session: &Session<'_>, setting: &Setting, proof: &Path) -> Result<()> {
    let exact = Setting {
        precision: "f32",
        ..*setting
    };
    let mut command = told(session, session.kit.program("step"), &exact)?;
    command.arg("--export").arg(proof);
    let ended = super::child::run(command, session.deadline, |_| Ok(()))?;
    match ended.status(&session.log()) {
        Status::Done => Ok(()),
        other => bail!("the proof could not be written: {other}"),
    }
}

/// Has a program that is warm compute what ours computed.
fn enter(
    session: &Session<'_>,
    mut rival: Rival,
    variants: &[&'static str],
    start: Instant,
    proof: &Path,
) -> Result<Competitor> {
    let took = start.elapsed();
    rival.patience(session.deadline);
    let found: BTreeMap<String, Errors> = rival.ask(&format!("prove {}", proof.display()))?;
    for (variant, errors) in &found {
        if !errors.hold() {
            bail!("{variant} computes something else: {errors:?}");
        }
    }
    let apart = found
        .into_iter()
        .map(|(name, errors)| (name, errors.largest()));
    Ok(Competitor {
        rival,
        variants: variants.to_vec(),
        start: took,
        apart: apart.collect(),
    })
}

/// The times and the peak memory of a variant, round by round.
type Replies = BTreeMap<&'static str, Vec<(f64, Option<f64>)>>;

/// Every variant once a round, until the rounds are done or it is so late. One that cannot do its step is no competitor any more.
fn race(
    session: &mut Session<'_>,
    competitors: &mut [Competitor],
    end: Instant,
) -> Result<Replies> {
    let mut replies = Replies::new();
    let mut lost: BTreeMap<&str, String> = BTreeMap::new();
    for _ in 0..ROUNDS {
        if Instant::now() + Duration::from_secs(1) > end {
            break;
        }
        for competitor in competitors.iter_mut() {
            for variant in &competitor.variants {
                if lost.contains_key(variant) {
                    continue;
                }
                match competitor.rival.step(variant) {
                    Ok(reply) => {
                        let list = replies.entry(variant).or_default();
                        list.push((reply.ms, reply.peak_mib));
                    }
                    Err(error) => {
                        lost.insert(variant, format!("{error:#}"));
                    }
                }
            }
        }
    }
    for competitor in competitors {
        competitor
            .variants
            .retain(|variant| !lost.contains_key(variant));
    }
    for (variant, reason) in lost {
        session.remark(format!("{variant} was lost: {reason}"))?;
    }
    Ok(replies)
}

/// A row for every variant that was timed.
fn tell(
    session: &mut Session<'_>,
    setting: &Setting,
    competitors: &[Competitor],
    replies: &Replies,
) -> Result<()> {
    let time = |variant: &str| -> Option<f64> {
        let times = replies.get(variant)?.iter().map(|reply| reply.0);
        Some(median(times.collect()))
    };
    let ours = time("dual");
    for competitor in competitors {
        for variant in &competitor.variants {
            let Some(ms) = time(variant) else { continue };
            let list = &replies[variant];
            session.row(json!({
                "size": setting.size, "guidance": setting.guidance, "precision": setting.precision,
                "variant": if *variant == "dual" { "ours" } else { variant },
                "ms": ms, "times_ours": ours.map(|ours| ms / ours), "peak_mib": list[0].1,
                "rounds": list.len(), "start_seconds": competitor.start.as_secs_f64(),
                "apart": competitor.apart.get(*variant),
            }))?;
        }
    }
    Ok(())
}
