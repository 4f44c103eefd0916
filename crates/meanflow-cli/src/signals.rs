//! Signals: the first asks the run to save and leave, a second Ctrl-C or SIGTERM ends the process at once.
//!
//! No handler is installed. It would run on the stack of the thread it interrupts, and oneDNN's matrix products use a
//! block of the heap for theirs: what the kernel pushes for a handler then lands in memory of somebody else. All threads
//! block these signals, and one waits.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

use crate::failure::LOST;
use crate::output;

/// What has been asked for by signals.
#[derive(Debug, Default)]
pub(crate) struct Interruption {
    /// Whether the run should save and leave.
    pub(crate) stop: AtomicBool,
    signal: AtomicI32,
    /// Whether whoever started several processes has ended before them.
    is_alone: AtomicBool,
}

impl Interruption {
    /// Starts to listen, in a thread that lives as long as the process. Threads that exist already may still be
    /// interrupted: call it before libtorch makes its own.
    pub(crate) fn listen() -> anyhow::Result<Arc<Self>> {
        let signals = blocked()?;
        let interruption = Arc::new(Self::default());
        let shared = Arc::clone(&interruption);
        spawn(move || shared.wait(&signals))?;
        Ok(interruption)
    }

    /// Asks the run to save and leave, since whoever started it has ended.
    pub(crate) fn stop_alone(&self) {
        self.is_alone.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn wait(&self, signals: &SigSet) {
        let mut urged = false;
        while let Ok(signal) = signals.wait() {
            let code = 128 + signal as i32;
            // Schedulers follow SIGUSR1, and service managers SIGTERM by SIGHUP, while the run still saves.
            if matches!(signal, Signal::SIGINT | Signal::SIGTERM) {
                if urged {
                    output::end(u8::try_from(code).unwrap_or(130));
                }
                urged = true;
            }
            if !self.stop.load(Ordering::Relaxed) {
                self.signal.store(signal as i32, Ordering::Relaxed);
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The exit code of a process that a signal ended: 128 and the signal's number, 130 for Ctrl-C. Where another process of the
    /// run was sent the signal, that of SIGTERM. That of a lost process where it was the launcher.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.is_alone.load(Ordering::Relaxed) {
            return LOST;
        }
        let signal = match self.signal.load(Ordering::Relaxed) {
            0 => Signal::SIGTERM as i32,
            signal => signal,
        };
        u8::try_from(128 + signal).unwrap_or(130)
    }
}

/// The signals that ask the process to stop, as they come; by a thread that lives as long as the process.
pub(crate) fn channel() -> anyhow::Result<Receiver<Signal>> {
    let signals = blocked()?;
    let (sender, receiver) = mpsc::channel();
    spawn(move || {
        while let Ok(signal) = signals.wait()
            && sender.send(signal).is_ok()
        {}
    })?;
    Ok(receiver)
}

fn spawn(work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let spawned = thread::Builder::new().spawn(work);
    spawned.context("could not start a thread that listens for Ctrl-C")?;
    Ok(())
}

/// The signals that ask to stop, which this thread and those that it makes block from now on.
fn blocked() -> anyhow::Result<SigSet> {
    let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1]);
    if !hangup_is_ignored() {
        signals.add(Signal::SIGHUP);
    }
    signals
        .thread_block()
        .context("could not listen for Ctrl-C")?;
    Ok(signals)
}

/// Blocks the signal of a file that grows beyond the limit (`ulimit -f`), which would kill the process: the write then
/// fails with an error instead. Threads made later inherit it.
pub(crate) fn block_file_size() {
    // Without it a write beyond the limit ends the process, as it ends others.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
}

/// Whether the process was told to outlive its terminal, by `nohup`. A signal that is blocked arrives although it is
/// ignored, so it must not be waited for.
fn hangup_is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (Signal::SIGHUP as u32 - 1)) != 0)
}
