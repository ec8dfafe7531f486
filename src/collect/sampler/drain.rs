//! From the driver's utilization ring to GPU time.
//!
//! The ring holds one sample each ~200 ms; each sample names one process, the winner, and the
//! card's busy percentage. A read gives, per process, the mean over the samples of the read *since
//! the process has its context* of the values it won, rounded up to a whole percent, and beside it
//! the card's own samples. (Measured on an H200, driver 580.159.04: 15 samples at 98 % give 7 for
//! one won, 13 or 14 for two, 20 for three, 46 for seven; a process whose context is four samples
//! old and that won 25, 95 and 95 % of them has 54.) So the sum of the values a process won lies in
//! `(n (v - 1), n v]`, which names the number of samples won whenever the card was busy, and the
//! card's own sum closes what rounding left open: every sample has one winner.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Drain, DrainRow, GpuSeconds, HostPid, Moment, ProcessFacts, Reading, Refusal, RingRead,
    RingRow, RingSample,
};

/// Spacing of the ring before two samples have been seen.
const NOMINAL_SPACING: Duration = Duration::from_millis(200);
/// A context is this much older than the first list that shows it, at the most as a rule: lists
/// follow memory, which is read each 100 ms.
const UNSEEN: Duration = Duration::from_millis(250);

/// A process that was in a list since the last drain.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    facts: Reading<Arc<ProcessFacts>>,
    first_seen: Moment,
    last_seen: Moment,
    /// When the first list came without it; `None` while it lives.
    gone: Option<Moment>,
    /// True where one PID stood for two processes since the last drain.
    ambiguous: bool,
    /// Had a row in the last drain.
    had_row: bool,
}

/// What one card's drains need to know of its lists, and where the last drain ended.
#[derive(Debug)]
pub(super) struct Ring {
    watermark: Duration,
    last_drain: Moment,
    spacing: Duration,
    listed: HashMap<HostPid, Listed>,
    /// Sum of sample values of the last drain that no row claimed: of a process, it may be, whose
    /// end the list did not show yet.
    carried: f64,
}

impl Ring {
    /// Starts at `watermark`, the time of the newest sample that is not to be counted.
    pub(super) fn new(watermark: Duration, now: Moment) -> Self {
        Self {
            watermark,
            last_drain: now,
            spacing: NOMINAL_SPACING,
            listed: HashMap::new(),
            carried: 0.0,
        }
    }

    /// The time after which samples are wanted.
    pub(super) fn watermark(&self) -> Duration {
        self.watermark
    }

    /// Monotonic and wall time of the last drain.
    pub(super) fn last_drain(&self) -> Moment {
        self.last_drain
    }

    /// Notes a process of a list. Returns nothing; PIDs are few (a card's contexts).
    pub(super) fn note(&mut self, pid: HostPid, facts: &Reading<Arc<ProcessFacts>>, at: Moment) {
        if pid.0 == 0 {
            return;
        }
        let listed = self.listed.entry(pid).or_insert_with(|| Listed {
            facts: facts.clone(),
            first_seen: at,
            last_seen: at,
            gone: None,
            ambiguous: false,
            had_row: false,
        });
        if let (Some(old), Some(new)) = (listed.facts.value(), facts.value())
            && old.key != new.key
        {
            listed.ambiguous = true;
        }
        if facts.value().is_some() {
            listed.facts = facts.clone();
        }
        listed.last_seen = at;
        listed.gone = None;
    }

    /// Marks every process that was not noted at `at` as ended; true where one ended just now.
    pub(super) fn close_list(&mut self, at: Moment) -> bool {
        let mut ended = false;
        for listed in self.listed.values_mut() {
            if listed.gone.is_none() && listed.last_seen != at {
                listed.gone = Some(at);
                ended = true;
            }
        }
        ended
    }

    /// Turns a read into GPU time and moves the watermark to its newest sample.
    pub(super) fn drain(&mut self, read: &RingRead, now: Moment) -> Drain {
        let samples: Vec<_> = read
            .samples
            .iter()
            .filter(|sample| sample.at > self.watermark && sample.percent <= 100)
            .collect();
        self.learn_spacing(&samples.iter().map(|sample| sample.at).collect::<Vec<_>>());
        let newest = samples.iter().map(|sample| sample.at).max();
        let total: f64 = samples.iter().map(|sample| f64::from(sample.percent)).sum();
        let busy_samples = samples.iter().filter(|sample| sample.percent > 0).count() as u32;

        let mut refused = BTreeMap::new();
        let mut believed = Vec::new();
        // Rows nobody is charged for still claim their samples.
        let mut claimed_by_refused = 0.0;
        let n = match samples.len() as u32 {
            0 => self.samples_without_ring(now),
            n => n,
        };
        let mean = if busy_samples > 0 {
            total / f64::from(busy_samples)
        } else {
            100.0
        };
        for row in &read.rows {
            match self.refusal(row, newest) {
                Some(refusal) => {
                    *refused.entry(refusal).or_insert(0) += 1;
                    if refusal == Refusal::UnknownPid {
                        claimed_by_refused += Estimate::of(row.sm_percent, (n, n), mean).sum;
                    }
                }
                None if row.sm_percent > 0 => {
                    let averaged_over = self.averaged_over(row.pid, &samples, n);
                    believed.push((row.pid, Estimate::of(row.sm_percent, averaged_over, mean)));
                }
                None => {}
            }
        }

        let ended: Vec<HostPid> = self
            .listed
            .iter()
            .filter(|(pid, listed)| {
                listed.gone.is_some()
                    && !listed.ambiguous
                    && !believed.iter().any(|(row, _)| row == *pid)
            })
            .map(|(pid, _)| *pid)
            .collect();
        let has_ring = newest.is_some();
        let claimed: f64 = believed
            .iter()
            .map(|(_, estimate)| estimate.sum)
            .sum::<f64>()
            + claimed_by_refused;
        let mut orphan = if has_ring { total - claimed } else { 0.0 };
        if has_ring && ended.is_empty() && refused.is_empty() {
            orphan -= close(&mut believed, orphan);
        }
        let carried = std::mem::take(&mut self.carried);

        let spacing = self.spacing_of(&samples, newest).as_secs_f64();
        let row =
            |pid: HostPid, sum: f64, inferred: bool, listed: &HashMap<HostPid, Listed>| DrainRow {
                pid,
                facts: listed
                    .get(&pid)
                    .map_or(Reading::Unsupported, |listed| listed.facts.clone()),
                time: GpuSeconds(sum / 100.0 * spacing),
                samples: ((sum / mean).round() as u32).clamp(1, n.max(1)),
                inferred,
            };
        let mut rows: Vec<DrainRow> = believed
            .iter()
            .map(|(pid, estimate)| row(*pid, estimate.sum, false, &self.listed))
            .collect();
        // The driver forgets the rows of a process that has exited. Where exactly one did, or all
        // that did were of one container, what no row claims is its own, up to the time it can
        // have lived; half a sample is noise.
        if let Some(pid) = self.one_of(&ended)
            && let Some(listed) = self.listed.get(&pid)
        {
            // With a row in the last drain it had not exited then: what was left is another's.
            let carried = if listed.had_row { 0.0 } else { carried };
            let lived = listed.gone.unwrap_or(now).since(self.last_drain);
            let most = (lived.as_secs_f64() / spacing + 1.0) * 100.0 + carried;
            let sum = (orphan + carried).min(most);
            if sum >= mean / 2.0 {
                rows.push(row(pid, sum, true, &self.listed));
            }
        } else if ended.is_empty() && refused.is_empty() && orphan >= mean / 2.0 {
            self.carried = orphan;
        }
        for (pid, listed) in &mut self.listed {
            listed.had_row = rows.iter().any(|row| row.pid == *pid);
        }
        rows.sort_by_key(|row| row.pid);

        let drain = Drain {
            covered: Duration::from_secs_f64(spacing * f64::from(n)),
            samples: n,
            busy_samples: if has_ring {
                busy_samples
            } else {
                n.min(rows.iter().map(|row| row.samples).sum())
            },
            busy: if has_ring {
                GpuSeconds(total / 100.0 * spacing)
            } else {
                GpuSeconds(rows.iter().map(|row| row.time.0).sum())
            },
            rows,
            refused,
        };
        let newest_row = read
            .rows
            .iter()
            .filter(|row| self.refusal(row, newest).is_none())
            .map(|row| row.last_won)
            .max();
        self.watermark = newest
            .or(newest_row)
            .unwrap_or(self.watermark)
            .max(self.watermark);
        self.settle(now);
        drain
    }

    fn settle(&mut self, now: Moment) {
        self.last_drain = now;
        self.listed.retain(|_, listed| {
            listed.ambiguous = false;
            listed.gone.is_none()
        });
    }

    fn refusal(&self, row: &RingRow, newest: Option<Duration>) -> Option<Refusal> {
        if row.sm_percent > 100 {
            return Some(Refusal::OutOfRange);
        }
        let too_new = newest.is_some_and(|newest| row.last_won > newest + self.spacing);
        if row.last_won <= self.watermark || too_new {
            return Some(Refusal::OutOfTime);
        }
        match self.listed.get(&row.pid) {
            Some(listed) if !listed.ambiguous => None,
            _ => Some(Refusal::UnknownPid),
        }
    }

    /// The process that stands for these: the only one, or the last to go of one container.
    fn one_of(&self, ended: &[HostPid]) -> Option<HostPid> {
        let cgroup = |pid: &HostPid| {
            let cgroup = &self.listed.get(pid)?.facts.value()?.cgroup;
            cgroup.container_id.is_some().then_some(cgroup)
        };
        match ended {
            [only] => Some(*only),
            [first, others @ ..] => {
                let container = cgroup(first)?;
                let same = others.iter().all(|pid| cgroup(pid) == Some(container));
                let last = ended
                    .iter()
                    .max_by_key(|pid| self.listed.get(pid).map(|l| l.gone));
                last.copied().filter(|_| same)
            }
            [] => None,
        }
    }

    /// How many samples a row is the mean of, at least and at most: those since its process has its
    /// context, of which the first list that shows it is not quite the beginning.
    fn averaged_over(&self, pid: HostPid, samples: &[&RingSample], n: u32) -> (u32, u32) {
        let first_seen = match self.listed.get(&pid) {
            Some(listed) if listed.first_seen > self.last_drain => listed.first_seen.unix,
            _ => return (n, n),
        };
        let since =
            |time: Duration| samples.iter().filter(|sample| sample.at > time).count() as u32;
        let (least, most) = (since(first_seen), since(first_seen.saturating_sub(UNSEEN)));
        (least.clamp(1, n), most.clamp(1, n))
    }

    /// Cards that give no samples of their own: as many as the time since the last drain holds.
    fn samples_without_ring(&self, now: Moment) -> u32 {
        (now.since(self.last_drain).as_secs_f64() / self.spacing.as_secs_f64())
            .round()
            .max(1.0) as u32
    }

    /// The mean spacing of a read, exact over many of them since each begins where the last ended;
    /// the median where a gap or a stepped clock is in it.
    fn spacing_of(&self, samples: &[&RingSample], newest: Option<Duration>) -> Duration {
        let Some(newest) = newest else {
            return self.spacing;
        };
        let mean = newest.saturating_sub(self.watermark) / samples.len().max(1) as u32;
        if mean.abs_diff(self.spacing) <= self.spacing / 10 {
            mean
        } else {
            self.spacing
        }
    }

    /// The median gap: one stepped clock or missing sample does not move it.
    fn learn_spacing(&mut self, times: &[Duration]) {
        let mut gaps: Vec<Duration> = times
            .windows(2)
            .filter_map(|pair| pair[1].checked_sub(pair[0]))
            .collect();
        if gaps.len() < 3 {
            return;
        }
        gaps.sort_unstable();
        let median = gaps[gaps.len() / 2];
        if (Duration::from_millis(10)..=Duration::from_secs(2)).contains(&median) {
            self.spacing = median;
        }
    }
}

/// The sum of the sample values that a process won, in percent, and the bounds it must keep.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    low: f64,
    sum: f64,
    high: f64,
}

impl Estimate {
    /// Of a row that says `percent` of so many samples (least, most), where busy samples have
    /// `mean` percent.
    fn of(percent: u32, (least, most): (u32, u32), mean: f64) -> Self {
        let percent = f64::from(percent);
        let low = (percent - 1.0).max(0.0) * f64::from(least);
        let high = percent * f64::from(most);
        let middle = (low + high) / 2.0;
        let whole = (middle / mean).round().max(1.0) * mean;
        Self {
            low,
            // A whole number of mean samples, where the bounds allow one.
            sum: if (low..=high).contains(&whole) {
                whole
            } else {
                middle
            },
            high,
        }
    }
}

/// Moves the estimates within their bounds so that they add up to what the card says; by how
/// much. Where the bounds do not allow that, somebody unseen had the time, and nobody is moved.
fn close(rows: &mut [(HostPid, Estimate)], residual: f64) -> f64 {
    let room = |estimate: &Estimate| {
        if residual > 0.0 {
            estimate.high - estimate.sum
        } else {
            estimate.sum - estimate.low
        }
    };
    let all: f64 = rows.iter().map(|(_, estimate)| room(estimate)).sum();
    if all <= 0.0 || residual.abs() > all {
        return 0.0;
    }
    let part = residual / all;
    for (_, estimate) in rows {
        estimate.sum += part * room(estimate);
    }
    residual
}

#[cfg(test)]
mod tests;
