//! What rank 0 tells the other processes of a run, and how a run ends.

use std::sync::Arc;

use meanflow_files::sha256;
use meanflow_torch::{Device, Kind, ProcessGroup, Progress, Tensor, TorchError};

use crate::TrainError;
use crate::config::TrainConfig;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// It was asked to stop, saved a checkpoint after this many steps and left.
    Stopped(u64),
    /// Its time was over; it saved a checkpoint after this many steps and left.
    OutOfTime(u64),
}

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
    /// Whom it is heard by.
    pub(crate) group: ProcessGroup,
    /// Where those who supervise the processes see what was done.
    pub(crate) progress: Arc<Progress>,
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
    pub(crate) fn agree(&self, config: &TrainConfig, data: &str) -> Result<(), TrainError> {
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
