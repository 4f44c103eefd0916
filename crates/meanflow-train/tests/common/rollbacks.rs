//! How often a run went back.

use meanflow_train::{Event, Observer};

/// From and to which step a run went back, and how often.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rollbacks(pub(crate) Vec<(u64, u64, u32)>);

impl Observer for Rollbacks {
    fn notice(&mut self, event: Event<'_>) {
        if let Event::RolledBack {
            from,
            to,
            rollbacks,
            ..
        } = event
        {
            self.0.push((from, to, rollbacks));
        }
    }
}
