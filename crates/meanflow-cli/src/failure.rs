//! How errors look and which exit code they have.

use std::io;
use std::process::ExitCode;

use anyhow::Error;
use meanflow_data::DataError;
use meanflow_eval::EvalError;
use meanflow_torch::TorchError;
use meanflow_train::{ConfigError, TrainError, is_out_of_space};

use crate::output::note;

const OTHER: u8 = 1;
const USAGE: u8 = 2;
const CONFIG: u8 = 3;
/// Data that is damaged.
pub(crate) const DATA: u8 = 4;
const WEIGHTS: u8 = 5;
const NO_SPACE: u8 = 6;
const NOT_FINITE: u8 = 7;
const DEVICE: u8 = 8;

/// A command that cannot be done as it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints the error with its causes and, where one is known, a way out.
pub(crate) fn report(error: &Error) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many errors already end with the words of their cause.
        if !text.contains(&cause) {
            text = format!("{text}\n  because: {cause}");
        }
    }
    note(format_args!("error: {text}"));
    let code = code(error);
    if let Some(hint) = hint(error, code) {
        note(format_args!("hint: {hint}"));
    }
    ExitCode::from(code)
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
    if error.is::<Usage>() {
        return Some(USAGE);
    }
    if error.is::<ConfigError>() {
        return Some(CONFIG);
    }
    error.is::<DataError>().then_some(DATA)
}

fn code_of_train(error: &TrainError) -> Option<u8> {
    match error {
        TrainError::Config(_) | TrainError::Changed { .. } => Some(CONFIG),
        TrainError::Data(_) => Some(DATA),
        TrainError::Torch(error) => code_of_torch(error),
        TrainError::InUse { .. } | TrainError::NotARun { .. } => Some(USAGE),
        TrainError::NoneWhole { .. } => Some(WEIGHTS),
        TrainError::NotFinite { .. } => Some(NOT_FINITE),
        _ => None,
    }
}

fn code_of_torch(error: &TorchError) -> Option<u8> {
    match error {
        TorchError::Libtorch { .. } | TorchError::Device { .. } => Some(DEVICE),
        TorchError::Config { .. } | TorchError::Shape { .. } => Some(CONFIG),
        TorchError::Weights { .. } | TorchError::File { .. } => Some(WEIGHTS),
        TorchError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(WEIGHTS),
        TorchError::Argument { .. } => Some(USAGE),
        _ => None,
    }
}

fn code_of_eval(error: &EvalError) -> Option<u8> {
    match error {
        EvalError::Torch(error) => code_of_torch(error),
        EvalError::TooFew { .. } => Some(USAGE),
        _ => Some(DATA),
    }
}

fn hint(error: &Error, code: u8) -> Option<&'static str> {
    let train = error
        .chain()
        .find_map(|error| error.downcast_ref::<TrainError>());
    match train {
        Some(TrainError::Changed { .. }) => {
            return Some(
                "undo the changes to go on with this run, or begin another one with --out DIR",
            );
        }
        Some(TrainError::InUse { .. }) => {
            return Some("wait for it to end, or choose another folder with --out DIR");
        }
        Some(TrainError::NotARun { .. }) => return Some("choose another folder with --out DIR"),
        Some(TrainError::NoneWhole { .. }) => {
            return Some(
                "put an intact copy of a checkpoint back, or begin another run with --out DIR",
            );
        }
        Some(TrainError::NotFinite { .. }) => {
            return Some(
                "lower rate.peak, set training.clip_norm, or go on from an earlier checkpoint",
            );
        }
        _ => {}
    }
    match code {
        NO_SPACE => Some(
            "nothing that was there before is damaged: make room, then run the same command again",
        ),
        CONFIG => Some("`meanflow validate CONFIG` checks a recipe without training"),
        _ => None,
    }
}
