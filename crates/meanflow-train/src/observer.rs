//! What a run tells whoever watches it. The library itself prints nothing.

use std::path::Path;

use meanflow_torch::Sharing;

use crate::InitReport;
use crate::metrics::Record;

/// Something that happened in a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins, or goes on.
    Started {
        /// Steps that were done before.
        step: u64,
        /// Steps of the whole run.
        steps: u64,
        /// Numbers in the network.
        parameters: usize,
        /// Samples of the data set.
        samples: usize,
        /// How the threads of the CPU share a step; none on another device.
        sharing: Option<Sharing>,
    },
    /// The run begins with the weights of another model.
    Initialized(&'a InitReport),
    /// Something that a person should know of the data or of how it is computed, in a sentence.
    Remark(&'a str),
    /// A newer checkpoint was damaged and is passed over.
    Rejected {
        /// Its folder.
        path: &'a Path,
        /// Why.
        reason: &'a str,
    },
    /// The recipe differs from the one the run was begun with, as was allowed: one line a key.
    Changed {
        /// Steps done before the change.
        after_step: u64,
        /// The key, what it was and what it is.
        differences: &'a [String],
    },
    /// All steps had been done before.
    AlreadyFinished {
        /// Steps done.
        step: u64,
        /// Steps that the recipe asks for.
        steps: u64,
    },
    /// Lines of the metrics file are lost; the run goes on.
    MetricsLost {
        /// The file.
        path: &'a Path,
        /// What is lost, for a person.
        what: &'a str,
    },
    /// A file that goes with the checkpoint was missing or of another step, and was made again.
    Restored(&'a Path),
    /// A checkpoint could not be written; the run goes on, as the recipe asks.
    SaveFailed {
        /// Steps done.
        step: u64,
        /// The reason, for a person.
        reason: &'a str,
    },
    /// A step was done.
    Stepped(&'a Record),
    /// `‖du/dt‖` of every row with `r < t` of the step that was told of last.
    DudtNorms(&'a [f64]),
    /// A step was left out because its loss or gradient was not finite.
    Skipped {
        /// The step, counted from 1.
        step: u64,
        /// How many there were in a row until now.
        in_row: u32,
    },
    /// What is known of the step that ended training was written down; [`replay`](crate::replay()) does it again.
    Crashed(&'a Path),
    /// Too many steps were not finite: the run goes on from a checkpoint before them, with other data.
    RolledBack {
        /// The step that was one too many.
        from: u64,
        /// The step of the checkpoint.
        to: u64,
        /// How often that happened until now.
        rollbacks: u32,
        /// Why, for a person.
        reason: &'a str,
    },
    /// A picture of samples was drawn.
    Drawn(&'a Path),
    /// A checkpoint was written.
    Saved(&'a Path),
    /// A sample is damaged, and another is taken for it; told when a checkpoint is written.
    Replaced {
        /// The damaged file, or member of an archive.
        path: &'a Path,
        /// What is wrong with it.
        reason: &'a str,
    },
    /// All steps are done.
    Ended {
        /// The share of the time since the run began, or was gone on with, that steps waited for their samples.
        wait_share: f64,
        /// Steps left out since the beginning because something was not finite.
        skipped: u64,
    },
}

/// Whoever watches a run.
pub trait Observer {
    /// Called in the thread that trains: the run waits until it returns.
    fn notice(&mut self, event: Event<'_>);
}

/// Watches in silence.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn notice(&mut self, _event: Event<'_>) {}
}
