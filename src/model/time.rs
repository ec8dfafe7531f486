//! Time is an argument: nobody below `commands` and the sampler threads asks a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One instant on both clocks. Intervals come from `monotonic` alone; `unix` may step.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// Since an arbitrary start, never backwards.
    pub monotonic: Duration,
    /// Since 1970-01-01 UTC, as the wall clock says.
    pub unix: Duration,
}

impl Moment {
    /// Time from `earlier` to here, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }

    /// This instant, `by` later on both clocks.
    pub fn later(self, by: Duration) -> Self {
        Self {
            monotonic: self.monotonic + by,
            unix: self.unix + by,
        }
    }
}
