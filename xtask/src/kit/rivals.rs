//! Phase e: the same step here and elsewhere by turns, after each has shown that it computes the same.

use super::Session;
use super::report::Status;
use crate::bench::proof::Errors;
use crate::bench::rival::{Reply, Rival};
use crate::bench::table::median;
use crate::files;
use anyhow::{Context, Result, ensure};
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

const fn setting(size: &'static str, guidance: &'static str, precision: &'static str) -> Setting {
    Setting {
        size,
        guidance,
        precision,
    }
}

/// In order of value.
const CUDA: [Setting; 3] = [
    setting("b4", "kappa", "bf16"),
    setting("b4", "kappa", "tf32"),
    setting("b4", "none", "bf16"),
];
const CPU: [Setting; 1] = [setting("digits", "kappa", "f32")];

const EAGER: &[&str] = &["pytorch_func_jvp", "pytorch_two_pass"];
const COMPILED: &[&str] = &["pytorch_compiled"];
const JAX: &[&str] = &["jax_jit"];

/// A program with its variants.
struct Competitor {
    rival: Rival,
    variants: Vec<Variant>,
    start: Duration,
}

/// A way to do the step, which is timed on its own.
struct Variant {
    name: &'static str,
    /// How far it is from ours in the proof.
    apart: Option<f64>,
    replies: Vec<Reply>,
}

impl Variant {
    fn new(name: &'static str, apart: Option<f64>) -> Self {
        Self {
            name,
            apart,
            replies: Vec::new(),
        }
    }
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
        variants: vec![Variant::new("dual", None)],
        start: start.elapsed(),
    }];
    export(session, setting, &proof)?;
    let mut raced = false;
    for (variants, rival) in waiting {
        if variants != EAGER && !raced {
            // What needs no compiler is measured while the others compile, in case that they are not ready in time.
            race(session, &mut competitors, until)?;
            raced = true;
        }
        let entered = rival
            .and_then(|rival| rival.ready_until(until))
            .and_then(|rival| enter(session, rival, variants, start, &proof));
        match entered {
            Ok(competitor) => competitors.push(competitor),
            Err(error) => session.report.remark(format!(
                "{}, {}, {}: without {}: {error:#}",
                setting.size,
                setting.guidance,
                setting.precision,
                variants.join(", ")
            ))?,
        }
    }
    files::remove(&proof)?;
    let mut variants = competitors.iter().flat_map(|one| &one.variants);
    if variants.any(|variant| variant.replies.is_empty()) {
        let end = session.deadline;
        race(session, &mut competitors, end)?;
    }
    tell(session, setting, &competitors)
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
            session.report.remark(format!(
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
    command.args(["--guidance", setting.guidance]);
    command.args(["--precision", setting.precision]);
    if session.kit.is_cpu() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.args(["--threads", &cores.to_string()]);
    }
    command.stderr(session.stderr()?);
    Ok(command)
}

/// Weights, a batch, loss and gradients, in f32.
fn export(session: &mut Session<'_>, setting: &Setting, proof: &Path) -> Result<()> {
    let exact = Setting {
        precision: "f32",
        ..*setting
    };
    let mut command = told(session, session.kit.program("step"), &exact)?;
    command.arg("--export").arg(proof);
    session
        .finish(command)
        .context("the proof could not be written")
}

/// Has a program that is warm compute what ours computed.
fn enter(
    session: &Session<'_>,
    mut rival: Rival,
    variants: &[&'static str],
    start: Instant,
    proof: &Path,
) -> Result<Competitor> {
    let start = start.elapsed();
    rival.deadline = session.deadline;
    let found: BTreeMap<String, Errors> = rival.ask(&format!("prove {}", proof.display()))?;
    for (name, errors) in &found {
        ensure!(errors.hold(), "{name} computes something else: {errors:?}");
    }
    let apart = |name: &str| found.get(name).map(Errors::largest);
    let variants = variants.iter().map(|name| Variant::new(name, apart(name)));
    Ok(Competitor {
        rival,
        variants: variants.collect(),
        start,
    })
}

/// Every variant once a round, until the rounds are done or it is so late. One that cannot do its step is no competitor any more.
fn race(session: &mut Session<'_>, competitors: &mut [Competitor], end: Instant) -> Result<()> {
    for competitor in competitors.iter_mut() {
        for variant in &mut competitor.variants {
            variant.replies.clear();
        }
    }
    for _ in 0..ROUNDS {
        if Instant::now() + Duration::from_secs(1) > end {
            break;
        }
        for competitor in competitors.iter_mut() {
            let mut lost = Vec::new();
            competitor
                .variants
                .retain_mut(|variant| match competitor.rival.step(variant.name) {
                    Ok(reply) => {
                        variant.replies.push(reply);
                        true
                    }
                    Err(error) => {
                        lost.push(format!("{} was lost: {error:#}", variant.name));
                        false
                    }
                });
            for reason in lost {
                session.report.remark(reason)?;
            }
        }
    }
    Ok(())
}

/// A row for every variant that was timed.
fn tell(session: &mut Session<'_>, setting: &Setting, competitors: &[Competitor]) -> Result<()> {
    let mut ours = None;
    for competitor in competitors {
        for Variant {
            name,
            apart,
            replies,
        } in &competitor.variants
        {
            let Some(first) = replies.first() else {
                continue;
            };
            let ms = median(replies.iter().map(|reply| reply.ms).collect());
            // Ours is the first of all.
            if *name == "dual" {
                ours = Some(ms);
            }
            session.report.row(json!({
                "size": setting.size, "guidance": setting.guidance, "precision": setting.precision,
                "variant": if *name == "dual" { "ours" } else { name }, "ms": ms,
                "times_ours": ours.map(|ours| ms / ours), "peak_mib": first.peak_mib,
                "rounds": replies.len(), "start_seconds": competitor.start.as_secs_f64(), "apart": apart,
            }))?;
        }
    }
    Ok(())
}
