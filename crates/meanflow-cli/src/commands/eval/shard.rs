//! The part of the samples that one of several processes draws.

use std::env;
use std::ops::Range;

use crate::failure::Usage;

/// Rank `rank` of `world`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shard {
    pub(super) rank: u64,
    pub(super) world: u64,
}

impl Shard {
    /// By the variables `RANK` and `WORLD_SIZE`, as torchrun and its like set them; none for one process alone.
    pub(super) fn of_environment() -> anyhow::Result<Option<Self>> {
        let value = |name| env::var(name).ok();
        Self::of(value("RANK").as_deref(), value("WORLD_SIZE").as_deref())
    }

    fn of(rank: Option<&str>, world: Option<&str>) -> anyhow::Result<Option<Self>> {
        let refuse = || {
            let [rank, world] = [rank, world].map(|value| value.unwrap_or("not set"));
            let text = format!(
                "expected RANK below WORLD_SIZE, or neither, got RANK {rank}, WORLD_SIZE {world}"
            );
            anyhow::Error::from(Usage(text))
        };
        let (rank, world) = match (rank, world) {
            (None, None) => return Ok(None),
            (Some(rank), Some(world)) => (rank.parse::<u64>(), world.parse::<u64>()),
            _ => return Err(refuse()),
        };
        match (rank, world) {
            (Ok(0), Ok(1)) => Ok(None),
            (Ok(rank), Ok(world)) if rank < world => Ok(Some(Self { rank, world })),
            _ => Err(refuse()),
        }
    }

    /// Everything.
    pub(super) const ALL: Self = Self { rank: 0, world: 1 };

    /// Its samples of so many: consecutive ones, those of all ranks one after the other.
    pub(super) fn samples(self, count: u64) -> Range<u64> {
        let start = |rank| (u128::from(rank) * u128::from(count) / u128::from(self.world)) as u64;
        start(self.rank)..start(self.rank + 1)
    }

    /// The name of its file.
    pub(super) fn file(self) -> String {
        format!("{}-of-{}.safetensors", self.rank, self.world)
    }

    /// The shard whose file has this name.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let (rank, world) = name.strip_suffix(".safetensors")?.split_once("-of-")?;
        Self::of(Some(rank), Some(world)).ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_out_all_samples_in_order() {
        for (count, world) in [(10, 1), (10, 3), (2, 4), (50_000, 8), (u64::MAX, 7)] {
            let mut next = 0;
            for rank in 0..world {
                let samples = Shard { rank, world }.samples(count);
                assert_eq!(samples.start, next);
                assert!(samples.end - samples.start <= count / world + 1);
                next = samples.end;
            }
            assert_eq!(next, count);
        }
    }

    #[test]
    fn a_file_names_its_shard() {
        let shard = Shard { rank: 3, world: 12 };
        assert_eq!(Shard::of_file(&shard.file()), Some(shard));
        for name in [
            "3-of-3.safetensors",
            "3-of-12.npz",
            ".3-of-12.safetensors.tmp",
            "3-12.safetensors",
        ] {
            assert_eq!(Shard::of_file(name), None, "{name}");
        }
    }

    #[test]
    fn a_rank_is_below_the_number_of_ranks() {
        assert_eq!(Shard::of(None, None).unwrap(), None);
        assert_eq!(Shard::of(Some("0"), Some("1")).unwrap(), None);
        let last = Shard { rank: 3, world: 4 };
        assert_eq!(Shard::of(Some("3"), Some("4")).unwrap(), Some(last));
        for (rank, world) in [
            (Some("4"), Some("4")),
            (Some("0"), None),
            (None, Some("2")),
            (Some("-1"), Some("2")),
            (Some("0"), Some("0")),
            (Some("one"), Some("2")),
        ] {
            let error = Shard::of(rank, world).unwrap_err().to_string();
            assert!(error.contains("RANK below WORLD_SIZE"), "{error}");
        }
    }
}
