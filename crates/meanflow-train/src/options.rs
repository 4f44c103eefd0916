//! What whoever starts a run decides about it, beside the recipe.

use std::path::PathBuf;
use std::time::Duration;

use meanflow_data::Dataset;
use meanflow_torch::Device;

use crate::TrainError;
use crate::init_from::InitFrom;
use crate::latents::LatentDecoder;
use crate::observer::{Event, Observer};
use crate::origin::Origin;

/// How a run is begun, how long it may last, and which changes of the recipe are accepted. The default goes on with
/// what is there, for as long as it takes, by the same recipe.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Where the run goes on from.
    pub resume: Resume,
    /// The weights that a run begins with; one that goes on does not look at them. Without them weights are drawn.
    pub init_from: Option<InitFrom>,
    /// Dotted keys of the recipe, or sections, that may differ from the recipe that the run was begun with. The
    /// differences are recorded in the checkpoints.
    pub allow_changes: Vec<String>,
    /// The VAE that makes pictures of latents for the previews of a run: a folder as diffusers writes it, or its weights. Without it the
    /// channels of latents are drawn.
    pub vae: Option<PathBuf>,
    /// Where the run comes from, which its directory keeps.
    pub origin: Option<Origin>,
    /// After this time the run saves a checkpoint and stops, at the end of a step.
    pub max_time: Option<Duration>,
}

/// Where a run goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// From the newest checkpoint of the run directory that is whole; from the start where there is none.
    #[default]
    Auto,
    /// From the start. A run directory with checkpoints is refused.
    Never,
    /// From this checkpoint folder, or from the newest checkpoint of this run directory. Newer checkpoints of the run
    /// itself are set aside.
    From(PathBuf),
}

impl RunOptions {
    /// Whether the recipe may differ in this dotted key.
    pub(crate) fn allows(&self, key: &str) -> bool {
        self.allow_changes.iter().any(|allowed| {
            key == allowed
                || key
                    .strip_prefix(allowed.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    /// What makes pictures of latents, if that is asked for.
    pub(crate) fn decoder(
        &self,
        data: &dyn Dataset,
        device: Device,
        observer: &mut dyn Observer,
    ) -> Result<Option<LatentDecoder>, TrainError> {
        let Some(path) = &self.vae else {
            return Ok(None);
        };
        let shape: Vec<i64> = data.shape().iter().map(|&side| side as i64).collect();
        let decoder = LatentDecoder::open(path, device, &shape, data.latents())?;
        if let Some(note) = decoder.note() {
            observer.notice(Event::Remark(&note));
        }
        Ok(Some(decoder))
    }
}
