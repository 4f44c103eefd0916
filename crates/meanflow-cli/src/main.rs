//! The `meanflow` command.

fn main() {
    meanflow_cli::main()
}
