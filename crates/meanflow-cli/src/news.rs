//! What a person reads of a run's events.

use meanflow_torch::Sharing;
use meanflow_torch::init_from::InitOutcome;
use meanflow_train::{Event, InitReport};

/// What a person reads of an event, one line or a few; nothing for one that only moves the bar.
pub(crate) fn line_of(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Started { .. } => beginning_of(event)?,
        Event::Initialized(report) => start_of(report),
        Event::Remark(text) => format!("note: {text}"),
        Event::Changed {
            after_step,
            differences,
        } => {
            let lines = differences.join("\n");
            format!(
                "the recipe differs after step {after_step}, as --allow-changes accepts:\n{lines}"
            )
        }
        Event::AlreadyFinished { step, steps } => format!(
            "already finished: {step} of {steps} steps are done; train longer with --set training.steps=N"
        ),
        Event::Restored(path) => format!("made again: {}", path.display()),
        Event::Drawn(path) => format!("samples: {}", path.display()),
        Event::Saved(path) => format!("checkpoint: {}", path.display()),
        Event::Ended {
            wait_share,
            skipped,
        } => {
            let waited = format!(
                "steps waited for data {:.1} % of the time",
                100.0 * wait_share
            );
            match skipped {
                0 => waited,
                skipped => format!(
                    "{waited}\nwarning: {skipped} steps were left out in all, as they were not finite"
                ),
            }
        }
        event => format!("warning: {}", warning_of(event)?),
    })
}

/// What a run begins with: its size, where it goes on from, and how it is computed.
fn beginning_of(event: &Event<'_>) -> Option<String> {
    let Event::Started {
        step,
        steps,
        parameters,
        samples,
        sharing,
    } = *event
    else {
        return None;
    };
    let from = match step {
        0 => String::new(),
        step => format!(", going on after step {step}"),
    };
    let size = format!("{parameters} parameters, {samples} training samples, {steps} steps{from}");
    Some(match sharing {
        Some(sharing) => format!("{size}\n{}", described(sharing)),
        None => size,
    })
}

/// What a run begins with that takes other weights: how many tensors are taken, and every other one.
fn start_of(report: &InitReport) -> String {
    let (taken, of) = report.taken();
    let path = report.weights.display();
    let mut text = format!("begins with {path}: {taken} of {of} tensors taken");
    let others = report.tensors.iter();
    for entry in others.filter(|entry| entry.outcome != InitOutcome::Taken) {
        text += &format!("\n  {entry}");
    }
    for note in &report.notes {
        text += &format!("\nnote: {note}");
    }
    text
}

/// What is wrong, of the events that tell so.
fn warning_of(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Rejected { path, reason } => {
            format!("{} is damaged and passed over: {reason}", path.display())
        }
        Event::Skipped { step, in_row } => {
            format!("step {step} left out, its loss or gradient is not finite ({in_row} in a row)")
        }
        Event::Crashed(path) => format!(
            "the step is described in {0}; `meanflow train --replay {0}` does it again",
            path.display()
        ),
        Event::RolledBack {
            from,
            to,
            rollbacks,
            reason,
        } => format!(
            "{reason}; back from step {from} to step {to}, and on with other data ({rollbacks} of 3 times)"
        ),
        Event::MetricsLost { path, what } => format!("{}: {what}", path.display()),
        Event::SaveFailed { step, reason } => format!("not saved after step {step}: {reason}"),
        Event::Replaced { reason, .. } => format!("left out, another taken for it: {reason}"),
        _ => return None,
    })
}

/// What threads do with the microbatches of a step, and what the digits of the results depend on.
fn described(sharing: Sharing) -> String {
    let Sharing {
        workers,
        threads_per_operation: threads,
    } = sharing;
    let microbatches = match workers {
        1 => "one microbatch".to_owned(),
        _ => format!("{workers} microbatches"),
    };
    let how = match threads {
        1 => "one thread each; no digit depends on threads".to_owned(),
        _ => format!(
            "{threads} threads an operation; the last digits depend on them (with more training.microbatches they do not)"
        ),
    };
    format!("CPU: {microbatches} at a time, {how}")
}
