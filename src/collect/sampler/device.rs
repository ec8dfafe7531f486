//! What the sampler keeps of one device while a window is open.

use std::sync::Arc;
use std::time::Duration;

use super::SamplerSettings;
use crate::model::{Bytes, Cause, DeviceWindow, GpuIdentity, Memory, Moment, ProcessList, Reading};

/// A list within this time before the last makes the device busy: then [`LIST_SPACING`] is kept.
const LIST_BURST: Duration = Duration::from_millis(900);
/// Between lists that moving memory asks for: two beats, less what they may jitter. Five a second.
const LIST_SPACING: Duration = Duration::from_millis(150);

/// One device in the window that is open.
pub(super) struct Device {
    pub(super) identity: Arc<GpuIdentity>,
    pub(super) memory: Reading<Memory>,
    pub(super) last_memory: Option<Moment>,
    pub(super) used_peak: Reading<Bytes>,
    pub(super) under_floor: Duration,
    pub(super) moved: bool,
    /// The last list, and whether one came shortly before it.
    pub(super) last_list: Option<Moment>,
    pub(super) in_burst: bool,
    pub(super) lists: Vec<ProcessList>,
    pub(super) lists_failed: Option<Cause>,
    pub(super) torn: u32,
}

impl Device {
    pub(super) fn new(identity: Arc<GpuIdentity>) -> Self {
        Self {
            identity,
            memory: Reading::Failed(Cause::NotYet),
            last_memory: None,
            used_peak: Reading::Failed(Cause::NotYet),
            under_floor: Duration::ZERO,
            moved: false,
            last_list: None,
            in_burst: false,
            lists: Vec::new(),
            lists_failed: None,
            torn: 0,
        }
    }

    /// Closes the window on this device.
    pub(super) fn take_window(&mut self) -> DeviceWindow {
        let peak = std::mem::replace(&mut self.used_peak, self.memory.map(|memory| memory.used));
        DeviceWindow {
            identity: Arc::clone(&self.identity),
            memory: self.memory,
            used_peak: peak,
            under_floor: std::mem::take(&mut self.under_floor),
            lists: std::mem::take(&mut self.lists),
            lists_failed: self.lists_failed.take(),
            torn: std::mem::take(&mut self.torn),
        }
    }

    /// Whether moving memory may ask for a list now: the first time at once, so that a short peak
    /// is seen; then five times a second.
    pub(super) fn may_list(&self, now: Moment) -> bool {
        let Some(last) = self.last_list else {
            return true;
        };
        !self.in_burst || now.since(last) >= LIST_SPACING
    }

    /// Notes that a list was read.
    pub(super) fn listed(&mut self, now: Moment) {
        if self.last_list != Some(now) {
            self.in_burst = self
                .last_list
                .is_some_and(|last| now.since(last) < LIST_BURST);
            self.last_list = Some(now);
        }
    }

    /// Takes in one reading of memory.
    pub(super) fn read_memory(
        &mut self,
        reading: Reading<Memory>,
        now: Moment,
        settings: &SamplerSettings,
    ) {
        if let Reading::Value(memory) = reading {
            if let Reading::Value(before) = self.memory {
                self.moved |= before.used != memory.used;
            }
            let peak = self.used_peak.copied().unwrap_or_default().max(memory.used);
            self.used_peak = Reading::Value(peak);
            if (memory.free.0 as f64) < memory.total.0 as f64 * settings.floor_ratio {
                // A thread that slept through readings counts no more than two of them.
                let gap = self
                    .last_memory
                    .map_or(settings.memory_period, |last| now.since(last));
                self.under_floor += gap.min(settings.memory_period * 2);
            }
        }
        self.last_memory = Some(now);
        self.memory = reading;
    }
}
