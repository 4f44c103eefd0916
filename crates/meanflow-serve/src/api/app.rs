//! What every handler of a request knows.

use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::limits::Limits;
use crate::studio::Studio;
use crate::telemetry::Telemetry;
use crate::training_data::TrainingData;

/// What every handler knows.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) catalogue: Catalogue,
    pub(crate) studio: Studio,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) limits: Limits,
    pub(crate) data: TrainingData,
}
