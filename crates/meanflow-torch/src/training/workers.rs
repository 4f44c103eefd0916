//! Threads that share the rows of a batch: each computes microbatches of its own.
//!
//! The threads of libtorch share each operation instead, and wait for each other in every one of them. That suits few rows and large
//! products. Where a batch has several microbatches, threads that meet a few times a step do more work, above all on a machine
//! that has other work too.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use meanflow_libtorch::{LibtorchError, recover};

use crate::TorchError;

/// What an error of a worker says that it could not do.
const OPERATION: &str = "compute a microbatch";

/// How the threads of a process share the work on microbatches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sharing {
    /// Microbatches that are computed at a time, each by a thread of its own.
    pub workers: usize,
    /// Threads that share each operation of a microbatch.
    ///
    /// Where it is 1, no digit of a result depends on the number of threads.
    pub threads_per_operation: usize,
}

impl Sharing {
    /// What `threads` threads do with this number of microbatches: as many at a time as there are threads, and with fewer
    /// microbatches than threads, the rest of the threads in each operation.
    pub fn new(threads: usize, microbatches: usize) -> Self {
        let workers = threads.min(microbatches).max(1);
        Self {
            workers,
            threads_per_operation: (threads / workers).max(1),
        }
    }

    /// What the threads of the calling thread's libtorch do with this number of microbatches.
    pub fn of_this_thread(microbatches: usize) -> Self {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        Self::new(threads, microbatches)
    }
}

/// Threads that live as long as this. With one worker all work is done by the calling thread.
#[derive(Debug)]
pub struct Workers {
    sharing: Sharing,
    /// None for one worker.
    pool: Option<rayon::ThreadPool>,
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(sharing: Sharing) -> Result<Self, TorchError> {
        let pool = (sharing.workers > 1).then(|| start(sharing)).transpose()?;
        Ok(Self { sharing, pool })
    }

    /// How they share the work.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Does `work` with every state at a time, each in one thread, and waits for all.
    ///
    /// # Errors
    /// The first error of the work in the order of the states; a panic of it is an error too.
    pub fn run<S: Send>(
        &self,
        states: &mut [S],
        work: impl Fn(&mut S) -> Result<(), TorchError> + Sync,
    ) -> Result<(), TorchError> {
        let caught = |state: &mut S| {
            let work = || recover(OPERATION, || work(state));
            let done = catch_unwind(AssertUnwindSafe(work));
            done.unwrap_or_else(|panic| Err(of_panic(&*panic)))
        };
        let Some(pool) = &self.pool else {
            return states.iter_mut().try_for_each(caught);
        };
        let mut results: Vec<Result<(), TorchError>> = states.iter().map(|_| Ok(())).collect();
        pool.in_place_scope(|scope| {
            for (state, result) in states.iter_mut().zip(&mut results) {
                let caught = &caught;
                scope.spawn(move |_| *result = caught(state));
            }
        });
        results.into_iter().collect()
    }

    /// Does `work` on every item, with the state of whichever worker is free, and gives the results in the order of the items.
    ///
    /// # Errors
    /// As [`Workers::run`]; items that were not begun are then left out.
    pub fn map<S: Send, T, R: Send>(
        &self,
        states: &mut [S],
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(&mut S, usize, T) -> Result<R, TorchError> + Sync,
    ) -> Result<Vec<R>, TorchError> {
        let items = Mutex::new(items.enumerate());
        let results = Mutex::new(Vec::new());
        self.run(states, |state| {
            loop {
                let next = lock(&items).next();
                let Some((index, item)) = next else {
                    return Ok(());
                };
                let result = work(state, index, item)?;
                lock(&results).push((index, result));
            }
        })?;
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_unstable_by_key(|(index, _)| *index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

/// The content of a lock. A thread that panicked while it held one has left nothing half done here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(sharing: Sharing) -> Result<rayon::ThreadPool, TorchError> {
    let threads = tch::get_num_threads();
    let own = i32::try_from(sharing.threads_per_operation).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(sharing.workers)
        .thread_name(|index| format!("microbatch-{index}"))
        .build();
    let refused = |error: rayon::ThreadPoolBuildError| {
        LibtorchError::call("start threads", error.to_string())
    };
    let pool = pool.map_err(refused)?;
    // libtorch keeps a number for the process, which a thread takes over when it first asks, and one for every thread. A thread
    // that sets its own sets that of the process too, which is put back here. So every thread asks first and sets then.
    pool.broadcast(|_| {
        let _ = tch::get_num_threads();
        tch::set_num_threads(own);
    });
    tch::set_num_threads(threads);
    Ok(pool)
}

fn of_panic(panic: &(dyn Any + Send)) -> TorchError {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    LibtorchError::call(OPERATION, text.unwrap_or("a panic without a message")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(threads: usize, microbatches: usize) -> Workers {
        Workers::new(Sharing::new(threads, microbatches)).unwrap()
    }

    #[test]
    fn threads_without_a_microbatch_help_in_the_operations() {
        for (threads, microbatches, expected) in [
            (1, 1, (1, 1)),
            (2, 1, (1, 2)),
            (1, 4, (1, 1)),
            (2, 4, (2, 1)),
            (3, 4, (3, 1)),
            (4, 4, (4, 1)),
            (7, 4, (4, 1)),
            (16, 4, (4, 4)),
        ] {
            let sharing = Sharing::new(threads, microbatches);
            assert_eq!((sharing.workers, sharing.threads_per_operation), expected);
        }
    }

    #[test]
    fn every_worker_has_its_own_number_of_threads_and_the_caller_keeps_his() {
        tch::set_num_threads(2);
        let workers = workers(4, 2);
        let mut seen = [0; 2];
        for _ in 0..3 {
            workers
                .run(&mut seen, |seen| {
                    *seen = tch::get_num_threads();
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, [2; 2]);
        }
        assert_eq!(tch::get_num_threads(), 2);
        let alone = Workers::new(Sharing::new(2, 2)).unwrap();
        alone
            .run(&mut seen, |seen| {
                *seen = tch::get_num_threads();
                Ok(())
            })
            .unwrap();
        assert_eq!((seen, tch::get_num_threads()), ([1; 2], 2));
        tch::set_num_threads(1);
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for threads in [1, 3] {
            let workers = workers(threads, 3);
            let mut done = vec![0; workers.sharing().workers];
            let squares = workers
                .map(&mut done, 0..50, |done, index, item| {
                    *done += 1;
                    assert_eq!(index, item);
                    Ok(item * item)
                })
                .unwrap();
            assert_eq!(squares, (0..50).map(|x| x * x).collect::<Vec<_>>());
            assert_eq!(done.iter().sum::<i32>(), 50);
        }
    }

    #[test]
    fn errors_and_panics_are_errors_and_the_threads_go_on() {
        for threads in [1, 2] {
            let workers = workers(threads, 2);
            let mut states = vec![(); workers.sharing().workers];
            for message in ["refused", "panicked"] {
                let failed = workers.map(&mut states, 0..8, |(), _, item| match (item, message) {
                    (3, "panicked") => panic!("{message} at {item}"),
                    (3, _) => {
                        Err(LibtorchError::call("test", format!("{message} at {item}")).into())
                    }
                    _ => Ok(()),
                });
                let text = failed.unwrap_err().to_string();
                assert!(text.contains(&format!("{message} at 3")), "{text}");
            }
            let sum = workers.map(&mut states, 0..4, |(), _, item| Ok(item));
            assert_eq!(sum.unwrap(), [0, 1, 2, 3]);
        }
    }
}
