//! Which of several processes this is, as whoever started them says, and how they find each other.

use std::env;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tch::Device;

use crate::{Finding, LibtorchError, ProcessGroup, Progress, Shard, Store, Supervisor, Team};

/// How a launcher names rank, number of processes, and rank among the processes of this machine.
const LAUNCHERS: [[&str; 3]; 4] = [
    // torchrun, `meanflow launch`.
    ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    // Open MPI.
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
    ],
    // MPICH and Intel MPI.
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
    // srun; a script under sbatch has no step.
    ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"],
];

/// The part of the store of the group that is on the CPU.
const CONTROL: &str = "control";
const ADDRESS: &str = "MASTER_ADDR";
const PORT: &str = "MASTER_PORT";
/// torchrun serves the store itself, and says so.
const SERVED: &str = "TORCHELASTIC_USE_AGENT_STORE";
/// How often torchrun has begun all processes anew.
const ATTEMPT: &str = "TORCHELASTIC_RESTART_COUNT";

/// The processes that were started together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct World {
    /// Which of them this is, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Which of those on this machine this is, from 0: the number of its CUDA device.
    pub local_rank: usize,
}

impl World {
    /// One process that nobody else was started with.
    pub const ALONE: Self = Self {
        rank: 0,
        size: 1,
        local_rank: 0,
    };

    /// What the environment says: that of torchrun, `mpirun` and `srun`, in this order. [`World::ALONE`] without any of them.
    ///
    /// # Errors
    /// With the variable that is no number, or the rank that is none of the world's.
    pub fn from_env() -> Result<Self, LibtorchError> {
        Self::of(|name| env::var(name).ok())
    }

    /// As [`World::from_env`], by these variables.
    ///
    /// # Errors
    /// As [`World::from_env`].
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, LibtorchError> {
        let number = |name: &str, text: String| {
            let no_number = |_| wrong(format!("{name}: expected a number, got \"{text}\""));
            text.trim().parse::<usize>().map_err(no_number)
        };
        for [rank, size, local] in LAUNCHERS {
            let (at, of) = match (variable(rank), variable(size)) {
                (Some(at), Some(of)) => (at, of),
                // Other programs may set one of the other pairs alone.
                (None, None) => continue,
                _ if rank != "RANK" => continue,
                (at, of) => {
                    let [at, of] = [at, of].map(|value| value.unwrap_or("not set".to_owned()));
                    let text = format!(
                        "expected {rank} below {size}, or neither, got {rank} {at}, {size} {of}"
                    );
                    return Err(wrong(text));
                }
            };
            let world = Self {
                rank: number(rank, at)?,
                size: number(size, of)?,
                local_rank: variable(local).map_or(Ok(0), |text| number(local, text))?,
            };
            if world.rank >= world.size {
                let (at, of) = (world.rank, world.size);
                let text = format!("expected {rank} below {size}, got {rank} {at}, {size} {of}");
                return Err(wrong(text));
            }
            return Ok(world);
        }
        Ok(Self::ALONE)
    }

    /// Which part of work that all share is that of this process.
    pub fn shard(&self) -> Shard {
        Shard::new(self.rank as u64, self.size as u64).unwrap_or(Shard::ALL)
    }

    /// Joins the others, by `MASTER_ADDR` and `MASTER_PORT`: rank 0 serves the store there, on no other interface, unless the
    /// launcher does. Waits for all.
    ///
    /// # Errors
    /// If the variables are not set, if the port is taken, or not everybody has come within `timeout`, which also holds for every
    /// operation.
    pub fn join(&self, device: Device, timeout: Duration) -> Result<Peers, LibtorchError> {
        let (store, address) = self.find(timeout)?;
        self.meet(&store, &address, device, timeout)
    }

    /// Joins the others as [`World::join`] does, to share work that needs no device; of one process nobody is waited for.
    ///
    /// # Errors
    /// As [`World::join`].
    pub fn team(&self, timeout: Duration) -> Result<Team, LibtorchError> {
        if self.size == 1 {
            return Ok(Team::ALONE);
        }
        let (store, address) = self.find(timeout)?;
        let store = store.scope(CONTROL)?;
        let group = ProcessGroup::gloo(&store, self.rank, self.size, &address, timeout)?;
        Ok(Team::new(group))
    }

    /// The store of all, and the address of this machine by which they reach it.
    fn find(&self, timeout: Duration) -> Result<(Store, String), LibtorchError> {
        let text = |name: &str| {
            let size = self.size;
            env::var(name).map_err(|_| {
                wrong(format!(
                    "expected {name}, the place where {size} processes meet, got none"
                ))
            })
        };
        let (host, port) = (text(ADDRESS)?, text(PORT)?);
        let port = port
            .parse()
            .map_err(|_| wrong(format!("{PORT}: expected a port, got \"{port}\"")))?;
        let served = env::var(SERVED).is_ok_and(|value| value == "True");
        let store = if self.rank == 0 && !served {
            let listener = TcpListener::bind((host.as_str(), port))
                .map_err(|error| refused(format!("could not listen on {host}:{port}: {error}")))?;
            Store::serve(listener, timeout)?
        } else {
            Store::connect(&host, port, timeout)?
        };
        // A store of the launcher's still has the keys of the attempt before.
        let store = store.scope(&env::var(ATTEMPT).unwrap_or_default())?;
        Ok((store, own_address(&host, port)?))
    }

    /// Joins the others in a store that all of them have.
    ///
    /// # Errors
    /// As [`World::join`].
    pub fn meet(
        &self,
        store: &Store,
        address: &str,
        device: Device,
        timeout: Duration,
    ) -> Result<Peers, LibtorchError> {
        let Self { rank, size, .. } = *self;
        let gloo = |name| ProcessGroup::gloo(&store.scope(name)?, rank, size, address, timeout);
        Ok(Peers {
            control: gloo(CONTROL)?,
            tensors: match device {
                Device::Cuda(index) => {
                    ProcessGroup::nccl(&store.scope("tensors")?, rank, size, index, timeout)?
                }
                _ => gloo("tensors")?,
            },
            progress: Arc::default(),
            store: store.scope("progress")?,
            world: *self,
        })
    }
}

/// The groups of a world: a process is the same rank in both.
#[derive(Debug)]
pub struct Peers {
    /// On the CPU, for what is decided together.
    pub control: ProcessGroup,
    /// On the device of the computation.
    pub tensors: ProcessGroup,
    /// What this process has done.
    pub progress: Arc<Progress>,
    store: Store,
    world: World,
}

impl Peers {
    /// Watches that the processes make progress, from the first that is noted on, and that there is still a store, until what it gives
    /// is dropped; as [`Supervisor::start`] does.
    ///
    /// # Errors
    /// If libtorch refuses, or the system gives no threads.
    pub fn supervise(
        &self,
        patience: Duration,
        found: impl FnMut(Finding) + Send + 'static,
    ) -> Result<Supervisor, LibtorchError> {
        let (store, progress) = (self.store.scope("")?, Arc::clone(&self.progress));
        Supervisor::start(store, self.world, progress, patience, found)
    }
}

/// The address of this machine from which it reaches the meeting point.
fn own_address(host: &str, port: u16) -> Result<String, LibtorchError> {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Sends nothing: only the route is looked up.
        socket.connect((host, port))?;
        socket.local_addr()
    });
    let address = found.map_err(|error| refused(format!("no way to {host}:{port}: {error}")))?;
    Ok(address.ip().to_string())
}

/// What the environment says cannot be.
fn wrong(problem: String) -> LibtorchError {
    LibtorchError::World { problem }
}

fn refused(text: String) -> LibtorchError {
    LibtorchError::call("find the other processes", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(variables: &[(&str, &str)]) -> Result<World, LibtorchError> {
        World::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_launcher_is_understood() {
        let expected = World {
            rank: 3,
            size: 8,
            local_rank: 1,
        };
        for [rank, size, local] in LAUNCHERS {
            let found = world(&[(rank, "3"), (size, "8"), (local, "1")]).unwrap();
            assert_eq!(found, expected, "{rank}");
        }
        assert_eq!(world(&[]).unwrap(), World::ALONE);
        // A script under sbatch, which is not one of several.
        let script = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
        assert_eq!(world(&script).unwrap(), World::ALONE);
        let both = [
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("RANK", "3"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
        ];
        assert_eq!(world(&both).unwrap(), expected);
    }

    #[test]
    fn a_rank_outside_of_the_world_is_refused() {
        let error = world(&[("RANK", "2"), ("WORLD_SIZE", "2")]).unwrap_err();
        assert!(
            error.to_string().contains("RANK below WORLD_SIZE"),
            "{error}"
        );
        let error = world(&[("RANK", "0"), ("WORLD_SIZE", "many")]).unwrap_err();
        assert!(error.to_string().contains("\"many\""), "{error}");
        for half in [("RANK", "0"), ("WORLD_SIZE", "2")] {
            let error = world(&[half]).unwrap_err().to_string();
            assert!(error.contains("or neither"), "{error}");
        }
    }
}
