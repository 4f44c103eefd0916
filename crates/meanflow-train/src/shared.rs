//! Several processes that do one run: rank 0 decides and writes, the others compute their microbatches of every step.

use std::sync::Arc;

use meanflow_data::Dataset;
use meanflow_files::sha256;
use meanflow_torch::{
    Device, GradientSum, Kind, Peers, ProcessGroup, Progress, Ranks, Tensor, TorchError,
};

use crate::TrainError;
use crate::config::TrainConfig;
use crate::record::DataRecord;
use crate::run::Outcome;
use crate::trainer::Trainer;

/// What rank 0 tells the others, whose trainers do nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Take all tensors from rank 0, which has done this many steps and draws the data of later ones.
    State { step: u64, data_offset: u64 },
    /// Compute the next step together.
    Step,
    /// Give rank 0 this set of what each has for its own parameters alone.
    Collect(usize),
    /// The run has ended.
    End(Outcome),
}

/// How rank 0 is heard.
#[derive(Debug)]
pub(crate) struct Control {
    group: ProcessGroup,
    progress: Arc<Progress>,
}

impl Control {
    /// Whether this process decides.
    pub(crate) fn leads(&self) -> bool {
        self.group.rank() == 0
    }

    /// Something was done at this step, which whoever supervises the processes wants to know.
    pub(crate) fn note(&self, step: u64) {
        self.progress.note(step);
    }

    /// Tells the others, as rank 0.
    pub(crate) fn tell(&self, order: Order) -> Result<(), TrainError> {
        let words = Tensor::from_slice(&order.words());
        Ok(self.group.broadcast(&words, 0).map_err(TorchError::from)?)
    }

    /// Waits for the next order, as another rank.
    pub(crate) fn hear(&self) -> Result<Order, TrainError> {
        let words = Tensor::zeros([3], (Kind::Int64, Device::Cpu));
        self.group.broadcast(&words, 0).map_err(TorchError::from)?;
        Order::of([0, 1, 2].map(|index| words.int64_value(&[index])))
    }

    /// Refuses ranks that were given another recipe, or other data, than rank 0, or are of another version.
    fn agree(&self, config: &TrainConfig, data: &str) -> Result<(), TrainError> {
        let version = env!("CARGO_PKG_VERSION");
        let hash = sha256(format!("{version}{}{data}", config.to_toml()).as_bytes());
        let own = Tensor::from_slice(hash.as_bytes()).unsqueeze(0);
        let all = self.group.all_gather(&own).map_err(TorchError::from)?;
        for rank in 1..self.group.size() {
            if all.get(rank as i64) != all.get(0) {
                return Err(TrainError::Ranks { rank });
            }
        }
        // From here on all do the same: whoever waits for long waits for one that hangs.
        self.progress.note(0);
        Ok(())
    }
}

impl Order {
    /// As numbers that are sent.
    fn words(self) -> [i64; 3] {
        let number = |step: u64| i64::try_from(step).unwrap_or(i64::MAX);
        match self {
            Self::State { step, data_offset } => [0, number(step), number(data_offset)],
            Self::Step => [1, 0, 0],
            Self::End(Outcome::Finished) => [2, 0, 0],
            Self::End(Outcome::Stopped(step)) => [3, number(step), 0],
            Self::End(Outcome::OutOfTime(step)) => [4, number(step), 0],
            Self::Collect(set) => [5, number(set as u64), 0],
        }
    }

    fn of([kind, step, data_offset]: [i64; 3]) -> Result<Self, TrainError> {
        let (step, data_offset) = (step.unsigned_abs(), data_offset.unsigned_abs());
        Ok(match kind {
            0 => Self::State { step, data_offset },
            1 => Self::Step,
            2 => Self::End(Outcome::Finished),
            3 => Self::End(Outcome::Stopped(step)),
            4 => Self::End(Outcome::OutOfTime(step)),
            5 => Self::Collect(usize::try_from(step).unwrap_or(usize::MAX)),
            _ => {
                return Err(TrainError::Torch(TorchError::Argument {
                    what: "order of rank 0",
                    expected: "one of this version of the program".to_owned(),
                    got: kind.to_string(),
                }));
            }
        })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_given() {
        for order in [
            Order::State {
                step: 7,
                data_offset: 64,
            },
            Order::Step,
            Order::Collect(3),
            Order::End(Outcome::Finished),
            Order::End(Outcome::Stopped(9)),
            Order::End(Outcome::OutOfTime(1)),
        ] {
            assert_eq!(Order::of(order.words()).unwrap(), order);
        }
        assert!(Order::of([9, 0, 0]).is_err());
    }
}
