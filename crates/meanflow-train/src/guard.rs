//! What a run bears of steps that are not finite, and what it does beyond.

use serde::{Deserialize, Serialize};

/// Steps of the last 64 that may be left out: as many as may be in a row.
const MOST_SKIPPED: u32 = 10;
/// How often a run goes back to a checkpoint before it gives up.
const MOST_ROLLBACKS: u32 = 3;

/// Steps left out because something was not finite, and how often the run went back to a checkpoint because of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// The last 64 steps, the newest in the lowest bit: 1 for a step that was left out.
    pub recent: u64,
    /// Steps left out since the beginning.
    pub skipped: u64,
    /// How often the run went back to a checkpoint. After each, steps see other data.
    pub rollbacks: u32,
}

impl Guard {
    /// Counts a step. Returns how many of the last 64 were left out, where that is too many.
    pub(crate) fn count(&mut self, is_finite: bool) -> Option<u32> {
        self.recent = self.recent << 1 | u64::from(!is_finite);
        self.skipped += u64::from(!is_finite);
        let skipped = self.recent.count_ones();
        (skipped > MOST_SKIPPED).then_some(skipped)
    }

    /// Begins with other data, unless that was done too often.
    pub(crate) fn roll_back(&mut self) -> bool {
        if self.rollbacks >= MOST_ROLLBACKS {
            return false;
        }
        self.rollbacks += 1;
        self.recent = 0;
        true
    }

    /// How many steps ahead the data of a step is: more than any run has, so that no batch comes twice.
    pub(crate) fn data_offset(self) -> u64 {
        u64::from(self.rollbacks) << 32
    }

    /// Whether nothing happened.
    pub(crate) fn is_untouched(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_step_left_out_is_too_many_although_never_two_in_a_row() {
        let mut guard = Guard::default();
        let ended = (1..=100).find(|step| guard.count(step % 3 != 0).is_some());
        assert_eq!(ended, Some(33));
        assert_eq!(guard.skipped, 11);
    }

    #[test]
    fn one_in_a_hundred_is_borne_for_ever() {
        let mut guard = Guard::default();
        assert!((1..=10_000).all(|step| guard.count(step % 100 != 0).is_none()));
        assert_eq!(guard.skipped, 100);
    }

    #[test]
    fn a_run_goes_back_three_times() {
        let mut guard = Guard::default();
        guard.count(false);
        let times = (0..10).take_while(|_| guard.roll_back()).count();
        assert_eq!((times, guard.recent, guard.skipped), (3, 0, 1));
        assert_eq!(guard.data_offset(), 3 << 32);
    }
}
