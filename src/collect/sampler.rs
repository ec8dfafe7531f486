//! The schedule of one GPU's reads: a passive state machine that a thread or a simulation polls.

use std::time::Duration;

use crate::collect::host::ProcessTable;
use crate::model::{Cause, GpuSource, GpuWindow, Moment};

/// How often what is read.
#[derive(Debug, Clone)]
pub struct SamplerSettings {
    /// Between readings of device memory.
    pub memory_period: Duration,
    /// Between process lists while memory stands still; also the length of a window.
    pub window: Duration,
    /// Between drains of the utilization ring.
    pub drain_period: Duration,
    /// Free memory under this share of the total counts as pressure.
    pub floor_ratio: f64,
}

impl Default for SamplerSettings {
    fn default() -> Self {
        Self {
            memory_period: Duration::from_millis(100),
            window: Duration::from_secs(1),
            drain_period: Duration::from_secs(3),
            floor_ratio: 0.05,
        }
    }
}

/// What a poll came to.
#[derive(Debug, Default)]
pub struct Poll {
    /// Set when a window closed.
    pub window: Option<GpuWindow>,
    /// The monotonic time at which the next read is due.
    pub next: Duration,
    /// Set where the source is dead and must be opened anew.
    pub dead: Option<Cause>,
}

/// Reads one GPU on schedule.
pub struct Sampler {
    source: Box<dyn GpuSource>,
    processes: ProcessTable,
    settings: SamplerSettings,
}

impl Sampler {
    /// A sampler that has read nothing; the ring's watermark starts at `now`.
    pub fn new(
        source: Box<dyn GpuSource>,
        processes: ProcessTable,
        settings: SamplerSettings,
        now: Moment,
    ) -> Self {
        let _ = now;
        Self {
            source,
            processes,
            settings,
        }
    }

    /// Makes the reads that are due at `now`.
    pub fn poll(&mut self, now: Moment) -> Poll {
        let _ = (&mut self.source, &mut self.processes, &self.settings, now);
        Poll::default()
    }
}
