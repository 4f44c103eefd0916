//! Ctrl-C and SIGTERM: the first asks the run to save and leave, the second leaves at once.
//!
//! No handler is installed. It would run on the stack of the thread it interrupts, and oneDNN's matrix products use a block of
//! the heap for theirs: what the kernel pushes for a handler then lands in memory of somebody else. All threads block these signals, and one waits.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

/// What has been asked for by signals.
#[derive(Debug, Default)]
pub(crate) struct Interruption {
    /// Whether the run should save and leave.
    pub(crate) stop: AtomicBool,
    signal: AtomicI32,
}

impl Interruption {
    /// Starts to listen, in a thread that lives as long as the process. Threads that exist already may still be interrupted: before
    /// libtorch makes its own.
    pub(crate) fn listen() -> anyhow::Result<Arc<Self>> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        signals
            .thread_block()
            .context("could not listen for Ctrl-C")?;
        let interruption = Arc::new(Self::default());
        let shared = Arc::clone(&interruption);
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                if shared.stop.load(Ordering::Relaxed) {
                    process::exit(128 + signal as i32);
                }
                shared.signal.store(signal as i32, Ordering::Relaxed);
                shared.stop.store(true, Ordering::Relaxed);
            }
        });
        Ok(interruption)
    }

    /// The exit code of a process that a signal ended: 130 for Ctrl-C, 143 for SIGTERM.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.signal.load(Ordering::Relaxed)).unwrap_or(130)
    }
}
