//! The commands, one file each. Each returns its exit code.

mod destination;
mod info;
mod interpolate;
mod sample;
mod train;
mod validate;

use meanflow_torch::{Device, device};

use crate::args::{Args, Command, Compute};

pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    match &args.command {
        Command::Train(args) => train::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Interpolate(args) => interpolate::run(args),
        Command::Info(args) => info::run(args),
        Command::Validate(args) => validate::run(args),
    }
}

/// Opens the device and sets the number of threads.
fn open_device(compute: &Compute) -> anyhow::Result<Device> {
    let device = device::open(&compute.device)?;
    if let Some(threads) = compute.threads {
        tch::set_num_threads(i32::try_from(threads.get())?);
    }
    Ok(device)
}
