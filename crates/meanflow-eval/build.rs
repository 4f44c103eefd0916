//! Writes into every binary of this crate where libtorch is, so that it runs without LD_LIBRARY_PATH.

fn main() {
    let lib = std::env::var("DEP_MEANFLOW_TORCH_LIBTORCH_LIB")
        .expect("meanflow-torch names its libtorch");
    println!("cargo::rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{lib}");
}
