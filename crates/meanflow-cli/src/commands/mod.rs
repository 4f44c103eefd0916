//! The commands, one file each. Each returns its exit code.

mod check;
mod convert;
mod decode;
mod destination;
pub(crate) mod encode;
pub(crate) mod eval;
mod info;
mod interpolate;
mod named_data;
pub(crate) mod pictures;
mod sample;
mod samples;
mod train;
mod validate;

use meanflow_torch::{Device, ModelConfig, device, memory};
use meanflow_train::{TrainConfig, TrainError};

use crate::args::{Args, Command, Compute, DataWhat};

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.command {
        Command::Train(args) => train::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Interpolate(args) => interpolate::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Info(args) => info::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Check(args) => check::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Data(args) => match &args.what {
            DataWhat::Encode(args) => encode::run(args),
            DataWhat::Verify(args) => pictures::verify(args),
            DataWhat::Stats(args) => pictures::stats(args),
            DataWhat::Pack(args) => pictures::run_pack(args),
        },
    }
}

/// Opens the device, sets the number of threads, and keeps memory from one step for the next.
fn open_device(compute: &Compute) -> anyhow::Result<Device> {
    memory::keep()?;
    let device = device::open(&compute.device)?;
    if let Some(threads) = compute.threads {
        tch::set_num_threads(i32::try_from(threads.get())?);
    }
    Ok(device)
}

/// The model of a recipe, without its data where the recipe says enough.
fn model_of(config: &TrainConfig) -> Result<ModelConfig, TrainError> {
    let facts = config.data.facts(config.seed)?;
    config.model(&facts.shape, facts.classes)
}
