//! Compiles the C++ side against the libtorch that torch-sys was built with, and tells dependants where that is.

use std::path::{Path, PathBuf};
use std::process::Command;

#[expect(dead_code, reason = "`main` is the build script of other crates")]
mod rpath;

/// The C++ units, under `cpp`; each includes the others but `group`.
const UNITS: [&str; 2] = ["border", "kernels/kernels"];

/// The oldest GCC that has what the kernels are written with: `__builtin_shufflevector`, and clones for x86-64-v4.
const GCC: u32 = 12;

fn main() {
    let lib =
        PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names its libtorch"));
    let include = lib
        .parent()
        .expect("libtorch/lib has a parent")
        .join("include");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // Vectors never cross a call: everything that takes one is inlined.
        .flag_if_supported("-Wno-psabi")
        // The kernels are worth it in every profile.
        .opt_level(3)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(UNITS.map(|name| format!("cpp/{name}.cpp")));
    refuse_old_gcc(&build.get_compiler());
    for name in ["quad", "fused", "columns", "attention"] {
        build.include(quoted(&format!("cpp/cuda/{name}.cu")));
    }
    build.compile("meanflow_libtorch");
    groups(&include).compile("meanflow_group");
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::metadata=lib={}", lib.display());
    println!("cargo::rustc-env=MEANFLOW_LIBTORCH_LIB={}", lib.display());
    println!(
        "cargo::rustc-link-arg=-Wl,{}-rpath,{}",
        rpath::dynamic_tags(),
        lib.display()
    );
}

/// Writes a file that is compiled at run time as a string of C++, `NAME.inc`, and gives the folder that holds it.
fn quoted(path: &str) -> PathBuf {
    let folder = PathBuf::from(std::env::var("OUT_DIR").expect("cargo names a folder"));
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let name = path.rsplit('/').next().unwrap_or(path);
    let inc = folder.join(format!("{name}.inc"));
    std::fs::write(&inc, format!("R\"cuda({text})cuda\""))
        .unwrap_or_else(|error| panic!("{}: {error}", inc.display()));
    folder
}

/// The unit of process groups, whose switch and headers of Gloo are not for the others.
fn groups(include: &Path) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .opt_level(2)
        .define("USE_C10D_GLOO", "1")
        .include("cpp/gloo")
        .include(include)
        .include(include.join("torch/csrc/api/include"))
        .file("cpp/group.cpp");
    build
}

/// Ends with advice where the compiler is a GCC that would fail in the middle of a kernel.
fn refuse_old_gcc(compiler: &cc::Tool) {
    if !compiler.is_like_gnu() {
        return;
    }
    let Ok(answer) = Command::new(compiler.path()).arg("-dumpversion").output() else {
        return;
    };
    let version = String::from_utf8_lossy(&answer.stdout);
    let major = version
        .trim()
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < GCC) {
        println!(
            "cargo::error=the kernels need GCC {GCC} or newer, or Clang; {} is GCC {}. Install a newer one (Debian, Ubuntu: \
             `apt install g++-{GCC}`) and name it in CXX",
            compiler.path().display(),
            version.trim()
        );
        std::process::exit(1);
    }
}
