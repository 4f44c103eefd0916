//! Compiles the C++ side against the libtorch that torch-sys was built with, and tells dependants where that is.

use std::path::PathBuf;

/// The C++ files, under `cpp`.
const FILES: [&str; 10] = [
    "allocator",
    "checkpoint",
    "graph",
    "host",
    "operations",
    "kernels/attention",
    "kernels/gate",
    "kernels/gelu",
    "kernels/linear",
    "kernels/norm",
];

fn main() {
    let lib =
        PathBuf::from(std::env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names its libtorch"));
    let include = lib
        .parent()
        .expect("libtorch/lib has a parent")
        .join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        // Vectors never cross a call: everything that takes one is inlined.
        .flag_if_supported("-Wno-psabi")
        // The kernels are worth it in every profile.
        .opt_level(3)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(FILES.map(|name| format!("cpp/{name}.cpp")))
        .compile("meanflow_libtorch");
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::metadata=lib={}", lib.display());
    println!("cargo::rustc-env=MEANFLOW_LIBTORCH_LIB={}", lib.display());
    println!(
        "cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}",
        lib.display()
    );
}
