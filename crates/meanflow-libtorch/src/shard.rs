//! The part of a piece of work that one of several processes does.

use std::ops::Range;

/// Rank `rank` of `world` processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shard {
    rank: u64,
    world: u64,
}

impl Shard {
    /// Everything.
    pub const ALL: Self = Self { rank: 0, world: 1 };

    /// Rank `rank` of `world`; `None` unless it is below.
    pub fn new(rank: u64, world: u64) -> Option<Self> {
        (rank < world).then_some(Self { rank, world })
    }

    /// Its number.
    pub fn rank(self) -> u64 {
        self.rank
    }

    /// How many ranks there are.
    pub fn world(self) -> u64 {
        self.world
    }

    /// Its samples of so many: consecutive ones, those of all ranks one after the other.
    pub fn samples(self, count: u64) -> Range<u64> {
        let start = |rank| (u128::from(rank) * u128::from(count) / u128::from(self.world)) as u64;
        start(self.rank)..start(self.rank + 1)
    }

    /// The name of its file.
    pub fn file(self) -> String {
        format!("{}-of-{}.safetensors", self.rank, self.world)
    }

    /// The shard whose file has this name.
    pub fn of_file(name: &str) -> Option<Self> {
        let (rank, world) = name.strip_suffix(".safetensors")?.split_once("-of-")?;
        Self::new(rank.parse().ok()?, world.parse().ok()?)
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
}
