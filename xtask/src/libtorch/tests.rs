//! The command from end to end, over tiny wheels.

use super::{Device, Libtorch, Pin, Platform, Site, WheelSource, fake};
use anyhow::{Result, bail};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use tempfile::TempDir;

/// An empty checkout and cache, and a fetcher that serves the tiny wheels and notes what was fetched.
struct World {
    folder: TempDir,
    site: Site,
    fetched: Mutex<Vec<String>>,
}

/// What is asked for, of this machine and its place.
fn asked(device: Option<Device>, from: WheelSource) -> Libtorch {
    Libtorch {
        device,
        from,
        ..Libtorch::default()
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site {
            target: folder.path().join("checkout/.libtorch"),
            downloads: folder.path().join("cache"),
        };
        Self {
            folder,
            site,
            fetched: Mutex::default(),
        }
    }

    fn pins(_: Platform, _: Device) -> Vec<Pin> {
        fake::wheels()
            .iter()
            .map(|(name, content)| fake::pin(name, content))
            .collect()
    }

    fn serve(&self, pin: &Pin, folder: &Path) -> Result<()> {
        self.fetched.lock().unwrap().push(pin.file.clone());
        let wheels = fake::wheels();
        let wheel = wheels.iter().find(|(name, _)| *name == pin.file).unwrap();
        Ok(fs::write(folder.join(&pin.file), &wheel.1)?)
    }

    fn ask(&self, from: WheelSource, device: Option<Device>) -> Result<String> {
        let args = asked(device, from);
        let fetch = |pin: &Pin, folder: &Path| self.serve(pin, folder);
        let platform = Ok(Platform::LinuxX86_64);
        self.site.obtain(&args, platform, Self::pins, &fetch)
    }

    fn auto(&self) -> Result<String> {
        self.ask(WheelSource::Auto, None)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.site.target.join(name)).unwrap()
    }

    /// The names in the checkout.
    fn checkout(&self) -> Vec<String> {
        let folder = fs::read_dir(self.folder.path().join("checkout")).unwrap();
        let mut names: Vec<String> = folder
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_cpu_installation_has_the_layout_that_links() {
    let world = World::new();
    let said = world.auto().unwrap();
    assert!(said.contains("is now in"), "{said}");
    assert_eq!(world.read("build-version"), "2.11.0");
    assert_eq!(world.read("lib/libtorch.so"), "INPUT(libtorch_cpu.so)\n");
    assert_eq!(world.read("lib/libcudart.so.13"), "runtime");
    assert!(!world.site.target.join("lib/libtorch_cuda.so").exists());
    assert_eq!(world.checkout(), [".libtorch", ".libtorch.lock"]);
}

#[test]
fn the_second_run_does_nothing() {
    let world = World::new();
    world.auto().unwrap();
    let library = world.site.target.join("lib/libtorch_cpu.so");
    let before = library.metadata().unwrap().modified().unwrap();
    let said = world.auto().unwrap();
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(library.metadata().unwrap().modified().unwrap(), before);
    assert_eq!(world.fetched.lock().unwrap().len(), 2);
}

#[test]
fn a_damaged_installation_is_redone_from_the_kept_downloads() {
    let world = World::new();
    world.auto().unwrap();
    fs::write(world.site.target.join("lib/libtorch_cpu.so"), "cut short").unwrap();
    let said = world.auto().unwrap();
    assert!(said.contains("is now in"), "{said}");
    let bytes = world.site.target.join("lib/libtorch_cpu.so").metadata();
    assert_eq!(bytes.unwrap().len(), 4096);
    assert_eq!(
        world.fetched.lock().unwrap().len(),
        2,
        "the downloads were kept"
    );
}

#[test]
fn an_unfinished_installation_and_leftovers_are_swept() {
    let world = World::new();
    let checkout = world.folder.path().join("checkout");
    fs::create_dir_all(checkout.join(".libtorch/lib")).unwrap();
    fs::create_dir_all(checkout.join(".libtorch.partial-99/lib")).unwrap();
    fs::create_dir_all(checkout.join(".libtorch.old-98")).unwrap();
    fs::create_dir_all(world.site.downloads.join("partial-97")).unwrap();
    world.auto().unwrap();
    assert_eq!(world.checkout(), [".libtorch", ".libtorch.lock"]);
    assert!(!world.site.downloads.join("partial-97").exists());
}

#[test]
fn a_failed_fetch_leaves_the_old_installation_alone() {
    let world = World::new();
    world.auto().unwrap();
    for (name, _) in fake::wheels() {
        fs::remove_file(world.site.downloads.join(name)).unwrap();
    }
    let args = asked(Some(Device::Cuda), WheelSource::Auto);
    let outcome = world
        .site
        .obtain(&args, Ok(Platform::LinuxX86_64), World::pins, &|_, _| {
            bail!("no network")
        });
    assert_eq!(outcome.unwrap_err().to_string(), "no network");
    assert!(world.auto().unwrap().contains("nothing to do"));
    assert_eq!(world.checkout(), [".libtorch", ".libtorch.lock"]);
}

#[test]
fn another_device_replaces_and_then_serves() {
    let world = World::new();
    world.auto().unwrap();
    world.ask(WheelSource::Auto, Some(Device::Cuda)).unwrap();
    assert_eq!(world.read("lib/libtorch_cuda.so"), "cuda");
    assert_eq!(world.read("lib/libtorch.so"), "asks for cuda");
    // Nothing was asked about the device: what is there will do.
    assert!(world.auto().unwrap().contains("nothing to do"));
    let back = world.ask(WheelSource::Auto, Some(Device::Cpu)).unwrap();
    assert!(back.contains("cargo clean"), "{back}");
    assert_eq!(
        world.fetched.lock().unwrap().len(),
        2,
        "the downloads were kept"
    );
}

#[test]
fn a_libtorch_elsewhere_is_linked_and_noticed_when_it_goes() {
    let world = World::new();
    let own = fake::installation();
    let from = WheelSource::Path(own.path().to_owned());
    world.ask(from.clone(), None).unwrap();
    assert!(world.site.target.is_symlink());
    assert!(world.ask(from, None).unwrap().contains("nothing to do"));
    assert!(world.auto().unwrap().contains("nothing to do"));
    assert!(world.fetched.lock().unwrap().is_empty());
    drop(own);
    assert!(world.auto().unwrap().contains("is now in"));
    assert!(!world.site.target.is_symlink());
}

#[test]
fn a_useless_path_changes_nothing() {
    let world = World::new();
    world.auto().unwrap();
    let empty = tempfile::tempdir().unwrap();
    for path in [empty.path(), Path::new("/no/such/folder")] {
        assert!(world.ask(WheelSource::Path(path.to_owned()), None).is_err());
    }
    assert!(world.auto().unwrap().contains("nothing to do"));
}

#[test]
fn runs_at_the_same_time_install_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| world.auto().unwrap());
        }
    });
    let fetched = world.fetched.lock().unwrap().len();
    assert_eq!(fetched, 2, "one fetch for each wheel");
}
