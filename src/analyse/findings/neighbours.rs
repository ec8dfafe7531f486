//! Who makes the short requests of others wait, minute by minute.
//!
//! Of each container the ledger counts what it suffered of the others' work, with the probes that
//! say so, and what it inflicted. Over one minute: a pod is an aggressor where another one's short
//! requests waited a millisecond or more on the mean because of other pods, ten times the baseline
//! at least, and half or more of what those inflicted is put down to it. The pod's own other
//! containers' part of a wait is as their part of what all but the waiting one inflicted. Where no
//! probes came, nobody becomes one, and of who was one it cannot be told.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::code::NOISY_NEIGHBOUR;
use super::held::{Seen, Subject, Verdict, Words};
use super::words::{pod, time};
use crate::model::{
    ContainerView, DelayRemainder, GpuUuid, GpuView, Moment, PodName, Quantiles, Reading, Snapshot,
};

/// What is judged together. Shorter would tell the luck of few samples of the ring.
const WINDOW: Duration = Duration::from_secs(60);
/// A mean wait of so long is a finding; a request of a service makes several such waits.
const LONG: Duration = Duration::from_millis(1);
/// One of so long keeps one.
const STILL_LONG: Duration = Duration::from_micros(500);
/// And so many times the baseline.
const TIMES_BASELINE: u32 = 10;
/// What of the others' part must be put down to one pod.
const MOST: f64 = 0.5;
/// And what keeps one.
const STILL_MOST: f64 = 0.4;
/// A mean of fewer probes says nothing.
const LEAST_PROBES: f64 = 50.0;

/// Counters of one container on one device.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    exposed: f64,
    probes: f64,
    inflicted: f64,
}

impl Counted {
    fn of(row: &ContainerView) -> Option<Self> {
        let delay = row.delay.copied()?;
        Some(Self {
            exposed: delay.exposed.0,
            probes: delay.exposed_probes,
            inflicted: delay.inflicted.0,
        })
    }

    /// What was added since; a counter that went back is a new container's of the same name.
    fn since(self, before: Self) -> Self {
        if self.probes < before.probes || self.inflicted < before.inflicted {
            return self;
        }
        Self {
            exposed: self.exposed - before.exposed,
            probes: self.probes - before.probes,
            inflicted: self.inflicted - before.inflicted,
        }
    }
}

type Row = (Arc<str>, Arc<str>, Arc<str>);

fn key(row: &ContainerView) -> Row {
    let names = [&row.namespace, &row.pod, &row.container];
    names.map(Arc::clone).into()
}

/// One device's counters when the minute began, and what the minute before came to.
#[derive(Debug)]
struct Minute {
    began: Moment,
    /// `None`: not known.
    rows: HashMap<Row, Option<Counted>>,
    /// Put down to no pod.
    nobody: f64,
    verdicts: Vec<Judged>,
}

/// What is said of a pod for a minute.
#[derive(Debug)]
struct Judged {
    aggressor: Subject,
    verdict: Verdict,
    /// Whose wait says so.
    victim: Row,
}

/// All devices.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    gpus: BTreeMap<GpuUuid, Minute>,
}

impl Neighbours {
    pub(super) fn look(&mut self, snapshot: &Snapshot, seen: &mut Vec<Seen>) {
        let mut before = std::mem::take(&mut self.gpus);
        for gpu in &snapshot.gpus {
            let uuid = gpu.identity.uuid.clone();
            let minute = match before.remove(&uuid) {
                Some(minute) if snapshot.at.since(minute.began) < WINDOW => minute,
                last => {
                    let verdicts = last.map(|last| judged(gpu, &last)).unwrap_or_default();
                    begin(gpu, snapshot.at, verdicts)
                }
            };
            for judged in &minute.verdicts {
                seen.push(Seen {
                    code: &NOISY_NEIGHBOUR,
                    subject: judged.aggressor.clone(),
                    verdict: judged.verdict.clone(),
                });
            }
            self.gpus.insert(uuid, minute);
        }
    }
}

fn begin(gpu: &GpuView, now: Moment, verdicts: Vec<Judged>) -> Minute {
    let rows = gpu.containers.iter();
    Minute {
        began: now,
        rows: rows.map(|row| (key(row), Counted::of(row))).collect(),
        nobody: by_nobody(gpu),
        verdicts,
    }
}

/// Delay above the baseline that is put down to no pod.
fn by_nobody(gpu: &GpuView) -> f64 {
    let parts = gpu.canary.unattributed.iter();
    parts
        .filter(|(remainder, _)| **remainder != DelayRemainder::Baseline)
        .map(|(_, delay)| delay.0)
        .sum()
}

/// One pod's waits because of another.
struct Worst<'a> {
    victim: &'a ContainerView,
    wait: f64,
    part: f64,
    /// Long enough, and enough of it, for a finding to begin.
    plain: bool,
    victims: u32,
}

fn judged(gpu: &GpuView, minute: &Minute) -> Vec<Judged> {
    let mut rows: Vec<(&ContainerView, Counted)> = Vec::new();
    // Of what was there and not known when the minute began, no more than all it has is of this
    // minute.
    let mut unplaced = 0.0;
    for row in gpu.containers.iter().filter(|row| row.present) {
        let Some(now) = Counted::of(row) else {
            continue;
        };
        match minute.rows.get(&key(row)) {
            Some(Some(before)) => rows.push((row, now.since(*before))),
            Some(None) => unplaced += now.inflicted,
            None => rows.push((row, now)),
        }
    }
    let mut inflicted: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (row, counted) in &rows {
        *inflicted.entry((&row.namespace, &row.pod)).or_insert(0.0) += counted.inflicted;
    }
    let by_nobody = (by_nobody(gpu) - minute.nobody).max(0.0);
    let all = inflicted.values().sum::<f64>() + by_nobody + unplaced;
    let mut by_blame: Vec<_> = inflicted.iter().map(|(pod, by)| (*pod, *by)).collect();
    by_blame.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut aggressors: BTreeMap<(&str, &str), Worst<'_>> = BTreeMap::new();
    for (row, counted) in &rows {
        let own = (&*row.namespace, &*row.pod);
        // The one of the others that inflicted most.
        let Some((aggressor, by)) = by_blame.iter().take(2).find(|(pod, _)| *pod != own) else {
            continue;
        };
        let others = all - inflicted.get(&own).copied().unwrap_or(0.0);
        let part = by / others;
        let wait = counted.exposed / counted.probes * others / (all - counted.inflicted);
        let long = still_long(gpu.canary.baseline).as_secs_f64();
        if counted.probes < LEAST_PROBES || part.is_nan() || part < STILL_MOST || wait < long {
            continue;
        }
        let this = Worst {
            victim: row,
            wait,
            part,
            plain: part >= MOST && wait >= LONG.as_secs_f64(),
            victims: 1,
        };
        match aggressors.entry(*aggressor) {
            Entry::Vacant(place) => {
                place.insert(this);
            }
            Entry::Occupied(mut place) => {
                let worst = place.get_mut();
                let victims = worst.victims + 1;
                if (this.plain, this.wait) > (worst.plain, worst.wait) {
                    *worst = this;
                }
                worst.victims = victims;
            }
        }
    }
    let mut judged: Vec<Judged> = aggressors
        .into_iter()
        .map(|((namespace, pod), worst)| Judged {
            aggressor: Subject::Pod(PodName {
                namespace: namespace.into(),
                pod: pod.into(),
            }),
            verdict: verdict(gpu, &format!("{namespace}/{pod}"), &worst),
            victim: key(worst.victim),
        })
        .collect();
    for last in &minute.verdicts {
        let again = judged.iter().any(|this| this.aggressor == last.aggressor);
        if !again && is_untold(gpu, &rows, &last.victim) {
            judged.push(Judged {
                aggressor: last.aggressor.clone(),
                verdict: Verdict::Unknown,
                victim: last.victim.clone(),
            });
        }
    }
    judged
}

/// Whether a container is there of whose waits too little is known.
fn is_untold(gpu: &GpuView, rows: &[(&ContainerView, Counted)], victim: &Row) -> bool {
    let is_it = |row: &ContainerView| row.present && key(row) == *victim;
    match rows.iter().find(|(row, _)| is_it(row)) {
        Some((_, counted)) => counted.probes < LEAST_PROBES,
        None => gpu.containers.iter().any(is_it),
    }
}

fn still_long(baseline: Reading<Quantiles>) -> Duration {
    let baseline = baseline.value().map_or(Duration::ZERO, |known| known.p50);
    STILL_LONG.max(baseline.saturating_mul(TIMES_BASELINE))
}

fn verdict(gpu: &GpuView, aggressor: &str, worst: &Worst<'_>) -> Verdict {
    let wait = Duration::from_secs_f64(worst.wait);
    let baseline = match gpu.canary.baseline {
        Reading::Value(known) => format!("the baseline is {}", time(known.p50)),
        Reading::Unsupported | Reading::Failed(_) => "the baseline is not known yet".to_owned(),
    };
    let more = match worst.victims {
        1 => String::new(),
        more => format!("; it makes {} more wait", more - 1),
    };
    let words = Words::new(
        format_args!(
            "a short request of {} waits {} for others on {}, {baseline}; {:.0} % of what others \
             inflict there is put down to {aggressor}{more}",
            pod(worst.victim),
            time(wait),
            gpu.identity.uuid,
            100.0 * worst.part,
        ),
        "keep the two apart: latency on a node that does not share, or on a MIG instance; else \
         shorter kernels and fewer processes in the aggressor",
    );
    match worst.plain {
        true => Verdict::Holds(words),
        false => Verdict::Nearly(words),
    }
}
