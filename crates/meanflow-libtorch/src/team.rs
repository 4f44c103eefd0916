//! Processes that share a piece of work, and rank 0, which has all of it in the end.

use tch::{Device, Tensor};

use crate::{LibtorchError, ProcessGroup, Shard};

/// Most numbers that a process sends at a time while rank 0 gathers.
const BLOCK: i64 = 1 << 22;

/// The processes that share a piece of work on their hosts, or one alone.
#[derive(Debug)]
pub struct Team(Option<ProcessGroup>);

impl Team {
    /// One process alone.
    pub const ALONE: Self = Self(None);

    /// The processes of a group on the CPU.
    pub fn new(group: ProcessGroup) -> Self {
        Self(Some(group))
    }

    /// Which part of the work is that of this process.
    pub fn shard(&self) -> Shard {
        let shard = self
            .0
            .as_ref()
            .and_then(|group| Shard::new(group.rank() as u64, group.size() as u64));
        shard.unwrap_or(Shard::ALL)
    }

    /// Whether this is rank 0, which tells and writes.
    pub fn leads(&self) -> bool {
        self.shard().rank() == 0
    }

    /// Waits until every process is here.
    ///
    /// # Errors
    /// If another process was lost.
    pub fn wait(&self) -> Result<(), LibtorchError> {
        self.0.as_ref().map_or(Ok(()), ProcessGroup::barrier)
    }

    /// The vectors of all ranks behind each other, on rank 0; the others get none. They may be of any lengths, in numbers of one kind.
    ///
    /// # Errors
    /// If another process was lost.
    pub fn gather(&self, own: &Tensor) -> Result<Option<Tensor>, LibtorchError> {
        let Some(group) = &self.0 else {
            return Ok(Some(own.shallow_clone()));
        };
        let lengths = group.all_gather(&Tensor::from_slice(&[own.numel() as i64]))?;
        let lengths: Vec<i64> = (0..group.size() as i64)
            .map(|rank| lengths.int64_value(&[rank]))
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut parts: Vec<Vec<Tensor>> = lengths.iter().map(|_| Vec::new()).collect();
        for start in (0..longest).step_by(BLOCK as usize) {
            let size = BLOCK.min(longest - start);
            let all = group.all_gather(&block(own, start, size))?;
            for (rank, (length, parts)) in lengths.iter().zip(&mut parts).enumerate() {
                let fresh = (length - start).clamp(0, size);
                if self.leads() && fresh > 0 {
                    parts.push(all.narrow(0, rank as i64 * size, fresh).copy());
                }
            }
        }
        let parts: Vec<Tensor> = parts.into_iter().flatten().collect();
        Ok(self.leads().then(|| match parts.is_empty() {
            true => own.shallow_clone(),
            false => Tensor::cat(&parts, 0),
        }))
    }

    /// As [`Team::gather`], of values on the host.
    ///
    /// # Errors
    /// As [`Team::gather`].
    pub fn gather_f32(&self, own: Vec<f32>) -> Result<Option<Vec<f32>>, LibtorchError> {
        if self.0.is_none() {
            return Ok(Some(own));
        }
        let all = self.gather(&Tensor::from_slice(&own))?;
        let values = all.map(|all| {
            let values = Vec::<f32>::try_from(all);
            values.map_err(|error| LibtorchError::call("gather", error))
        });
        values.transpose()
    }
}

/// `size` numbers of a vector from `start` on, zeros behind its end.
fn block(vector: &Tensor, start: i64, size: i64) -> Tensor {
    let length = vector.numel() as i64;
    let fresh = (length - start).clamp(0, size);
    if fresh == 0 {
        return Tensor::zeros([size], (vector.kind(), Device::Cpu));
    }
    let part = vector.narrow(0, start, fresh);
    part.constant_pad_nd([0, size - fresh]).contiguous()
}
