//! Whether processes that compute together still make progress, and if not, which of them was last; and whether whoever started
//! them is still there.
//!
//! Each has a thread that writes into the store what its process has done, and that it still runs itself. A process that is
//! stopped, or waits for ever, is not seen by the operations of a group until their own, long time is over; a replayed CUDA graph
//! has none at all.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{LibtorchError, Store, World};

/// What a process has done, told by the thread that does it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    step: AtomicU64,
}

impl Progress {
    /// Something was done, at step number `step`. Supervision begins with the first of these.
    pub fn note(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        (done, self.step.load(Ordering::Relaxed))
    }
}

/// What supervision has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The store is gone: the process that serves it has ended, which is the launcher or rank 0. What the groups do goes on without it.
    StoreGone,
    /// There is no progress any more.
    Stalled(Stalled),
}

/// No process has made progress for as long as they wait for each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stalled {
    /// How long that was.
    pub patience: Duration,
    /// What was last seen of every process; none where the store does not answer.
    pub seen: Option<Vec<Seen>>,
}

/// What was last seen of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The step that it was at.
    pub step: u64,
    /// Whether its supervision still runs: not where the process is stopped or its machine is gone.
    pub answers: bool,
}

impl Stalled {
    /// The ranks that are to blame: those that do not answer, or else those at the earliest step.
    pub fn last(&self) -> Vec<usize> {
        let seen = self.seen.as_deref().unwrap_or_default();
        let silent = |seen: &Seen| !seen.answers;
        let earliest = seen.iter().map(|seen| seen.step).min();
        let is_last = |one: &Seen| match seen.iter().any(silent) {
            true => silent(one),
            false => Some(one.step) == earliest,
        };
        let ranks = seen.iter().enumerate();
        ranks
            .filter(|(_, one)| is_last(one))
            .map(|(rank, _)| rank)
            .collect()
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.patience.as_secs_f64();
        write!(f, "no process has made progress for {seconds} s: ")?;
        let Some(seen) = &self.seen else {
            return f.write_str("the store where they meet does not answer, nor does the process that serves it, rank 0 or the launcher");
        };
        let last = self.last();
        for (place, &rank) in last.iter().enumerate() {
            let Seen { step, answers } = seen[rank];
            let comma = if place > 0 { ", " } else { "" };
            let silent = if answers { "" } else { " and does not answer" };
            write!(f, "{comma}rank {rank} was last seen at step {step}{silent}")?;
        }
        let others = (0..seen.len()).filter(|rank| !last.contains(rank));
        for rank in others.take(SHOWN) {
            write!(f, "; rank {rank} is at step {}", seen[rank].step)?;
        }
        Ok(())
    }
}

/// The part of the patience after which a process that waits asks what the others do: what they did before does not count, so a stall is
/// found that much early at most.
const WAITS: u32 = 10;

/// Most other processes that a message tells of.
const SHOWN: usize = 8;

/// Threads that watch until this is dropped.
#[derive(Debug)]
pub struct Supervisor(Arc<Exchange>);

impl Supervisor {
    /// Watches that this process or another makes progress. Where none does for as long as `patience`, it calls `found` a last time, in
    /// a thread of its own, and watches no longer. Before that it calls it once where the store is gone.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(
        store: Store,
        world: World,
        progress: Arc<Progress>,
        patience: Duration,
        mut found: impl FnMut(Finding) + Send + 'static,
    ) -> Result<Self, LibtorchError> {
        let period = (patience / 10).clamp(Duration::from_millis(10), Duration::from_secs(5));
        let exchange = Arc::new(Exchange {
            store,
            world,
            progress,
            period,
            is_over: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            all: Mutex::default(),
        });
        // Dropped where a thread is missing, it ends the other.
        let supervisor = Self(Arc::clone(&exchange));
        // Apart from the watch, since it may wait for ever.
        let shared = Arc::clone(&exchange);
        spawn(move || shared.run())?;
        let mut watch = Watch::new(exchange, patience);
        spawn(move || {
            while !watch.exchange.is_over.load(Ordering::Relaxed) {
                thread::sleep(period);
                if watch.misses_the_store() {
                    found(Finding::StoreGone);
                }
                if let Some(stalled) = watch.look() {
                    return found(Finding::Stalled(stalled));
                }
            }
        })?;
        Ok(supervisor)
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), LibtorchError> {
    let spawned = thread::Builder::new().spawn(work);
    let refused = |error| LibtorchError::call("start a thread that watches the processes", error);
    spawned.map(|_| ()).map_err(refused)
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// What is written into the store: what was done, the step, and how often that was written.
type PostedStep = [u64; 3];

/// Writes what this process has done into the store, and reads what the others have.
#[derive(Debug)]
struct Exchange {
    store: Store,
    world: World,
    progress: Arc<Progress>,
    period: Duration,
    is_over: AtomicBool,
    /// Whether whoever serves the store has ended.
    is_gone: AtomicBool,
    all: Mutex<Answer>,
}

/// What the store said, and when.
#[derive(Debug, Default)]
enum Answer {
    /// Nobody asks.
    #[default]
    Unasked,
    Asked,
    Given(Instant, Vec<PostedStep>),
}

impl Exchange {
    fn run(&self) {
        for written in 1.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (done, step) = self.progress.read();
            let put = self.store.put(&key(self.world.rank), [done, step, written]);
            if put.is_err() {
                // libtorch never connects again, and prints a page at every call.
                return self.is_gone.store(true, Ordering::Relaxed);
            }
            if !matches!(*self.answer(), Answer::Unasked) {
                let read = |rank| self.store.look(&key(rank)).ok().flatten();
                let all = (0..self.world.size).map(|rank| read(rank).unwrap_or_default());
                let all = all.collect();
                *self.answer() = Answer::Given(Instant::now(), all);
            }
            thread::sleep(self.period);
        }
    }

    fn answer(&self) -> MutexGuard<'_, Answer> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(rank: usize) -> String {
    rank.to_string()
}

struct Watch {
    exchange: Arc<Exchange>,
    patience: Duration,
    /// What this process had done when it was looked at last.
    done: u64,
    /// When something was last done, and when that was looked at.
    since: Instant,
    looked: Instant,
    /// What all had done when they were first looked at since then.
    before: Option<Vec<PostedStep>>,
    /// Whether it was found that the store is gone.
    misses_store: bool,
}

impl Watch {
    fn new(exchange: Arc<Exchange>, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            exchange,
            patience,
            done: 0,
            since: now,
            looked: now,
            before: None,
            misses_store: false,
        }
    }

    /// Whether the store is gone, the first time that it is.
    fn misses_the_store(&mut self) -> bool {
        let is_gone = self.exchange.is_gone.load(Ordering::Relaxed);
        is_gone && !std::mem::replace(&mut self.misses_store, true)
    }

    /// Looks at this process, and at the others where it waits for long; none while anybody makes progress.
    fn look(&mut self) -> Option<Stalled> {
        let (done, _) = self.exchange.progress.read();
        // This process was stopped itself, and has gone on.
        let was_stopped = self.looked.elapsed() > self.late();
        self.looked = Instant::now();
        if done == 0 || done != self.done || was_stopped {
            self.done = done;
            self.begin_anew();
            return None;
        }
        if self.since.elapsed() < self.patience / WAITS {
            return None;
        }
        let all = self.ask();
        let moved = |(now, before): (&PostedStep, &PostedStep)| now[0] != before[0];
        let before = self.before.iter().flatten();
        if all.iter().flatten().zip(before).any(moved) {
            self.begin_anew();
            return None;
        }
        if self.since.elapsed() >= self.patience {
            return Some(self.stalled(all));
        }
        self.before = self.before.take().or(all);
        None
    }

    fn begin_anew(&mut self) {
        self.since = Instant::now();
        self.before = None;
        *self.exchange.answer() = Answer::Unasked;
    }

    /// What all have written lately; none where the store does not answer, which it does not while whoever serves it is stopped.
    fn ask(&self) -> Option<Vec<PostedStep>> {
        let mut answer = self.exchange.answer();
        match &*answer {
            Answer::Unasked => *answer = Answer::Asked,
            Answer::Given(time, all) if time.elapsed() < self.late() => return Some(all.clone()),
            Answer::Asked | Answer::Given(..) => {}
        }
        None
    }

    /// After this time something that is done every period does not work.
    fn late(&self) -> Duration {
        4 * self.exchange.period + Duration::from_secs(1)
    }

    fn stalled(&self, all: Option<Vec<PostedStep>>) -> Stalled {
        let before = self.before.as_deref().unwrap_or_default();
        let answers =
            |rank: usize, written| before.get(rank).is_none_or(|before| before[2] != written);
        let seen = |(rank, [_, step, written]): (usize, PostedStep)| Seen {
            step,
            answers: answers(rank, written),
        };
        Stalled {
            patience: self.patience,
            seen: all.map(|all| all.into_iter().enumerate().map(seen).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stalled(seen: &[(u64, bool)]) -> Stalled {
        let seen = seen.iter().map(|&(step, answers)| Seen { step, answers });
        Stalled {
            patience: Duration::from_secs(60),
            seen: Some(seen.collect()),
        }
    }

    #[test]
    fn who_does_not_answer_is_to_blame_and_else_who_is_at_the_earliest_step() {
        let silent = stalled(&[(18, true), (18, false), (17, true)]);
        assert_eq!(silent.last(), [1]);
        assert_eq!(
            silent.to_string(),
            "no process has made progress for 60 s: rank 1 was last seen at step 18 and does not answer; \
             rank 0 is at step 18; rank 2 is at step 17"
        );
        assert_eq!(
            stalled(&[(18, true), (17, true), (17, true)]).last(),
            [1, 2]
        );
        let nobody = Stalled {
            seen: None,
            ..silent
        };
        assert!(nobody.last().is_empty());
        assert!(nobody.to_string().contains("rank 0 or the launcher"));
    }
}
