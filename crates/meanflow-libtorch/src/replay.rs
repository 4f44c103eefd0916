//! Work that is recorded once and done again and again with one call: a CUDA graph.

use tch::Device;

use crate::LibtorchError;
use crate::graph::Recorder;

/// How often work is done as it is written before it is recorded, so that libraries have made what they make at first use.
const WARM_UP: u32 = 3;

/// Work on one device that is the same every time: the same operations on the same memory.
///
/// A CUDA device records it, and does it from then on without being told each operation. Elsewhere it is done as it is
/// written, which gives the same numbers. The results of work that is replayed stay in the same tensors: what is to be
/// kept longer must be copied.
#[derive(Debug)]
pub struct Replay<T> {
    device: Device,
    done: u32,
    recorder: Option<Recorder>,
    result: Option<T>,
}

impl<T> Replay<T> {
    /// Nothing done yet.
    pub fn new(device: Device) -> Self {
        Self {
            device,
            done: 0,
            recorder: None,
            result: None,
        }
    }

    /// Does the work, or what was recorded of it, and gives its results.
    ///
    /// # Errors
    /// Those of the work; those of libtorch, for work that cannot be recorded because it waits for its device.
    pub fn run<E: From<LibtorchError>>(
        &mut self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        match self.device {
            Device::Cuda(index) => self.run_recorded(index, work)?,
            _ => self.result = Some(work()?),
        }
        Ok(self.result.as_ref().expect("the work was done"))
    }

    fn run_recorded<E: From<LibtorchError>>(
        &mut self,
        device: usize,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<(), E> {
        let recorder = match &self.recorder {
            Some(recorder) => recorder,
            None => self.recorder.insert(Recorder::new(device)?),
        };
        if self.done < WARM_UP {
            self.result = Some(recorder.beside(work)?);
        } else {
            if self.done == WARM_UP {
                self.result = Some(recorder.record(work)?);
            }
            recorder.replay()?;
        }
        self.done = (self.done + 1).min(WARM_UP + 1);
        Ok(())
    }
}
