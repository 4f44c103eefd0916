//! CUDA graphs: work that is captured once and replayed with one call.

use tch::Device;

use crate::graph::{self, Record, Recorder};
use crate::{LibtorchError, recover};

/// How often work is done as it is written before it is recorded, so that libraries have made what they make at first use.
const WARM_UP: u32 = 3;

/// Work on one device that is the same every time: the same operations on the same memory.
///
/// A CUDA device records it, and does it from then on without being told each operation. Elsewhere it is done as it is
/// written, which gives the same numbers. So it is where it cannot be recorded, and [`refused`](Self::refused) says why. The
/// results of work that is replayed stay in the same tensors: what is to be kept longer must be copied.
#[derive(Debug)]
pub struct CudaGraph<T> {
    inner: Recorded<T, Recorder>,
    device: Device,
}

impl<T> CudaGraph<T> {
    /// Nothing done yet.
    pub fn new(device: Device) -> Self {
        Self {
            inner: Recorded::new(),
            device,
        }
    }

    /// Does the work, or what was recorded of it, and gives its results.
    ///
    /// The work may be called twice in one run: where recording it failed, of which nothing has happened on the device, it
    /// is done as it is written, now and from then on.
    ///
    /// # Errors
    /// Those of the work.
    pub fn run<E: From<LibtorchError>>(
        &mut self,
        work: impl FnMut() -> Result<T, E>,
    ) -> Result<&T, E> {
        if let (Device::Cuda(index), None, None) =
            (self.device, &self.inner.recorder, &self.inner.refused)
        {
            self.inner.recorder = Some(Recorder::new(index)?);
        }
        self.inner.run(work)
    }

    /// Why the work could not be recorded and is done as it is written; none where nothing was in the way.
    pub fn refused(&self) -> Option<&str> {
        self.inner.refused.as_deref()
    }
}

/// What [`CudaGraph`] does with whatever records.
#[derive(Debug)]
struct Recorded<T, R> {
    done: u32,
    /// None where work is done as it is written.
    recorder: Option<R>,
    refused: Option<String>,
    result: Option<T>,
}

impl<T, R: Record> Recorded<T, R> {
    fn new() -> Self {
        Self {
            done: 0,
            recorder: None,
            refused: None,
            result: None,
        }
    }

    fn run<E: From<LibtorchError>>(
        &mut self,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<&T, E> {
        match &self.recorder {
            Some(recorder) if self.done < WARM_UP => {
                self.result = Some(graph::beside(recorder, work)?);
                self.done += 1;
            }
            Some(recorder) => {
                if self.done == WARM_UP {
                    if let Err(reason) = self.record(&mut work) {
                        return self.go_on(reason, work);
                    }
                } else {
                    recorder.replay()?;
                }
            }
            None => self.result = Some(work()?),
        }
        Ok(self.result.as_ref().expect("the work was done"))
    }

    /// Records the work and does it for the first time; the reason where either is refused.
    fn record<E: From<LibtorchError>>(
        &mut self,
        work: &mut impl FnMut() -> Result<T, E>,
    ) -> Result<(), String> {
        let recorder = self.recorder.as_ref().expect("there is one");
        let failed = |_| LibtorchError::call("record a step", "the step itself failed");
        let recorded = recover("record a step", || {
            graph::record(recorder, || work().map_err(failed))
        });
        let result = recorded.map_err(|error| error.to_string())?;
        recorder.replay().map_err(|error| error.to_string())?;
        self.result = Some(result);
        self.done += 1;
        Ok(())
    }

    /// Without a recorder, now and from now on.
    fn go_on<E: From<LibtorchError>>(
        &mut self,
        reason: String,
        work: impl FnMut() -> Result<T, E>,
    ) -> Result<&T, E> {
        self.recorder = None;
        self.refused = Some(reason);
        self.run(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    /// Notes what is asked of it, and refuses one thing.
    #[derive(Clone, Default)]
    struct Fake {
        log: Rc<RefCell<Vec<&'static str>>>,
        refuses: &'static str,
    }

    impl Fake {
        fn note(&self, what: &'static str) -> Result<(), LibtorchError> {
            self.log.borrow_mut().push(what);
            if what == self.refuses {
                return Err(LibtorchError::call(
                    what,
                    "CUDA error: operation not permitted",
                ));
            }
            Ok(())
        }
    }

    impl Record for Fake {
        fn enter(&self) -> Result<(), LibtorchError> {
            self.note("enter")
        }
        fn leave(&self) -> Result<(), LibtorchError> {
            self.note("leave")
        }
        fn begin(&self) -> Result<(), LibtorchError> {
            self.note("begin")
        }
        fn end(&self) -> Result<(), LibtorchError> {
            self.note("end")
        }
        fn forget(&self) -> Result<(), LibtorchError> {
            self.note("forget")
        }
        fn replay(&self) -> Result<(), LibtorchError> {
            self.note("replay")
        }
    }

    fn with(fake: &Fake) -> Recorded<u32, Fake> {
        Recorded {
            recorder: Some(fake.clone()),
            ..Recorded::new()
        }
    }

    /// How often the work was done in seven runs, and why it was not recorded.
    fn seven(fake: &Fake) -> (u32, Option<String>) {
        let (count, mut recorded) = (Cell::new(0), with(fake));
        for _ in 0..7 {
            let result = recorded.run(|| {
                count.set(count.get() + 1);
                Ok::<_, LibtorchError>(count.get())
            });
            result.unwrap();
        }
        (count.get(), recorded.refused)
    }

    #[test]
    fn work_is_recorded_after_the_warm_up_and_replayed() {
        let fake = Fake::default();
        assert_eq!(seven(&fake), (WARM_UP + 1, None));
        let log = fake.log.borrow();
        let [warm, rest] = [&log[..6], &log[6..]];
        assert_eq!(warm.concat(), "enterleave".repeat(3));
        let recording = ["enter", "begin", "end", "leave"];
        assert_eq!(rest, [&recording[..], &["replay"; 4]].concat());
    }

    #[test]
    fn where_recording_fails_work_is_done_as_it_is_written() {
        for refuses in ["begin", "end", "replay"] {
            let fake = Fake {
                refuses,
                ..Fake::default()
            };
            let (count, why) = seven(&fake);
            // The run that was recorded does it twice, unless the recording did not begin.
            assert_eq!(count, if refuses == "begin" { 7 } else { 8 }, "{refuses}");
            assert!(
                why.unwrap().contains("operation not permitted"),
                "{refuses}"
            );
            assert_eq!(
                fake.log
                    .borrow()
                    .iter()
                    .filter(|what| **what == "enter")
                    .count(),
                4
            );
        }
    }

    #[test]
    fn a_recording_ends_where_the_work_panics() {
        // What libtorch refuses in a recording is a panic of tch: the work goes on without one.
        let (fake, calls) = (Fake::default(), Cell::new(0));
        let mut recorded = with(&fake);
        for _ in 0..5 {
            let result = recorded.run(|| {
                calls.set(calls.get() + 1);
                assert!(
                    calls.get() != 4,
                    "Torch(\"CUDA error: operation not permitted when stream is capturing\")"
                );
                Ok::<_, LibtorchError>(calls.get())
            });
            result.unwrap();
        }
        assert_eq!(calls.get(), 6);
        assert!(recorded.refused.unwrap().contains("stream is capturing"));
        assert_eq!(
            fake.log.borrow()[6..],
            ["enter", "begin", "end", "forget", "leave"]
        );
    }

    #[test]
    fn a_mistake_in_a_recording_ends_it_too_and_goes_on() {
        let (fake, calls) = (Fake::default(), Cell::new(0));
        let mut recorded = with(&fake);
        let run = || {
            for _ in 0..5 {
                let result = recorded.run(|| {
                    calls.set(calls.get() + 1);
                    assert!(calls.get() != 4, "a mistake");
                    Ok::<_, LibtorchError>(0)
                });
                result.unwrap();
            }
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!(
            fake.log.borrow()[6..],
            ["enter", "begin", "end", "forget", "leave"]
        );
    }

    #[test]
    fn an_error_of_the_work_is_its_own() {
        let mut recorded = with(&Fake::default());
        for _ in 0..2 {
            let error = recorded.run(|| Err(LibtorchError::Nested)).unwrap_err();
            assert!(matches!(error, LibtorchError::Nested));
        }
    }
}
