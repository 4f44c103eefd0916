//! The processes that were started together with this one, and share its command.

use std::time::Duration;

use meanflow_torch::{Team, World};

use crate::progress;

/// How long a process waits for another to come, or to do its part of work that is shared once.
pub(super) const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Which of several processes this is. Progress is shown by the first alone.
pub(super) fn world() -> anyhow::Result<World> {
    let world = World::from_env()?;
    if world.rank > 0 {
        progress::hide();
    }
    Ok(world)
}

/// The processes that share the work of this command, once all are here.
pub(super) fn team() -> anyhow::Result<Team> {
    Ok(world()?.team(PATIENCE)?)
}
