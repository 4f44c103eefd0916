//! The commands, one file each. Each returns its exit code.

mod check;
mod classes;
mod convert;
mod decode;
mod destination;
pub(crate) mod doctor;
pub(crate) mod editing;
pub(crate) mod ema;
pub(crate) mod encode;
pub(crate) mod eval;
pub(crate) mod export;
mod info;
mod interpolate;
mod launch;
mod listing;
mod located;
pub(crate) mod manual;
mod measure;
pub(crate) mod metrics;
pub(crate) mod named_data;
mod new;
mod picture_data;
pub(crate) mod pictures;
mod replay;
mod sample;
mod samples;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod show;
mod train;
mod unfinished;
mod validate;

pub(crate) use destination::is_standard_output;

use std::collections::BTreeMap;
use std::path::Path;

use meanflow_torch::weights::{self, Verify};
use meanflow_torch::{Device, Model, ModelConfig, device, memory};
use meanflow_train::{TrainConfig, TrainError};

use crate::args::{Args, Command, Compute, DataWhat, Reading};
use crate::output::{self, note};

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.command {
        Command::New(args) => new::run(args),
        Command::Train(args) => train::run(args),
        Command::Launch(args) => launch::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Interpolate(args) => interpolate::run(args),
        Command::Edit(args) => editing::edit::run(args),
        Command::Inpaint(args) => editing::inpaint::run(args),
        Command::Invert(args) => editing::invert::run(args),
        Command::Likelihood(args) => editing::likelihood::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Info(args) => info::run(args),
        Command::Ema(args) => ema::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Check(args) => check::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Export(args) => export::run(args),
        Command::Doctor(args) => doctor::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::manual(args),
        Command::Data(args) => match &args.what {
            DataWhat::Encode(args) => encode::run(args),
            DataWhat::Verify(args) => pictures::verify(args),
            DataWhat::Stats(args) => pictures::stats(args),
            DataWhat::Pack(args) => pictures::run_pack(args),
            DataWhat::Show(args) => show::run(args),
        },
    }
}

/// Opens the device, sets the number of threads, and keeps memory from one step for the next.
fn open_device(compute: &Compute) -> anyhow::Result<Device> {
    memory::keep()?;
    let device::Opened { device, note } = device::open_explained(&compute.device)?;
    if let Some(note) = note {
        output::note(note);
    }
    if let Some(threads) = compute.threads {
        tch::set_num_threads(i32::try_from(threads.get())?);
    }
    Ok(device)
}

/// The model of a weights file with the file's metadata. A note on standard error names a file without a content hash.
fn load_model(
    path: &Path,
    device: Device,
    reading: &Reading,
) -> anyhow::Result<(Model, BTreeMap<String, String>)> {
    let verify = match reading.no_verify {
        true => Verify::Nothing,
        false => Verify::Content,
    };
    let loaded = Model::load_with(path, device, verify)?;
    if verify == Verify::Content && weights::header(path)?.content.is_none() {
        note(format_args!(
            "note: {} has no hash of its content (an early version wrote it): damage to its numbers would not be noticed",
            path.display()
        ));
    }
    Ok(loaded)
}

/// The model of a recipe, without its data where the recipe says enough.
fn model_of(config: &TrainConfig) -> Result<ModelConfig, TrainError> {
    let facts = config.data.facts(config.seed)?;
    config.model(&facts.shape, facts.classes)
}
