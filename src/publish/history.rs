//! The last 15 minutes of what the page shows, in a bounded ring: a pure state machine, fed by
//! each snapshot.
//!
//! **Points.** One each 5 s, 180 of them. The utilization ring is drained each 3 s, so that more
//! points would show the beat of the drains and not the load; and 180 are one for every two to
//! four pixels of a chart.
//!
//! **Bytes.** A series is two bytes a point (`level::Level`), 360 in all. A device has 7 and, once
//! its canary has probed, the 16 buckets of its delay histogram: 8 KiB. A container has 4: 1.4 KiB,
//! and its names. One GPU with 10 pods takes 27 KiB, 8 GPUs with 10 pods each 206 KiB, with 64 pods
//! each 0.9 MiB; what would go over [`MAX_BYTES`] has no history, and the page says so. The test
//! `what_a_history_takes_is_what_is_said` computes them.
//!
//! **Gaps.** What is not known leaves a gap: neither zero nor a line over it. So do silence of the
//! agent, a step of the wall clock, and the first point of a counter. What a counter gained over a
//! gap is in no point.

mod columns;
mod device;
mod level;
mod row;

use std::time::Duration;

use crate::model::{GpuUuid, Moment, Snapshot};

pub use device::{Delay, DeviceHistory};
pub use row::RowHistory;

use device::Device;

/// How far back it goes.
pub const SPAN: Duration = Duration::from_secs(15 * 60);
/// Between two points.
pub const PERIOD: Duration = Duration::from_secs(5);
/// Points of a series.
pub const POINTS: usize = 180;
/// What a history takes at most.
pub const MAX_BYTES: usize = 1 << 20;

/// A snapshot that comes so much before its time still makes a point: else every other point would
/// be one snapshot late.
const EARLY: Duration = Duration::from_millis(500);
/// After so long without a snapshot there is a gap.
const SILENCE: Duration = Duration::from_secs(12);
/// The wall clock has stepped if it and the monotonic one differ by more.
const CLOCK_STEP: Duration = Duration::from_secs(2);
/// Points over which a rate is taken for a chart: 15 s. A drain of the utilization ring covers 3 s
/// and 15 samples.
const SMOOTH: usize = 3;

/// A value at a time; `None` is a gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Before the newest snapshot.
    pub age: Duration,
    pub value: Option<f32>,
}

/// What was seen over the last 15 minutes.
#[derive(Debug, Default)]
pub struct History {
    /// When each point was made, as monotonic time; a ring as the columns are.
    times: Vec<Duration>,
    /// Points made so far.
    made: usize,
    last: Option<Moment>,
    devices: Vec<Device>,
    left_out: bool,
}

impl History {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a snapshot. They come in the order of time; an earlier one begins anew.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        let now = snapshot.at;
        let mut broken = false;
        if let Some(last) = self.last {
            if now.monotonic < last.monotonic {
                *self = Self::default();
            } else {
                let passed = now.since(last);
                let stepped = now.unix.abs_diff(last.unix + passed) > CLOCK_STEP;
                broken = stepped || passed > SILENCE;
            }
        }
        self.last = Some(now);
        if broken {
            self.advance(now.monotonic);
            for device in &mut self.devices {
                device.interrupt();
            }
        }
        for view in &snapshot.gpus {
            if let Some(device) = self.device_mut(&view.identity.uuid) {
                device.glance(view, now.monotonic);
            }
        }
        let due = self
            .newest()
            .is_none_or(|newest| broken || now.monotonic.saturating_sub(newest) + EARLY >= PERIOD);
        if due {
            self.point(snapshot);
        }
    }

    fn point(&mut self, snapshot: &Snapshot) {
        let slot = self.advance(snapshot.at.monotonic);
        let mut room = MAX_BYTES.saturating_sub(self.bytes());
        self.left_out = false;
        for view in &snapshot.gpus {
            let found = self.devices.iter().position(|d| d.is(&view.identity.uuid));
            let device = match found {
                Some(index) => &mut self.devices[index],
                None if room >= Device::BYTES => {
                    room -= Device::BYTES;
                    self.devices.push(Device::new(view, snapshot.at.monotonic));
                    let last = self.devices.len() - 1;
                    &mut self.devices[last]
                }
                None => {
                    self.left_out = true;
                    continue;
                }
            };
            self.left_out |= !device.point(view, slot, &mut room);
        }
    }

    /// Begins the next point, in which nothing is known yet, and forgets who is in none any more.
    fn advance(&mut self, at: Duration) -> usize {
        let slot = self.made % POINTS;
        if self.times.len() < POINTS {
            self.times.push(at);
        } else {
            self.times[slot] = at;
        }
        self.made += 1;
        for device in &mut self.devices {
            device.blank(slot);
        }
        self.devices.retain(Device::is_remembered);
        slot
    }

    fn newest(&self) -> Option<Duration> {
        let last = self.made.checked_sub(1)?;
        Some(self.times[last % POINTS])
    }

    fn device_mut(&mut self, uuid: &GpuUuid) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.is(uuid))
    }

    /// What is known of a device.
    pub fn device(&self, uuid: &GpuUuid) -> Option<DeviceHistory<'_>> {
        let device = self.devices.iter().find(|device| device.is(uuid))?;
        Some(DeviceHistory::new(self, device))
    }

    /// How long it has been looking, up to [`SPAN`].
    pub fn length(&self) -> Duration {
        let oldest = self.slots().next().map(|slot| self.times[slot]);
        match (oldest, self.last) {
            (Some(oldest), Some(last)) => last.monotonic.saturating_sub(oldest).min(SPAN),
            _ => Duration::ZERO,
        }
    }

    /// Whether something of the newest snapshot has no history because it would take too much.
    pub fn is_full(&self) -> bool {
        self.left_out
    }

    /// Bytes that it takes, names included.
    pub fn bytes(&self) -> usize {
        let devices = self.devices.iter().map(Device::bytes);
        size_of::<Self>() + POINTS * size_of::<Duration>() + devices.sum::<usize>()
    }

    /// Slots of the ring, the oldest first.
    fn slots(&self) -> impl DoubleEndedIterator<Item = usize> + Clone {
        (self.made.saturating_sub(POINTS)..self.made).map(|point| point % POINTS)
    }

    /// A series of which `value` tells the value in a slot, given the slots up to it, newest first.
    fn series(
        &self,
        value: impl Fn(&mut dyn Iterator<Item = usize>) -> Option<f32>,
    ) -> Vec<Sample> {
        let now = self.last.unwrap_or_default().monotonic;
        let slots: Vec<usize> = self.slots().collect();
        let samples = slots.iter().enumerate().map(|(index, &slot)| Sample {
            age: now.saturating_sub(self.times[slot]),
            value: value(&mut slots[..=index].iter().rev().copied()),
        });
        samples.filter(|sample| sample.age <= SPAN).collect()
    }
}
