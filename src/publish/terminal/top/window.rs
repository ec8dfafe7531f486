//! What was seen: a few snapshots that differences are told over, and the delay of a quarter of an
//! hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::publish::terminal::gpu::Rates;

use crate::model::{Cause, GpuUuid, GpuView, Moment, Reading, Snapshot};

/// Differences are told over so long: several drains of the utilization ring.
const SPAN: Duration = Duration::from_secs(20);
/// Snapshots at most.
const MOST_KEPT: usize = 24;
/// A drain comes at least this often: `--drain-period` allows no more.
const DRAIN_MAX: Duration = Duration::from_secs(8);
/// How far back delays are kept.
pub(super) const HISTORY: Duration = Duration::from_secs(900);
/// Points of them at most, of each GPU.
const MOST_POINTS: usize = 900;

/// Delay of some probes.
#[derive(Debug, Clone, Copy)]
struct Point {
    /// Since the point before.
    from: Duration,
    at: Duration,
    seconds: f64,
    probes: u64,
}

/// Delays of one GPU.
#[derive(Debug, Default)]
struct Track {
    points: VecDeque<Point>,
    /// When the histogram was last seen, its sum and its count.
    last: Option<(Duration, f64, u64)>,
}

/// The last snapshots and delays, bounded.
#[derive(Debug, Default)]
pub(super) struct Window {
    kept: VecDeque<Arc<Snapshot>>,
    tracks: BTreeMap<GpuUuid, Track>,
    /// When the first delay could have been seen.
    since: Duration,
}

impl Window {
    /// Takes in what the agent says now; whether it is another than before.
    pub(super) fn push(&mut self, snapshot: &Arc<Snapshot>) -> bool {
        let Moment { monotonic, .. } = snapshot.at;
        if self.kept.back().is_some_and(|last| last.at == snapshot.at) {
            return false;
        }
        if self.is_before_restart(snapshot) {
            *self = Self::default();
        }
        if self.kept.is_empty() {
            self.since = monotonic;
        }
        self.kept.push_back(Arc::clone(snapshot));
        // The first is at least as old as the span, so that the span is whole.
        while self.kept.len() > MOST_KEPT
            || self.kept.len() > 2 && snapshot.at.since(self.kept[1].at) >= SPAN
        {
            self.kept.pop_front();
        }
        let here = |uuid: &GpuUuid| snapshot.gpus.iter().any(|gpu| gpu.identity.uuid == *uuid);
        self.tracks.retain(|uuid, _| here(uuid));
        for gpu in &snapshot.gpus {
            let track = self.tracks.entry(gpu.identity.uuid.clone()).or_default();
            track.push(gpu, monotonic);
        }
        true
    }

    /// Whether all that was seen is of another run of the agent: time or a counter went back.
    fn is_before_restart(&self, now: &Snapshot) -> bool {
        let busy = |kept: &Arc<Snapshot>, uuid: &GpuUuid| view(kept, uuid)?.busy.copied();
        // A counter may have been unknown in between.
        let last_busy = |uuid: &GpuUuid| self.kept.iter().rev().find_map(|kept| busy(kept, uuid));
        let fell = |gpu: &GpuView| {
            let last = last_busy(&gpu.identity.uuid);
            match gpu.busy {
                Reading::Value(now) => Some(now) < last,
                Reading::Failed(Cause::NotYet) => last.is_some(),
                Reading::Unsupported | Reading::Failed(_) => false,
            }
        };
        let is_other =
            |last: &Arc<Snapshot>| now.at.monotonic < last.at.monotonic || now.node != last.node;
        self.kept.back().is_some_and(is_other) || now.gpus.iter().any(fell)
    }

    /// The newest.
    pub(super) fn latest(&self) -> Option<&Arc<Snapshot>> {
        self.kept.back()
    }

    /// What a GPU has done between its drains.
    pub(super) fn rates<'a>(&'a self, now: &'a GpuView) -> Option<Rates<'a>> {
        let (begun, ended) = self.drains(&now.identity.uuid)?;
        // Since the last drain its counters of time stand.
        Some(Rates::new(begun, ended.at, now))
    }

    /// The two that a GPU's differences of time are told between. Its time moves only when its ring
    /// is drained, so both stand on drains where there were two. Where drains have found nothing for
    /// a while, that too is a measurement.
    fn drains(&self, uuid: &GpuUuid) -> Option<(&Arc<Snapshot>, &Arc<Snapshot>)> {
        let (first, latest) = self.ends()?;
        let busy = |snapshot: &Snapshot| view(snapshot, uuid).map(|gpu| gpu.busy);
        let pairs = self.kept.iter().zip(self.kept.iter().skip(1));
        let mut drained = pairs.filter(|(one, next)| busy(one) != busy(next));
        let begun = drained.next().map(|(_, next)| next);
        let ended = drained.next_back().map(|(_, next)| next);
        Some(match (begun, ended) {
            (Some(begun), Some(ended)) if latest.at.since(ended.at) <= DRAIN_MAX => (begun, ended),
            (Some(begun), _) if latest.at.since(begun.at) > DRAIN_MAX => (begun, latest),
            _ => (first, latest),
        })
    }

    /// The oldest and the newest, where there are two.
    pub(super) fn ends(&self) -> Option<(&Arc<Snapshot>, &Arc<Snapshot>)> {
        let (first, latest) = (self.kept.front()?, self.kept.back()?);
        (self.kept.len() > 1).then_some((first, latest))
    }

    /// A GPU's mean delay of a probe over time, in seconds, in as many equal parts as asked, and the
    /// time that all of them are. A part without a probe has none.
    pub(super) fn delays(&self, uuid: &GpuUuid, parts: usize) -> (Vec<Option<f64>>, Duration) {
        let Some(latest) = self.latest() else {
            return (vec![None; parts], Duration::ZERO);
        };
        let end = latest.at.monotonic;
        let length = end.saturating_sub(self.since).min(HISTORY);
        let begin = end.saturating_sub(length);
        let mut sums = vec![(0.0, 0u64); parts];
        let part = |at: Duration| {
            let after = at.saturating_sub(begin).as_secs_f64();
            let part = (after / length.as_secs_f64() * parts as f64) as usize;
            part.min(parts.saturating_sub(1))
        };
        let tracks = self.tracks.get(uuid).into_iter();
        for point in tracks.flat_map(|track| &track.points) {
            // Its mean holds for all of its time.
            let covered = sums.get_mut(part(point.from)..=part(point.at));
            for (seconds, probes) in covered.into_iter().flatten() {
                *seconds += point.seconds;
                *probes += point.probes;
            }
        }
        let mean = |(seconds, probes): (f64, u64)| (probes > 0).then(|| seconds / probes as f64);
        (sums.into_iter().map(mean).collect(), length)
    }
}

impl Track {
    fn push(&mut self, gpu: &GpuView, at: Duration) {
        let now = gpu.canary.delays.value();
        let now = now.map(|delays| (at, delays.sum.0, delays.count()));
        if let (Some((_, sum, count)), Some((from, sum_before, count_before))) = (now, self.last) {
            let (seconds, probes) = (sum - sum_before, count.saturating_sub(count_before));
            if probes > 0 && seconds.is_finite() && seconds >= 0.0 {
                self.points.push_back(Point {
                    from,
                    at,
                    seconds,
                    probes,
                });
            } else if count == count_before && at.saturating_sub(from) <= DRAIN_MAX {
                // Probes are told with the drain that follows them: these may be yet to come.
                return;
            }
        }
        self.last = now.or(self.last);
        let old = at.saturating_sub(HISTORY);
        while self.points.len() > MOST_POINTS
            || self.points.front().is_some_and(|point| point.at < old)
        {
            self.points.pop_front();
        }
    }
}

/// The GPU in a snapshot.
pub(super) fn view<'a>(snapshot: &'a Snapshot, uuid: &GpuUuid) -> Option<&'a GpuView> {
    let mut gpus = snapshot.gpus.iter();
    gpus.find(|gpu| gpu.identity.uuid == *uuid)
}
