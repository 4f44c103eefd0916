//! What the server counts, for `GET /metrics`.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What tells the counters of answers apart.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Answer {
    route: &'static str,
    status: u16,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    answers: Family<Answer, Counter>,
    seconds: Histogram,
    samples: Counter,
    evaluations: Counter<u64, AtomicU64>,
    jobs: Counter,
    /// Jobs in the queue before the models.
    pub(crate) waiting: Gauge,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Connections that were closed at once because there were too many.
    pub(crate) refused: Counter,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("meanflow");
        let answers = Family::default();
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let (samples, evaluations) = (Counter::default(), Counter::default());
        let (jobs, refused) = (Counter::default(), Counter::default());
        let (waiting, connections) = (Gauge::default(), Gauge::default());
        registry.register("answers", "Requests answered", answers.clone());
        registry.register_with_unit(
            "answer",
            "Time from the headers of a request to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register("samples", "Samples drawn", samples.clone());
        registry.register("jobs", "Jobs done by the models", jobs.clone());
        registry.register(
            "batches",
            "Times that the models worked, for one job or several together",
            evaluations.clone(),
        );
        registry.register(
            "waiting_jobs",
            "Jobs that wait for the models",
            waiting.clone(),
        );
        registry.register("connections", "Open connections", connections.clone());
        registry.register(
            "refused_connections",
            "Connections beyond the limit",
            refused.clone(),
        );
        Self {
            registry,
            answers,
            seconds,
            samples,
            evaluations,
            jobs,
            waiting,
            connections,
            refused,
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: &'static str, status: u16, time: Duration) {
        self.answers.get_or_create(&Answer { route, status }).inc();
        self.seconds.observe(time.as_secs_f64());
    }

    /// The models work for so many jobs together.
    pub(crate) fn evaluated(&self, jobs: usize) {
        self.evaluations.inc();
        self.jobs.inc_by(jobs as u64);
    }

    /// Samples were drawn.
    pub(crate) fn drawn(&self, samples: usize) {
        self.samples.inc_by(samples as u64);
    }
}

/// The text that Prometheus reads.
impl fmt::Display for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(f, &self.registry)
    }
}
