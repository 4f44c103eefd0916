//! The thread that owns the models, and the queue before it.

mod paths;
mod served;
mod vary;
mod work;
mod worker;

pub(crate) use served::Served;
pub(crate) use work::{Done, Method, Sampler, Work};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::api_error::ApiError;
use crate::telemetry::Telemetry;
use worker::{Job, Worker};

/// The way to the models. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Studio {
    queue: SyncSender<Job>,
    is_well: Arc<AtomicBool>,
    telemetry: Arc<Telemetry>,
}

impl Studio {
    /// Starts the thread, before which at most `queue` jobs wait.
    pub(crate) fn start(
        models: Vec<Served>,
        queue: usize,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(queue);
        let is_well = Arc::new(AtomicBool::new(true));
        let worker = Worker {
            models,
            queue: receiver,
            is_well: Arc::clone(&is_well),
            telemetry: Arc::clone(telemetry),
        };
        // What the thread that opened the models was allowed: the number is one of each thread.
        let threads = tch::get_num_threads();
        thread::Builder::new()
            .name("models".to_owned())
            .spawn(move || {
                tch::set_num_threads(threads);
                worker.run();
            })?;
        Ok(Self {
            queue: sender,
            is_well,
            telemetry: Arc::clone(telemetry),
        })
    }

    /// Whether the thread works.
    pub(crate) fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }

    /// Does work and waits for it.
    ///
    /// # Errors
    /// When the queue is full, the thread has ended, or the work cannot be done.
    pub(crate) async fn ask(&self, model: usize, work: Work) -> Result<Done, ApiError> {
        let (reply, answer) = oneshot::channel();
        let asked = Instant::now();
        let job = Job {
            model,
            work,
            asked,
            reply,
        };
        self.telemetry.waiting.inc();
        match self.queue.try_send(job) {
            Ok(()) => {}
            Err(refused) => {
                self.telemetry.waiting.dec();
                return Err(match refused {
                    TrySendError::Full(_) => ApiError::busy("the queue before the models is full"),
                    TrySendError::Disconnected(_) => ApiError::unwell(),
                });
            }
        }
        answer.await.unwrap_or_else(|_| Err(ApiError::unwell()))
    }
}
