//! What the next steps need, made by other threads while this one works.
//!
//! What is made is a function of the step alone, so neither the number of threads nor their speed changes a result,
//! and a run that begins at any step goes on as if it had come there.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Threads that make values of type `T`, one a step, a few steps ahead.
pub struct Prefetch<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared<T> {
    make: Box<dyn Fn(u64) -> T + Send + Sync>,
    /// Most values that are ready or being made.
    ahead: u64,
    state: Mutex<PrefetchState<T>>,
    changed: Condvar,
}

/// A value, or what its maker panicked with.
type Made<T> = Result<T, Box<dyn Any + Send>>;

struct PrefetchState<T> {
    /// The step that will be asked for next; nothing is made before the first is.
    wanted: Option<u64>,
    /// The step that is begun next, at or after the one that is wanted; none after the last of all.
    next: Option<u64>,
    ready: BTreeMap<u64, Made<T>>,
    /// Rises when another step is asked for than was expected: what was made for before is then dropped.
    turn: u64,
    closed: bool,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts `workers` threads that call `make` with the steps to come; at most `ahead` values wait.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn new(
        workers: NonZeroUsize,
        ahead: NonZeroUsize,
        make: impl Fn(u64) -> T + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            make: Box::new(make),
            ahead: ahead.get() as u64,
            state: Mutex::new(PrefetchState {
                wanted: None,
                next: None,
                ready: BTreeMap::new(),
                turn: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        });
        // Dropped where one is missing, it ends those that there are.
        let mut prefetch = Self {
            workers: Vec::new(),
            shared,
            waited: Duration::ZERO,
        };
        for _ in 0..workers.get() {
            let shared = Arc::clone(&prefetch.shared);
            let worker = thread::Builder::new().spawn(move || shared.work())?;
            prefetch.workers.push(worker);
        }
        Ok(prefetch)
    }

    /// The value of a step. It is there already when steps are asked for one after the other and not too fast; any
    /// other step begins anew from there.
    ///
    /// # Panics
    /// When `make` did.
    pub fn take(&mut self, step: u64) -> T {
        let begun = Instant::now();
        let shared = &self.shared;
        let mut state = shared.lock();
        if state.wanted != Some(step) {
            state.ready.clear();
            state.turn += 1;
            state.next = Some(step);
            state.wanted = Some(step);
            shared.changed.notify_all();
        }
        let made = loop {
            if let Some(made) = state.ready.remove(&step) {
                break made;
            }
            state = shared.wait(state);
        };
        state.wanted = step.checked_add(1);
        drop(state);
        shared.changed.notify_all();
        self.waited += begun.elapsed();
        made.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// How long [`Prefetch::take`] has waited until now, all calls together.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl<T> PrefetchState<T> {
    /// The step to begin, unless enough is begun.
    fn due(&self, ahead: u64) -> Option<u64> {
        let (wanted, next) = self.wanted.zip(self.next)?;
        (next - wanted < ahead).then_some(next)
    }
}

impl<T> Shared<T> {
    /// Makes one value after the other until all is over.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.closed {
                return;
            }
            let Some(step) = state.due(self.ahead) else {
                state = self.wait(state);
                continue;
            };
            let turn = state.turn;
            state.next = step.checked_add(1);
            drop(state);
            // The panic is not lost: whoever takes the value panics with it.
            let made = catch_unwind(AssertUnwindSafe(|| (self.make)(step)));
            state = self.lock();
            if state.turn == turn {
                state.ready.insert(step, made);
                self.changed.notify_all();
            }
        }
    }

    /// The state; nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, PrefetchState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, PrefetchState<T>>,
    ) -> MutexGuard<'a, PrefetchState<T>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until every thread has ended what it was making.
impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // Panics of `make` are caught, and there are no others.
            let _ = worker.join();
        }
    }
}

impl<T> fmt::Debug for Prefetch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Prefetch");
        shown.field("workers", &self.workers.len());
        shown.field("waited", &self.waited).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn size(size: usize) -> NonZeroUsize {
        NonZeroUsize::new(size).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_steps_in_any_order_give_their_own_values(
            workers in 1_usize..5, ahead in 1_usize..5, steps in prop::collection::vec(0_u64..20, 1..40),
        ) {
            let mut values = Prefetch::new(size(workers), size(ahead), |step| {
                // Some are slow, so that they overtake each other.
                thread::sleep(Duration::from_micros(step % 3 * 100));
                step * step
            }).unwrap();
            for step in steps {
                for step in step..step + 3 {
                    prop_assert_eq!(values.take(step), step * step);
                }
            }
        }
    }

    #[test]
    fn no_more_is_made_than_is_allowed_ahead() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut values = Prefetch::new(size(3), size(4), move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 0);
        values.take(10);
        let deadline = Instant::now() + Duration::from_secs(10);
        while made.load(Ordering::SeqCst) < 5 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        // The one that was taken, and four.
        assert_eq!(made.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn a_panic_reaches_whoever_takes_the_value_and_no_one_else() {
        let mut values = Prefetch::new(size(2), size(3), |step| {
            assert!(step != 1, "step one");
            step
        })
        .unwrap();
        assert_eq!(values.take(0), 0);
        let panic = catch_unwind(AssertUnwindSafe(|| values.take(1)));
        assert!(panic.is_err());
        assert_eq!(values.take(2), 2);
    }

    /// Nothing comes after them: a sum with the number of values ahead once made the taker of the last one wait for ever.
    #[test]
    fn the_last_steps_of_all_are_made_too() {
        let mut values = Prefetch::new(size(2), size(3), |step| step).unwrap();
        for step in [u64::MAX - 1, u64::MAX, u64::MAX, 5, u64::MAX] {
            assert_eq!(values.take(step), step);
        }
    }
}
