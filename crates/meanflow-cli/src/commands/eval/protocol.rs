//! What a figure depends on.

use std::path::Path;

use meanflow_eval::Extractor;
use meanflow_train::{TrainConfig, fingerprint};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Eval;
use super::reference::Reference;
use super::subject::Subject;
use super::tally::{KID, NEIGHBOURS, Wanted};
use super::way::Route;

/// Name and hash of a file that figures depend on.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) sha256: Option<String>,
}

impl Identity {
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sha256: None,
        }
    }

    /// Of bytes in the program.
    pub(super) fn embedded(name: &str, bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let digits = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            name: name.to_owned(),
            sha256: Some(digits),
        }
    }

    /// Of a file, or only the name of a folder.
    pub(super) fn of_data(path: &Path) -> anyhow::Result<Self> {
        let hash = path.is_file().then(|| fingerprint(path)).transpose()?;
        Ok(Self {
            name: path.display().to_string(),
            sha256: hash.map(|(_, hash)| hash),
        })
    }
}

/// All that the figures depend on.
pub(super) fn protocol(
    args: &Eval,
    subject: &Subject,
    (extractor, identity): (&dyn Extractor, &Identity),
    reference: &Reference,
    routes: &[Route<'_>],
    wanted: &Wanted<'_>,
) -> Value {
    let ways: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    let mut protocol = json!({
        "meanflow": env!("CARGO_PKG_VERSION"),
        "subject": subject.identity(),
        "reference": reference.identity,
        "reference_pictures": reference.len(),
        "features": { "extractor": extractor.name(), "file": identity },
        "metrics": wanted.metrics,
        "kernel_distance": { "subsets": KID.subsets, "largest_subset": KID.size, "seed": KID.seed },
        "precision_recall_neighbours": NEIGHBOURS,
        "ways": ways,
        "samples": wanted.samples,
    });
    if let (Value::Object(all), Subject::Model(drawer)) = (&mut protocol, subject) {
        let last = args.seed + (wanted.samples * args.repeats.get() as u64 - 1);
        let average = |recipe: &TrainConfig| recipe.ema.names().into_iter().next();
        let labels = args.labels.name();
        let added = json!({
            "repeats": args.repeats,
            "seeds": format!("{} to {last}, in order, a part for each repetition", args.seed),
            "labels": if wanted.classes > 0 { labels } else { "none" },
            "average": drawer.recipe.as_ref().and_then(average),
            "device": format!("{:?}", drawer.model.device()),
            "numbers": format!("{:?}", drawer.model.kind()),
        });
        all.extend(added.as_object().cloned().into_iter().flatten());
    }
    protocol
}
