//! One device's part of the history.

use std::time::Duration;

use super::columns::Columns;
use super::row::{Row, RowHistory};
use super::{History, POINTS, SMOOTH, Sample};
use crate::model::{ContainerView, DELAY_BOUNDS, GpuUuid, GpuView};

const USED: usize = 0;
const PEAK: usize = 1;
const FREE: usize = 2;
const STALL: usize = 3;
const DELAY: usize = 4;
const BUSY: usize = 5;
/// How much time the drains of the utilization ring covered: what GPU time is divided by.
const DRAINED: usize = 6;
const SERIES: usize = 7;

const BUCKETS: usize = DELAY_BOUNDS.len() + 1;

/// A card that is idle drains nothing that would show. After so long without a change its drains
/// are taken to have found nothing.
const QUIET: Duration = Duration::from_secs(6);

/// Counters at the last point.
#[derive(Debug)]
struct Before {
    delays: Option<([u64; BUCKETS], f64)>,
    busy: Option<f64>,
    drained: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Device {
    uuid: GpuUuid,
    series: Columns<SERIES>,
    /// Probes by bucket, since its canary first probed.
    buckets: Option<Columns<BUCKETS>>,
    before: Option<Before>,
    /// Up to when the ring was drained, as far as snapshots tell: not before one drain was seen, as
    /// that holds time from before the device was looked at.
    drained: Option<Duration>,
    /// Busy seconds in the last snapshot, and since when there are any.
    busy: Option<f64>,
    told_since: Duration,
    /// Longest since the last point.
    stall: Option<f64>,
    rows: Vec<Row>,
    /// Points since it was last seen.
    absent: usize,
}

impl Device {
    /// Of one without rows.
    pub(super) const BYTES: usize = size_of::<Self>() + Columns::<SERIES>::BYTES;

    pub(super) fn new(view: &GpuView, now: Duration) -> Self {
        let mut device = Self {
            uuid: view.identity.uuid.clone(),
            series: Columns::new(),
            buckets: None,
            before: None,
            drained: None,
            busy: None,
            told_since: now,
            stall: None,
            rows: Vec::new(),
            absent: 0,
        };
        device.glance(view, now);
        device
    }

    pub(super) fn is(&self, uuid: &GpuUuid) -> bool {
        self.uuid == *uuid
    }

    pub(super) fn is_remembered(&self) -> bool {
        self.absent < POINTS
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.iter().map(Row::bytes);
        let buckets = self
            .buckets
            .as_ref()
            .map_or(0, |_| Columns::<BUCKETS>::BYTES);
        Self::BYTES + buckets + rows.sum::<usize>()
    }

    /// What comes next is not what comes after.
    pub(super) fn interrupt(&mut self) {
        self.before = None;
        self.busy = None;
        for row in &mut self.rows {
            row.interrupt();
        }
    }

    pub(super) fn blank(&mut self, slot: usize) {
        self.absent += 1;
        self.series.blank(slot);
        if let Some(buckets) = &mut self.buckets {
            buckets.blank(slot);
        }
        for row in &mut self.rows {
            row.blank(slot);
        }
        self.rows.retain(Row::is_remembered);
    }

    /// What is looked at in each snapshot: when the ring was drained, and stalls between points.
    pub(super) fn glance(&mut self, view: &GpuView, now: Duration) {
        let busy = view.busy.value().map(|busy| busy.0);
        if self.busy.is_none() || busy.is_none() {
            (self.drained, self.told_since) = (None, now);
        } else if busy != self.busy {
            self.drained = Some(now);
        }
        self.busy = busy;
        let quiet = now.saturating_sub(QUIET);
        if busy.is_some() && quiet >= self.told_since {
            self.drained = self.drained.max(Some(quiet));
        }
        let stall = view.canary.stall.value().map(Duration::as_secs_f64);
        self.stall = self.stall.into_iter().chain(stall).reduce(f64::max);
    }

    /// Makes a point; false where there was no room for all rows.
    pub(super) fn point(&mut self, view: &GpuView, slot: usize, room: &mut usize) -> bool {
        // What was away for a while gained nothing that this point could tell.
        if self.absent > 1 {
            self.interrupt();
        }
        self.absent = 0;
        let delays = view.canary.delays.value();
        let now = Before {
            delays: delays.map(|delays| (delays.counts, delays.sum.0)),
            busy: view.busy.value().map(|busy| busy.0),
            drained: self.drained,
        };
        let memory = view.memory.value();
        let used_peak = view.used_peak.value();
        self.series.set(USED, slot, memory.map(|m| m.used.0 as f64));
        self.series.set(FREE, slot, memory.map(|m| m.free.0 as f64));
        self.series
            .set(PEAK, slot, used_peak.map(|peak| peak.0 as f64));
        self.series.set(STALL, slot, self.stall.take());
        let before = self.before.as_ref();
        let gained = |of: fn(&Before) -> Option<f64>| gain(before.and_then(of), of(&now));
        self.series.set(BUSY, slot, gained(|it| it.busy));
        self.series
            .set(DRAINED, slot, gained(|it| Some(it.drained?.as_secs_f64())));
        self.series
            .set(DELAY, slot, gained(|it| it.delays.map(|(_, sum)| sum)));
        let earlier = before.and_then(|before| before.delays);
        self.probes(slot, earlier, now.delays, room);
        self.before = Some(now);
        self.rows(&view.containers, slot, room)
    }

    fn probes(
        &mut self,
        slot: usize,
        before: Option<([u64; BUCKETS], f64)>,
        now: Option<([u64; BUCKETS], f64)>,
        room: &mut usize,
    ) {
        let (Some((before, _)), Some((now, _))) = (before, now) else {
            return;
        };
        if self.buckets.is_none() {
            let Some(left) = room.checked_sub(Columns::<BUCKETS>::BYTES) else {
                return;
            };
            *room = left;
        }
        let buckets = self.buckets.get_or_insert_with(Columns::new);
        for (bucket, (before, now)) in before.into_iter().zip(now).enumerate() {
            let probes = now.checked_sub(before).map(|probes| probes as f64);
            buckets.set(bucket, slot, probes);
        }
    }

    fn rows(&mut self, views: &[ContainerView], slot: usize, room: &mut usize) -> bool {
        let mut all = true;
        for view in views {
            let found = self.rows.iter().position(|row| row.is(view));
            let index = match found {
                Some(index) => index,
                // Of one that is gone already there is nothing to come.
                None if !view.present => continue,
                None => {
                    let row = Row::new(view);
                    let Some(left) = room.checked_sub(row.bytes()) else {
                        all = false;
                        continue;
                    };
                    *room = left;
                    self.rows.push(row);
                    self.rows.len() - 1
                }
            };
            self.rows[index].point(view, slot);
        }
        all
    }
}

/// What a counter gained; nothing where it was not known, or fell.
pub(super) fn gain(before: Option<f64>, now: Option<f64>) -> Option<f64> {
    let gained = now? - before?;
    (gained >= 0.0).then_some(gained)
}

/// Probes of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delay {
    /// In seconds.
    pub mean: f64,
    /// In seconds, by the bounds of [`DELAY_BOUNDS`], even within a bucket.
    pub p99: f64,
    pub probes: f64,
}

/// What is known of one device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceHistory<'a> {
    history: &'a History,
    device: &'a Device,
}

impl<'a> DeviceHistory<'a> {
    pub(super) fn new(history: &'a History, device: &'a Device) -> Self {
        Self { history, device }
    }

    /// Used memory in bytes.
    pub fn used(&self) -> Vec<Sample> {
        self.level(USED)
    }

    /// Highest used memory of the minute before, in bytes.
    pub fn peak(&self) -> Vec<Sample> {
        self.level(PEAK)
    }

    /// Free memory in bytes.
    pub fn free(&self) -> Vec<Sample> {
        self.level(FREE)
    }

    /// Longest wait of a probe that had not started, in seconds.
    pub fn stall(&self) -> Vec<Sample> {
        self.level(STALL)
    }

    /// Share of the GPU's time in use, over 15 s.
    pub fn busy(&self) -> Vec<Sample> {
        self.history
            .series(|slots| self.share(&self.device.series, BUSY, slots, SMOOTH))
    }

    /// Mean delay of probes in seconds, over 15 s.
    pub fn delay_mean(&self) -> Vec<Sample> {
        self.delays(|delay| delay.mean)
    }

    /// 99th percentile of the delay of probes in seconds, over 15 s: some 150 probes.
    pub fn delay_p99(&self) -> Vec<Sample> {
        self.delays(|delay| delay.p99)
    }

    /// Probes over the whole history.
    pub fn delay(&self) -> Option<Delay> {
        self.probes(&mut self.history.slots().rev(), POINTS)
    }

    /// What is known of a container on it.
    pub fn row(&self, view: &ContainerView) -> Option<RowHistory<'a>> {
        let row = self.device.rows.iter().find(|row| row.is(view))?;
        Some(RowHistory::new(*self, row))
    }

    fn level(&self, column: usize) -> Vec<Sample> {
        let value = |slot| self.device.series.get(column, slot);
        self.history.series(|slots| value(slots.next()?))
    }

    fn delays(&self, of: fn(Delay) -> f64) -> Vec<Sample> {
        self.history
            .series(|slots| Some(of(self.probes(slots, SMOOTH)?) as f32))
    }

    /// What a column of GPU seconds has, over the time drained in the newest `most` of the slots.
    /// Nothing where the newest of them is not known.
    pub(super) fn share<const N: usize>(
        &self,
        columns: &Columns<N>,
        column: usize,
        slots: &mut dyn Iterator<Item = usize>,
        most: usize,
    ) -> Option<f32> {
        let drained = |slot| self.device.series.get(DRAINED, slot);
        ratio(slots, most, |slot| {
            Some((columns.get(column, slot)?, drained(slot)?))
        })
    }

    /// What a column of delay has, over the probes made.
    pub(super) fn per_probe<const N: usize>(
        &self,
        columns: &Columns<N>,
        column: usize,
        slots: &mut dyn Iterator<Item = usize>,
        most: usize,
    ) -> Option<f32> {
        ratio(slots, most, |slot| {
            let counts = self.counts(slot)?;
            Some((columns.get(column, slot)?, counts.iter().sum()))
        })
    }

    fn counts(&self, slot: usize) -> Option<[f32; BUCKETS]> {
        let buckets = self.device.buckets.as_ref()?;
        let mut counts = [0.0; BUCKETS];
        for (bucket, count) in counts.iter_mut().enumerate() {
            *count = buckets.get(bucket, slot)?;
        }
        Some(counts)
    }

    fn probes(&self, slots: &mut dyn Iterator<Item = usize>, most: usize) -> Option<Delay> {
        let (mut sum, mut counts) = (0.0, [0.0; BUCKETS]);
        for (index, slot) in slots.take(most).enumerate() {
            let found = self.counts(slot).zip(self.device.series.get(DELAY, slot));
            let Some((more, delay)) = found else {
                // A gap is a gap, however much was seen before it.
                if index == 0 && most < POINTS {
                    return None;
                }
                continue;
            };
            sum += f64::from(delay);
            for (count, more) in counts.iter_mut().zip(more) {
                *count += f64::from(more);
            }
        }
        let probes: f64 = counts.iter().sum();
        (probes >= 1.0).then(|| Delay {
            mean: sum / probes,
            p99: quantile(&counts, probes, 0.99),
            probes,
        })
    }

    pub(super) fn history(&self) -> &'a History {
        self.history
    }
}

/// A quantile by buckets, even within each; those over all bounds count as the last bound.
fn quantile(counts: &[f64; BUCKETS], probes: f64, quantile: f64) -> f64 {
    let mut rank = probes * quantile;
    let mut low = 0.0;
    for (count, high) in counts.iter().zip(DELAY_BOUNDS) {
        if rank <= *count && *count > 0.0 {
            return low + (high - low) * rank / count;
        }
        rank -= count;
        low = high;
    }
    low
}

/// Sum over sum of what is known in the newest `most` slots; nothing where the newest is not known.
fn ratio(
    slots: &mut dyn Iterator<Item = usize>,
    most: usize,
    of: impl Fn(usize) -> Option<(f32, f32)>,
) -> Option<f32> {
    let (mut above, mut below) = (0.0, 0.0);
    for (index, slot) in slots.take(most).enumerate() {
        match of(slot) {
            Some((more, over)) => {
                above += more;
                below += over;
            }
            None if index == 0 && most < POINTS => return None,
            None => {}
        }
    }
    (below > 0.0).then(|| above / below)
}
