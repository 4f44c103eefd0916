//! `meanflow data`: work on data sets.

use clap::Subcommand;

use super::encode::{self, Encode};
use super::pictures::{self, Pack, Stats, Verify};
use super::show::{self, Show};

/// Work on data sets.
#[derive(Debug, clap::Args)]
pub(crate) struct Data {
    #[command(subcommand)]
    what: DataWhat,
}

#[derive(Debug, Subcommand)]
enum DataWhat {
    Encode(Encode),
    Verify(Verify),
    Stats(Stats),
    Pack(Pack),
    Show(Show),
}

pub(crate) fn run(args: &Data) -> anyhow::Result<u8> {
    match &args.what {
        DataWhat::Encode(args) => encode::run(args),
        DataWhat::Verify(args) => pictures::verify(args),
        DataWhat::Stats(args) => pictures::stats(args),
        DataWhat::Pack(args) => pictures::run_pack(args),
        DataWhat::Show(args) => show::run(args),
    }
}
