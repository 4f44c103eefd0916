//! Build script of every crate whose programs link libtorch: they find it without `LD_LIBRARY_PATH`.
//!
//! Cargo tells a build script only what its direct dependencies say, so each says it again.

pub(crate) fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let lib = ["DEP_MEANFLOW_LIBTORCH_LIB", "DEP_MEANFLOW_TORCH_LIB"]
        .iter()
        .find_map(|key| std::env::var(key).ok())
        .expect("a dependency names its libtorch");
    println!("cargo::metadata=lib={lib}");
    println!("cargo::rustc-link-arg=-Wl,{}-rpath,{lib}", dynamic_tags());
    // A checkout that was moved as a whole: seen from target/release, this is where `cargo xtask libtorch` puts it.
    let origin = if is_macos() {
        "@executable_path"
    } else {
        "$ORIGIN"
    };
    println!("cargo::rustc-link-arg=-Wl,-rpath,{origin}/../../.libtorch/lib");
}

/// What makes LD_LIBRARY_PATH count before the path in the program; macOS's linker has no such thing.
pub(crate) fn dynamic_tags() -> &'static str {
    if is_macos() {
        ""
    } else {
        "--enable-new-dtags,"
    }
}

fn is_macos() -> bool {
    std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "macos")
}
