//! `cargo xtask libtorch`: puts libtorch into `.libtorch`, where `.cargo/config.toml` points every cargo command.
//!
//! | source | what happens |
//! |---|---|
//! | `auto` | the one that is there (`LIBTORCH`, or installed before), else `wheel` |
//! | `wheel` | the pinned PyTorch and NVIDIA wheels through the user's pip; only libtorch's part is kept |
//! | `archive` | the official zip; it is not pinned, so `auto` never takes it |
//! | a path | a link to a libtorch, or to the `torch` folder of a Python installation |

mod archive;
mod cache;
mod existing;
#[cfg(test)]
mod fake;
mod install;
mod layout;
mod pins;
mod platform;
mod space;
mod stamp;
#[cfg(test)]
mod tests;
mod unpack;
mod verify;
mod wheel;

use crate::workspace;
use anyhow::{Context, Result, ensure};
use pins::{Device, Pin, VERSION};
use platform::Platform;
use std::env;
use std::path::{Path, PathBuf};

/// What libtorch to put in place.
#[derive(clap::Args, Default)]
pub(crate) struct Libtorch {
    /// What it computes on [default: what is installed, else cpu].
    #[arg(long)]
    device: Option<Device>,
    /// Where it comes from: auto, wheel, archive, or the PATH of one that is there.
    #[arg(long, value_name = "SOURCE", default_value = "auto")]
    from: WheelSource,
    /// The machine that it is for; another one than this needs --into.
    #[arg(long, requires = "into")]
    platform: Option<Platform>,
    /// A folder for it in the place of .libtorch
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// Where libtorch comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum WheelSource {
    #[default]
    Auto,
    Wheel,
    Archive,
    Path(PathBuf),
}

impl From<&str> for WheelSource {
    fn from(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "wheel" => Self::Wheel,
            "archive" => Self::Archive,
            path => Self::Path(path.into()),
        }
    }
}

/// The command.
pub(crate) fn run(args: &Libtorch) -> Result<()> {
    println!("{}", obtain(args)?);
    Ok(())
}

/// Puts libtorch in place where none is; silent where one is.
pub(crate) fn ensure() -> Result<()> {
    obtain(&Libtorch::default()).map(drop)
}

/// Sees to it that there is a libtorch as asked for; answers with a sentence on what was found or done.
fn obtain(args: &Libtorch) -> Result<String> {
    if args.from == WheelSource::Auto
        && args.into.is_none()
        && let Some(found) = users_own(args.device)?
    {
        return Ok(found);
    }
    let site = Site {
        target: args
            .into
            .clone()
            .unwrap_or_else(|| workspace::root().join(".libtorch")),
        downloads: workspace::cache()?,
    };
    // A libtorch that is there needs no platform.
    let platform = || args.platform.map_or_else(host, Ok);
    let fetch = |pin: &Pin, folder: &Path| wheel::pip(platform()?, pin, folder);
    site.obtain(args, platform(), pins::wheels, &fetch)
}

/// The libtorch that the user's environment names, if it names one. One that cannot be used is an error: cargo would use it.
fn users_own(device: Option<Device>) -> Result<Option<String>> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return Ok(Some(
            "LIBTORCH_USE_PYTORCH is set: the PyTorch of the active Python is used".to_owned(),
        ));
    }
    // Cargo sets LIBTORCH to the workspace's own folder where the user's environment has none.
    let own = env::var_os("LIBTORCH").map(PathBuf::from);
    let Some(own) = own.filter(|path| *path != workspace::root().join(".libtorch")) else {
        return Ok(None);
    };
    existing::check(&own, device)
        .context("LIBTORCH names a libtorch that cannot be used: correct it, or unset it")?;
    Ok(Some(format!(
        "LIBTORCH is set: libtorch {VERSION} in {} is used",
        own.display()
    )))
}

/// Where an installation and its downloads go.
struct Site {
    target: PathBuf,
    downloads: PathBuf,
}

impl Site {
    /// [`obtain`], below the environment: with any table and any way to fetch.
    fn obtain(
        &self,
        args: &Libtorch,
        platform: Result<Platform>,
        wheels: impl Fn(Platform, Device) -> Vec<Pin>,
        fetch: &cache::Fetch<'_>,
    ) -> Result<String> {
        let _lock = install::lock(&self.target.with_extension("lock"))?;
        if let WheelSource::Path(path) = &args.from {
            return self.link(path, args.device);
        }
        if let Some(found) = self.installed(args) {
            return Ok(found);
        }
        let platform = platform?;
        let _downloads = install::lock(&self.downloads.join("lock"))?;
        cache::sweep(&self.downloads)?;
        let device = args.device.unwrap_or(Device::Cpu);
        let had_cuda = self.has_cuda();
        if args.from == WheelSource::Archive {
            self.install_archive(device)?;
        } else {
            self.install_wheels((platform, device), &wheels(platform, device), fetch)?;
        }
        // Cargo does not see that the library it told the linker to use is gone.
        let advice = if had_cuda && !self.has_cuda() {
            "\nIts CUDA part is gone: run `cargo clean --package torch-sys --release` before the next build"
        } else {
            ""
        };
        Ok(format!(
            "libtorch {VERSION} ({device}) is now in {}{advice}",
            self.target.display()
        ))
    }

    fn has_cuda(&self) -> bool {
        self.target.join("lib/libtorch_cuda.so").exists()
    }

    /// What is in place already, if it is whole and what is asked for. Says on standard error what is wrong with it otherwise.
    fn installed(&self, args: &Libtorch) -> Option<String> {
        let place = self.target.display();
        if self.target.is_symlink() && args.from == WheelSource::Auto {
            return match existing::check(&self.target, args.device) {
                Ok(()) => Some(format!(
                    "libtorch {VERSION} is linked from {place}: nothing to do"
                )),
                Err(error) => {
                    eprintln!("the link {place} cannot be used ({error:#}): installing anew");
                    None
                }
            };
        }
        if !self.target.is_dir() || self.target.is_symlink() {
            return None;
        }
        let stamp = match stamp::check(&self.target) {
            Ok(stamp) => stamp,
            Err(error) => {
                eprintln!("the libtorch in {place} is not whole ({error:#}): installing anew");
                return None;
            }
        };
        let device = args.device.is_none_or(|device| device == stamp.device);
        let source = args.from == WheelSource::Auto || args.from == stamp.source.as_str().into();
        (device && source).then(|| {
            format!(
                "libtorch {VERSION} ({}, from {}) is in {place}: nothing to do",
                stamp.device, stamp.source
            )
        })
    }

    fn link(&self, path: &Path, device: Option<Device>) -> Result<String> {
        let folder = path
            .canonicalize()
            .with_context(|| format!("there is no {}", path.display()))?;
        existing::check(&folder, device)?;
        if self
            .target
            .canonicalize()
            .is_ok_and(|target| target == folder)
        {
            return Ok(format!("{} is it already: nothing to do", path.display()));
        }
        install::link(&self.target, &folder)?;
        Ok(format!(
            "{} now links to the libtorch {VERSION} in {}",
            self.target.display(),
            folder.display()
        ))
    }

    fn install_wheels(
        &self,
        (platform, device): (Platform, Device),
        pins: &[Pin],
        fetch: &cache::Fetch<'_>,
    ) -> Result<()> {
        ensure!(
            !pins.is_empty(),
            "nothing is pinned for {device} on {platform:?}: --from PATH, a Python with torch {VERSION}"
        );
        let mut missing = 0;
        for pin in pins {
            missing += u64::from(!cache::is_kept(&self.downloads, pin)?) * pin.bytes;
        }
        let whole: u64 = pins.iter().map(|pin| pin.bytes).sum();
        // pip holds a file twice for a moment; unpacked, the kept part is about as large as the wheels (CPU) or twice that.
        let unpacked = if device == Device::Cpu {
            whole
        } else {
            2 * whole
        };
        space::require(&[(&self.downloads, 2 * missing), (&self.target, unpacked)])?;
        install::replace(&self.target, device, "wheel", |folder| {
            wheel::build(folder, (platform, device), pins, &self.downloads, fetch)
        })
    }

    fn install_archive(&self, device: Device) -> Result<()> {
        ensure!(
            device == Device::Cpu,
            "the archive is for the CPU only: use --from wheel for CUDA"
        );
        space::require(&[
            (&self.downloads, archive::ROOM),
            (&self.target, archive::ROOM),
        ])?;
        install::replace(&self.target, device, "archive", |folder| {
            archive::build(folder, &self.downloads)
        })
    }
}

/// The platform of this machine, where anything is pinned for it.
fn host() -> Result<Platform> {
    Platform::host().with_context(|| {
        format!(
            "libtorch can be fetched for Linux on x86-64 and aarch64 and for macOS on arm64, this is {} {}. With a libtorch {VERSION} of your \
             own: --from PATH",
            env::consts::ARCH,
            env::consts::OS
        )
    })
}
