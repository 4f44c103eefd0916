//! Several processes that do one run: rank 0 decides and writes, the others compute their microbatches of every step.

use meanflow_data::Dataset;
use meanflow_torch::{Device, GradientSum, Peers, Ranks, TorchError};

use crate::TrainError;
use crate::config::TrainConfig;
use crate::control::Control;
use crate::record::DataRecord;
use crate::trainer::Trainer;

/// Whether this is one of several processes, of which another decides.
pub(crate) fn follows(peers: Option<&Peers>) -> bool {
    peers.is_some_and(|peers| peers.control.rank() != 0)
}

/// What a person should know of how several processes add up their gradients.
pub(crate) fn remark(config: &TrainConfig, peers: Option<&Peers>) -> Option<String> {
    let size = peers?.control.size();
    let is_fixed = config.compute.gradient_sum == GradientSum::FixedTree;
    (size > 1 && !is_fixed).then(|| {
        format!(
            "gradients are added up in the order of the engine (compute.gradient_sum): the digits of this run depend on the number of \
             processes, which is {size}"
        )
    })
}

/// A trainer of one of several processes, which all have the same recipe and data; with none but this, an ordinary one.
pub(crate) fn trainer(
    config: &TrainConfig,
    data: Box<dyn Dataset>,
    record: &DataRecord,
    device: Device,
    peers: Option<Peers>,
) -> Result<Trainer, TrainError> {
    let Some(peers) = peers else {
        return Trainer::new(config.clone(), data, device);
    };
    if config.compute.cuda_graph {
        return Err(TrainError::Torch(TorchError::Argument {
            what: "compute.cuda_graph of several processes",
            expected: "false: no step of several processes has been captured yet".to_owned(),
            got: "true".to_owned(),
        }));
    }
    let Peers {
        control: group,
        tensors,
        progress,
        ..
    } = peers;
    let control = Control { group, progress };
    control.agree(config, &record.fingerprint)?;
    let training = &config.training;
    let ranks = Ranks::new(tensors, training.microbatches(), training.batch_size.get())?;
    let ranks = ranks
        .adding(config.compute.gradient_sum)
        .sharding_optimizer(config.compute.shard_optimizer);
    Trainer::shared(config.clone(), data, device, Some((control, ranks)))
}
