//! Build script of every crate that links libtorch through meanflow-torch: its programs find the library by themselves.

fn main() {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if let Ok(lib) = std::env::var("DEP_MEANFLOW_TORCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
    }
}
