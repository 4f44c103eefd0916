//! The thread that owns the models: takes jobs from the queue, those that can share evaluations together.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use meanflow_train::Samples;
use tokio::sync::oneshot;

use super::served::Served;
use super::work::{Done, Work};
use crate::api_error::ApiError;
use crate::telemetry::Telemetry;

/// After so many panics the thread ends, and `/healthz` says so.
const MOST_PANICS: usize = 3;

/// Work for a model, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    /// The place of the model in the catalogue.
    pub(super) model: usize,
    pub(super) work: Work,
    pub(super) asked: Instant,
    pub(super) reply: oneshot::Sender<Result<Done, ApiError>>,
}

/// The thread's state.
pub(super) struct Worker {
    pub(super) models: Vec<Served>,
    pub(super) queue: Receiver<Job>,
    pub(super) is_well: Arc<AtomicBool>,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Worker {
    /// Works until nobody can ask any more.
    pub(super) fn run(self) {
        let (mut left, mut panics) = (VecDeque::new(), 0);
        while let Some(jobs) = self.next(&mut left) {
            self.telemetry.evaluated(jobs.len());
            // Sampling changes nothing of a model, so that one which panicked is what it was.
            if catch_unwind(AssertUnwindSafe(|| self.work(jobs))).is_err() {
                panics += 1;
                if panics >= MOST_PANICS {
                    break;
                }
            }
        }
        self.is_well.store(false, Ordering::Relaxed);
    }

    /// The next job, with those that can share its evaluations; `left` holds what was passed over on the way.
    fn next(&self, left: &mut VecDeque<Job>) -> Option<Vec<Job>> {
        let first = loop {
            let job = left.pop_front().or_else(|| self.queue.recv().ok())?;
            if let Some(job) = self.wanted(job) {
                break job;
            }
        };
        let mut jobs = vec![first];
        let Some((sampler, mut rows)) = jobs[0].work.shared() else {
            return Some(jobs);
        };
        let model = jobs[0].model;
        let most = Samples::rows_an_evaluation(&self.models[model].model);
        let mut passed_over = VecDeque::new();
        while rows < most {
            let Some(job) = left.pop_front().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            let fits =
                |(other, more)| other == sampler && job.model == model && rows + more <= most;
            match job.work.shared() {
                Some(shared) if fits(shared) => {
                    if let Some(job) = self.wanted(job) {
                        rows += shared.1;
                        jobs.push(job);
                    }
                }
                _ => passed_over.push_back(job),
            }
        }
        passed_over.append(left);
        *left = passed_over;
        Some(jobs)
    }

    /// A job that leaves the queue, unless nobody waits for it any more.
    fn wanted(&self, job: Job) -> Option<Job> {
        self.telemetry.waiting.dec();
        (!job.reply.is_closed()).then_some(job)
    }

    fn work(&self, jobs: Vec<Job>) {
        let served = &self.models[jobs[0].model];
        let start = Instant::now();
        let made = match &jobs[..] {
            [only] => served.alone(&only.work),
            _ => served.alone(&together(&jobs)),
        };
        let seconds = start.elapsed().as_secs_f64();
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
                return;
            }
        };
        self.telemetry.drawn(made.samples.len());
        let mut place = 0;
        let shared_by = made.samples.len();
        for job in jobs {
            let count = job.work.shared().map_or(shared_by, |(_, count)| count);
            let done = Done {
                samples: part(&made.samples, place, count),
                decoded: made
                    .decoded
                    .as_ref()
                    .map(|all| all.iter().skip(place).take(count).collect()),
                residual: made.residual,
                nfe: job.work.nfe(),
                seconds,
                shared_by,
                waited: start.duration_since(job.asked).as_secs_f64(),
            };
            place += count;
            // Whoever asked may have gone.
            let _ = job.reply.send(Ok(done));
        }
    }
}

/// Jobs that share evaluations as one.
fn together(jobs: &[Job]) -> Work {
    let (mut all, mut classes, mut shared) = (Vec::new(), Vec::new(), None);
    for job in jobs {
        if let Work::Draw {
            seeds,
            labels,
            sampler,
        } = &job.work
        {
            all.extend_from_slice(seeds);
            classes.extend(labels.iter().flatten().copied());
            shared = Some(*sampler);
        }
    }
    Work::Draw {
        seeds: all,
        labels: (!classes.is_empty()).then_some(classes),
        sampler: shared.expect("only jobs of this kind share"),
    }
}

fn part(samples: &Samples, place: usize, count: usize) -> Samples {
    let size = samples.shape.iter().product::<usize>();
    Samples {
        values: samples.values[place * size..(place + count) * size].to_vec(),
        shape: samples.shape.clone(),
    }
}
