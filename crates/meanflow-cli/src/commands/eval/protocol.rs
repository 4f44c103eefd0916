//! What values depend on.

use meanflow_eval::{Evaluation, Extractor};
use meanflow_torch::Kind;
use meanflow_train::TrainConfig;
use serde_json::{Value, json};

use super::identity::Identity;
use super::model::ModelUnderTest;
use super::options::Eval;
use super::reference::ReferenceData;
use super::samplers::{Sampler, last_seed};

/// The key of the device, which ranks may differ in.
pub(super) const DEVICE: &str = "device";

/// All that the values depend on.
pub(super) fn protocol(
    args: &Eval,
    model: &ModelUnderTest,
    (extractor, identity): (&dyn Extractor, &Identity),
    reference: &ReferenceData,
    samplers: &[Sampler<'_>],
    evaluation: &Evaluation<'_>,
) -> anyhow::Result<Value> {
    let (features, config) = (evaluation.features(), evaluation.config());
    let names = samplers.iter().map(|sampler| &*sampler.name);
    let metrics = evaluation.metrics();
    let metrics = metrics.into_iter().map(|id| id.key(features));
    let kernel = evaluation.kernel_subsets().map(|subsets| {
        json!({ "subsets": subsets.subsets, "subset_size": subsets.size, "seed": subsets.seed })
    });
    let mut protocol = json!({
        "meanflow": env!("CARGO_PKG_VERSION"),
        "model": model.identity(),
        "reference": reference.identity,
        "reference_pictures": reference.len(),
        "background": args.look.background.map(|color| color.to_string()),
        "apply_orientation": args.look.apply_orientation,
        "features": {
            "name": features.name(), "dims": evaluation.dims().pooled, "extractor": extractor.name(), "file": identity,
        },
        "metrics": metrics.collect::<Vec<_>>(),
        "kernel_distance": kernel,
        "precision_recall_neighbours": config.neighbours,
        "inception_score_splits": config.splits,
        "samplers": names.collect::<Vec<_>>(),
        "samples": config.samples,
    });
    if let (Value::Object(all), ModelUnderTest::Model(generator)) = (&mut protocol, model) {
        let last = last_seed(args, config.samples)?;
        let first_ema = |recipe: &TrainConfig| recipe.ema.names().into_iter().next();
        let labels = args.labels.description();
        let added = json!({
            "repeats": args.repeats,
            "seeds": format!("{} to {last}, in order, a part for each repetition", args.seed),
            "labels": if config.classes > 0 { labels } else { "none" },
            "vae": args.vae.as_deref().map(Identity::of_path).transpose()?,
            "ema": generator.recipe.as_ref().and_then(first_ema),
            "device": format!("{:?}", generator.model.device()),
            "dtype": dtype(generator.model.kind()),
        });
        all.extend(added.as_object().cloned().into_iter().flatten());
    }
    Ok(protocol)
}

/// The usual name of a type of numbers.
fn dtype(kind: Kind) -> String {
    match kind {
        Kind::Float => "f32".to_owned(),
        Kind::Double => "f64".to_owned(),
        Kind::BFloat16 => "bf16".to_owned(),
        Kind::Half => "f16".to_owned(),
        other => format!("{other:?}"),
    }
}
