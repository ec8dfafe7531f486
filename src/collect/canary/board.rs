//! What the canaries' thread hands to the agent's steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::pace::{Timed, Turn};
use super::{idle_health, nanos, worker};
use crate::model::{
    CanaryReason, CanaryState, CanaryWindow, Cause, GpuUuid, Moment, Probe, ProcessKey, Reading,
    SourceHealth,
};

/// Probes that are kept for a step that does not come: over half an hour of them.
const PROBES_MAX: usize = 32_768;
/// How long a worker that has ended is named: its samples stay in the driver's ring for some 14 s.
const GONE_FOR: Duration = Duration::from_secs(60);

/// One card's part: the thread's own, which each turn adds to the board's.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: CanaryState,
    pub(super) reason: CanaryReason,
    pub(super) probes: Vec<Timed>,
    missed: u32,
    /// Since when the oldest probe waits, on the raw clock.
    pub(super) waiting_since: Option<u64>,
    pub(super) probing: bool,
    pub(super) clock_error: Option<Duration>,
    /// With when they ended, on the raw clock.
    workers: Vec<(ProcessKey, Option<u64>)>,
}

impl Entry {
    pub(super) fn new() -> Self {
        Self {
            state: CanaryState::Off,
            reason: CanaryReason::NotYet,
            probes: Vec::new(),
            missed: 0,
            waiting_since: None,
            probing: false,
            clock_error: None,
            workers: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, turn: Turn) {
        self.missed = self.missed.saturating_add(turn.missed);
        self.probes.extend(turn.probes);
    }

    /// A worker is there.
    pub(super) fn began(&mut self, key: Option<ProcessKey>) {
        self.workers.extend(key.map(|key| (key, None)));
    }

    /// The worker that was there has ended.
    pub(super) fn ended(&mut self, now: u64) {
        for (_, ended) in &mut self.workers {
            ended.get_or_insert(now);
        }
        self.workers.retain(|(_, ended)| is_named(*ended, now));
        self.rest();
    }

    /// No worker probes, and none waits.
    pub(super) fn rest(&mut self) {
        (self.probing, self.clock_error, self.waiting_since) = (false, None, None);
    }

    /// A killed worker is still there: its memory is.
    pub(super) fn not_gone_yet(&mut self, now: u64) {
        for ended in self
            .workers
            .iter_mut()
            .filter_map(|(_, ended)| ended.as_mut())
        {
            *ended = now;
        }
    }

    /// Takes over what is new in the thread's own entry, at the end of a turn.
    pub(super) fn absorb(&mut self, fresh: &mut Self) {
        let room = PROBES_MAX.saturating_sub(self.probes.len());
        let over = fresh.probes.len().saturating_sub(room);
        self.missed = self
            .missed
            .saturating_add(std::mem::take(&mut fresh.missed))
            .saturating_add(over as u32);
        self.probes.extend(fresh.probes.drain(..).take(room));
        self.state = fresh.state;
        self.reason = fresh.reason;
        self.waiting_since = fresh.waiting_since;
        self.probing = fresh.probing;
        self.clock_error = fresh.clock_error;
        self.workers.clone_from(&fresh.workers);
    }
}

fn is_named(ended: Option<u64>, now: u64) -> bool {
    ended.is_none_or(|at| now.saturating_sub(at) < nanos(GONE_FOR))
}

/// All cards' parts, and how the workers are doing.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) cards: BTreeMap<GpuUuid, Entry>,
    pub(super) errors: BTreeMap<Arc<str>, u64>,
    /// Why the newest worker that failed did, by card, until one works there.
    pub(super) failing: BTreeMap<GpuUuid, (Cause, String)>,
    pub(super) last_success: Option<Duration>,
}

impl Board {
    /// Everything since the last call.
    pub(super) fn take(&mut self, now: Moment) -> (Vec<CanaryWindow>, SourceHealth) {
        let raw = worker::now();
        let mut tried = false;
        let windows = self
            .cards
            .iter_mut()
            .map(|(gpu, entry)| {
                if !entry.probes.is_empty() {
                    self.last_success = Some(now.unix);
                }
                tried |= entry.probing;
                CanaryWindow {
                    gpu: gpu.clone(),
                    state: entry.state,
                    reason: entry.reason,
                    probes: entry
                        .probes
                        .drain(..)
                        .map(|probe| probe.at(now.monotonic, raw))
                        .collect(),
                    missed: std::mem::take(&mut entry.missed),
                    waiting: entry.probing.then(|| {
                        let since = entry.waiting_since.unwrap_or(raw);
                        Duration::from_nanos(raw.saturating_sub(since))
                    }),
                    clock_error: entry.clock_error,
                    workers: entry
                        .workers
                        .iter()
                        .filter(|(_, ended)| is_named(*ended, raw))
                        .map(|(key, _)| *key)
                        .collect(),
                }
            })
            .collect();
        let mut health = idle_health();
        health.errors = self.errors.clone();
        health.last_success = self.last_success;
        if let Some((gpu, (cause, words))) = self.failing.iter().next() {
            health.up = Reading::Failed(*cause);
            health.detail = format!("{gpu}: {words}").into();
        } else if tried {
            health.up = Reading::Value(());
        }
        (windows, health)
    }
}

impl Timed {
    /// The same on the agent's clock, which reads `monotonic` when the raw one reads `raw`.
    fn at(self, monotonic: Duration, raw: u64) -> Probe {
        let age = Duration::from_nanos(raw.saturating_sub(self.launched));
        Probe {
            launched: monotonic.saturating_sub(age),
            delay: self.delay,
            started: self.started,
        }
    }
}
