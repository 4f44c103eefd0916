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
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
    // A checkout that was moved as a whole: seen from target/release, this is where `cargo xtask libtorch` puts it.
    println!("cargo::rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.libtorch/lib");
}
