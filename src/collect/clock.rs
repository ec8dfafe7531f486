//! The one place that asks the clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::Moment;

/// Both clocks of one process. Copies share the start of their monotonic time, so that moments
/// of different threads can be compared.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// This instant. A wall clock before 1970 reads as 1970.
    pub fn now(&self) -> Moment {
        Moment {
            monotonic: self.start.elapsed(),
            unix: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
