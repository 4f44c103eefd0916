//! What a figure depends on.

use std::path::Path;

use meanflow_eval::Extractor;
use meanflow_train::fingerprint;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Eval;
use super::figures::{KID, NEIGHBOURS};
use super::reference::Reference;
use super::subject::Subject;

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

/// All that the figures depend on; `samples` in each repetition.
pub(super) fn protocol(
    args: &Eval,
    subject: &Subject,
    features: &dyn Extractor,
    identity: &Identity,
    reference: &Reference,
    samples: usize,
) -> Value {
    let count = samples as u64;
    let last = args.seed + count * args.repeats.get() as u64 - 1;
    let mut protocol = json!({
        "meanflow": env!("CARGO_PKG_VERSION"),
        "subject": subject.identity(),
        "reference": reference.identity,
        "reference_pictures": reference.len(),
        "features": { "extractor": features.name(), "file": identity },
        "kernel_distance": { "subsets": KID.subsets, "largest_subset": KID.size, "seed": KID.seed },
        "precision_recall_neighbours": NEIGHBOURS,
    });
    let added = match subject {
        Subject::Model(drawer) => json!({
            "samples": count,
            "repeats": args.repeats,
            "seeds": format!("{} to {last}, in order, a part for each repetition", args.seed),
            "labels": if drawer.model.config().classes > 0 { args.labels.name() } else { "none" },
            "average": drawer.recipe.as_ref().and_then(|recipe| recipe.ema.names().into_iter().next()),
            "device": format!("{:?}", drawer.model.device()),
            "numbers": format!("{:?}", drawer.model.kind()),
        }),
        Subject::Pictures(_, source) => json!({ "samples": source.len() }),
    };
    if let (Value::Object(all), Value::Object(added)) = (&mut protocol, added) {
        all.extend(added);
    }
    protocol
}
