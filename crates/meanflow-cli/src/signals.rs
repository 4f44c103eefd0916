//! Ctrl-C and SIGTERM: the first asks the run to save and leave, the second leaves at once.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What has been asked for by signals.
#[derive(Debug, Default)]
pub(crate) struct Interruption {
    /// Whether the run should save and leave.
    pub(crate) stop: AtomicBool,
    signal: AtomicI32,
}

impl Interruption {
    /// Starts to listen, in a thread that lives as long as the process.
    pub(crate) fn listen() -> anyhow::Result<Arc<Self>> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("could not listen for Ctrl-C")?;
        let interruption = Arc::new(Self::default());
        let shared = Arc::clone(&interruption);
        thread::spawn(move || {
            for signal in signals.forever() {
                if shared.stop.load(Ordering::Relaxed) {
                    process::exit(128 + signal);
                }
                shared.signal.store(signal, Ordering::Relaxed);
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
