//! How errors look and which exit code they have.

use anyhow::Error;
use meanflow_data::DataError;
use meanflow_eval::EvalError;
use meanflow_export::ExportError;
#[cfg(feature = "hub")]
use meanflow_hub::HubError;
use meanflow_torch::{LibtorchError, Stalled, TorchError};
use meanflow_train::{ConfigError, TrainError, is_out_of_space};

use serde_json::json;

use crate::error_file;
use crate::output::{self, is_json, note, say};
use crate::usage::{Damaged, Usage};

const OTHER: u8 = 1;
/// A command line that cannot be understood or followed.
pub(crate) const USAGE: u8 = 2;
const CONFIG: u8 = 3;
/// Data that is damaged.
pub(crate) const DATA: u8 = 4;
const WEIGHTS: u8 = 5;
const NO_SPACE: u8 = 6;
const NOT_FINITE: u8 = 7;
const DEVICE: u8 = 8;
/// Another process that was started with this one.
pub(crate) const LOST: u8 = 9;

/// What to do when another process was lost.
const LOST_HINT: &str =
    "start all processes again: the same command goes on from the newest checkpoint";

/// Prints the error with its causes and, where one is known, a way out; returns the exit code.
pub(crate) fn report(error: &Error) -> u8 {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many errors already end with the words of their cause.
        if !text.contains(&cause) {
            text = format!("{text}\n  because: {cause}");
        }
    }
    let code = code(error);
    tell(&text, hint(error, code), code);
    code
}

/// Says that other processes make no progress, and ends this one, which waits for them.
pub(crate) fn report_stalled(stalled: &Stalled) -> ! {
    tell(&stalled.to_string(), Some(LOST_HINT), LOST);
    output::end(LOST)
}

/// Says what is wrong, to people, to programs and to the launcher.
fn tell(text: &str, hint: Option<&str>, code: u8) {
    note(format_args!("error: {text}"));
    if let Some(hint) = hint {
        note(format_args!("hint: {hint}"));
    }
    report_json(text, hint, code);
    match code {
        LOST => error_file::leave_to_the_cause(),
        _ => error_file::write(text),
    }
}

/// Ends the process with this code, or with that of standard output that could not be written.
pub(crate) fn leave(code: u8) -> ! {
    let code = match output::unwritten() {
        Some(error) if code == 0 => {
            report(&Error::new(error).context("could not write to standard output"))
        }
        _ => code,
    };
    output::end(code)
}

/// Says what was wrong on standard output, for programs, where that is asked for.
fn report_json(text: &str, hint: Option<&str>, code: u8) {
    if is_json() {
        let error = json!({ "error": { "message": text, "hint": hint, "exit_code": code } });
        say(format_args!("{error:#}"));
    }
}

/// Prints what clap has to say, which may be the help that was asked for; the exit code.
pub(crate) fn report_usage(error: &clap::Error) -> u8 {
    let code = u8::try_from(error.exit_code()).unwrap_or(USAGE);
    output::print_clap(error);
    if code != 0 {
        let text = error.render().to_string();
        report_json(text.trim_start_matches("error: ").trim_end(), None, code);
    }
    code
}

fn code(error: &Error) -> u8 {
    if is_out_of_space(error.as_ref()) {
        return NO_SPACE;
    }
    error.chain().find_map(code_of).unwrap_or(OTHER)
}

/// The code of one error in the chain.
fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = error.downcast_ref::<TrainError>() {
        return code_of_train(error);
    }
    if let Some(error) = error.downcast_ref::<TorchError>() {
        return code_of_torch(error);
    }
    if let Some(error) = error.downcast_ref::<EvalError>() {
        return code_of_eval(error);
    }
    if let Some(error) = error.downcast_ref::<LibtorchError>() {
        return Some(code_of_libtorch(error));
    }
    if let Some(error) = error.downcast_ref::<ExportError>() {
        return code_of_export(error);
    }
    #[cfg(feature = "hub")]
    if let Some(error) = error.downcast_ref::<HubError>() {
        return Some(code_of_hub(error));
    }
    if error.is::<Usage>() {
        return Some(USAGE);
    }
    if error.is::<ConfigError>() {
        return Some(CONFIG);
    }
    if error.is::<Damaged>() {
        return Some(DATA);
    }
    error.downcast_ref::<DataError>().map(code_of_data)
}

fn code_of_train(error: &TrainError) -> Option<u8> {
    match error {
        TrainError::Config(_)
        | TrainError::Changed { .. }
        | TrainError::NoMemory { .. }
        | TrainError::Ranks { .. } => Some(CONFIG),
        TrainError::Data(error) => Some(code_of_data(error)),
        TrainError::DataChanged { .. } => Some(DATA),
        TrainError::Torch(error) | TrainError::Init { source: error, .. } => code_of_torch(error),
        TrainError::InUse { .. }
        | TrainError::NotARun { .. }
        | TrainError::NotNew { .. }
        | TrainError::NoWeights { .. }
        | TrainError::NoCheckpoint { .. } => Some(USAGE),
        TrainError::Io {
            operation: "read", ..
        }
        | TrainError::NoneWhole { .. }
        | TrainError::Newer { .. }
        | TrainError::Bundle { .. } => Some(WEIGHTS),
        TrainError::NotFinite { .. }
        | TrainError::OftenNotFinite { .. }
        | TrainError::WeightsNotFinite { .. }
        | TrainError::SamplesNotFinite { .. } => Some(NOT_FINITE),
        _ => None,
    }
}

/// Data that cannot be read, or another output that cannot be written.
fn code_of_data(error: &DataError) -> u8 {
    match error {
        DataError::Write { .. } => OTHER,
        _ => DATA,
    }
}

fn code_of_libtorch(error: &LibtorchError) -> u8 {
    match error {
        LibtorchError::Group { .. } => LOST,
        LibtorchError::World { .. } => USAGE,
        _ => DEVICE,
    }
}

fn code_of_torch(error: &TorchError) -> Option<u8> {
    match error {
        TorchError::Libtorch(error) => Some(code_of_libtorch(error)),
        TorchError::Config { .. } | TorchError::Shape { .. } => Some(CONFIG),
        TorchError::Weights { .. } | TorchError::File { .. } => Some(WEIGHTS),
        TorchError::Io {
            operation: "read", ..
        } => Some(WEIGHTS),
        TorchError::Argument { .. } => Some(USAGE),
        _ => None,
    }
}

fn code_of_export(error: &ExportError) -> Option<u8> {
    match error {
        ExportError::Torch(error) => code_of_torch(error),
        ExportError::Config { .. } | ExportError::File { .. } => Some(WEIGHTS),
        ExportError::Io {
            operation: "read", ..
        } => Some(WEIGHTS),
        _ => None,
    }
}

/// What was named wrongly, what arrived damaged, and what a network or a hub did not give.
#[cfg(feature = "hub")]
fn code_of_hub(error: &HubError) -> u8 {
    match error {
        HubError::Name { .. }
        | HubError::Endpoint { .. }
        | HubError::Offline { .. }
        | HubError::Refused { .. } => USAGE,
        HubError::Damaged { .. } => WEIGHTS,
        _ => OTHER,
    }
}

fn code_of_eval(error: &EvalError) -> Option<u8> {
    match error {
        EvalError::Torch(error) => code_of_torch(error),
        EvalError::TooFew { .. } => Some(USAGE),
        EvalError::Data(error) => Some(code_of_data(error)),
        _ => Some(DATA),
    }
}

fn hint(error: &Error, code: u8) -> Option<&'static str> {
    let train = error
        .chain()
        .find_map(|error| error.downcast_ref::<TrainError>());
    if let Some(hint) = train.and_then(hint_of_train) {
        return Some(hint);
    }
    let libtorch = error.chain().find_map(of_libtorch);
    if libtorch.is_some_and(LibtorchError::is_out_of_memory) {
        return Some(
            "a training step takes less memory with more training.microbatches, compute.activation_checkpointing = true or \
             compute.dtype = \"bf16\"; samples, with fewer at a time",
        );
    }
    match code {
        NO_SPACE => Some(
            "nothing that was there before is damaged: make room, then run the same command again",
        ),
        LOST => Some(LOST_HINT),
        CONFIG => Some("`meanflow validate CONFIG` checks a recipe without training"),
        _ => None,
    }
}

/// What libtorch said, also where an error passes it on in its own name.
fn of_libtorch<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a LibtorchError> {
    let train = match error.downcast_ref() {
        Some(TrainError::Torch(error)) => Some(error),
        _ => None,
    };
    match train.or(error.downcast_ref()) {
        Some(TorchError::Libtorch(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// What to do about a run that cannot begin, or go on.
fn hint_of_train(error: &TrainError) -> Option<&'static str> {
    Some(match error {
        TrainError::Changed { .. } => {
            "undo the changes to go on with this run, accept them with --allow-changes KEY,…, or begin another run with --out DIR"
        }
        TrainError::DataChanged { .. } => {
            "put the data back as they were to go on with this run, accept them with --allow-changes data, or begin another run with --out DIR"
        }
        TrainError::Init {
            source: TorchError::Weights { .. },
            ..
        } => "--init-partial takes the tensors that fit, and leaves the others as they are drawn",
        TrainError::InUse { .. } => "wait for it to end, or choose another folder with --out DIR",
        TrainError::NotARun { .. } => "choose another folder with --out DIR",
        TrainError::Newer { .. } => {
            "go on with the version that wrote it, or begin another run with --out DIR"
        }
        TrainError::NotNew { .. } => {
            "go on with --resume auto, or choose another folder with --out DIR"
        }
        TrainError::NoneWhole { .. } => {
            "put an intact copy of a checkpoint back, or begin another run with --out DIR"
        }
        TrainError::NotFinite { .. }
        | TrainError::OftenNotFinite { .. }
        | TrainError::WeightsNotFinite { .. } => {
            "lower lr.peak or set training.max_grad_norm with --allow-changes KEY, and go on from an earlier checkpoint with --resume PATH"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    /// The errors of the three libraries for a failed write, or a failed reading of what they read.
    fn errors(operation: &'static str, number: i32) -> [Error; 3] {
        let (path, source) = (PathBuf::from("x"), || io::Error::from_raw_os_error(number));
        let data = match operation {
            "write" => DataError::Write {
                file: path.clone(),
                source: source(),
            },
            _ => DataError::Io {
                file: path.clone(),
                source: source(),
            },
        };
        let torch = TorchError::Io {
            operation,
            path: path.clone(),
            source: source(),
        };
        let train = TrainError::Io {
            operation,
            path,
            source: source(),
        };
        [data.into(), torch.into(), train.into()]
    }

    /// Numbers of Linux: EIO, EACCES and EROFS; ENOSPC, EDQUOT and EFBIG.
    #[test]
    fn a_failure_of_the_system_has_the_code_of_what_failed_wherever_it_happened() {
        for number in [5, 13, 30] {
            let [data, torch, train] = errors("write", number).map(|error| code(&error));
            assert_eq!([data, torch, train], [OTHER; 3], "{number}");
            let [data, torch, train] = errors("read", number).map(|error| code(&error));
            assert_eq!([data, torch, train], [DATA, WEIGHTS, WEIGHTS], "{number}");
        }
        for number in [28, 122, 27] {
            let codes = errors("write", number).map(|error| code(&error));
            assert_eq!(codes, [NO_SPACE; 3], "{number}");
        }
    }
}
