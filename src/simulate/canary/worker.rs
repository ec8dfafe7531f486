//! One device's canary: its worker's life and its probes.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::SmallRng;

use crate::model::{
    CanaryReason, CanaryState, CanaryWindow, GpuUuid, HostPid, Probe, ProcessKey, StartTime,
};
use crate::simulate::device::{Device, Process};
use crate::simulate::plan::{NEVER, Nanos, exponential, nanos};
use crate::simulate::truth::Records;

/// From the start of a worker to its context, and from there to the first probe that is told.
const START: f64 = 1.0;
const CALIBRATION: f64 = 1.0;
/// A probe on an idle card (measured: 18 us on the mean, 39 us at the 99th percentile).
const BASE: (f64, f64) = (10e-6, 8e-6);
/// Probes on their way at once.
const PLACES: usize = 32;
/// A probe that is on its way for so long is a stall.
const STALL: Nanos = 1_000_000_000;
/// Ended workers are named for so long.
const KEEP: Nanos = 60_000_000_000;
/// Probes that nobody has collected; older ones are lost.
const PROBES: usize = 16_384;
/// Half the width of the bounds that tie the clocks together (measured on an idle card: 5.6 us
/// wide).
const CLOCK_ERROR: Duration = Duration::from_nanos(2_800);

/// Where a worker stands.
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// None is wanted.
    #[default]
    Absent,
    /// One is wanted, and tried again later.
    Waiting {
        until: Nanos,
        state: CanaryState,
        reason: CanaryReason,
    },
    /// It has no context yet.
    Starting {
        ready: Nanos,
        process: Box<Process>,
    },
    Calibrating {
        until: Nanos,
    },
    Probing {
        next: Nanos,
    },
}

/// A probe that was launched.
#[derive(Debug, Clone, Copy)]
struct Flight {
    launched: Nanos,
    starts: Nanos,
}

/// The canary of one device.
#[derive(Debug, Default)]
pub(super) struct Canary {
    /// `None`: the agent did not name the device.
    pub(super) wish: Option<(CanaryState, CanaryReason)>,
    pub(super) stage: Stage,
    /// In the order of launches, which is that of starts.
    flights: VecDeque<Flight>,
    /// Given up or started, and not collected; the flag says which.
    done: VecDeque<(Flight, bool)>,
    missed: u32,
    /// And when it ended.
    workers: VecDeque<(ProcessKey, Option<Nanos>)>,
    /// Since one probed.
    failures: u32,
}

impl Canary {
    /// When something happens here next.
    pub(super) fn next(&self) -> Nanos {
        match self.stage {
            Stage::Absent => NEVER,
            Stage::Waiting { until, .. } | Stage::Calibrating { until } => until,
            Stage::Starting { ready, .. } => ready,
            Stage::Probing { next } => next,
        }
    }

    /// Whether there is a worker.
    pub(super) fn lives(&self) -> bool {
        !matches!(self.stage, Stage::Absent | Stage::Waiting { .. })
    }

    /// The PID of a worker that has no context yet.
    pub(super) fn starting(&self) -> Option<HostPid> {
        match &self.stage {
            Stage::Starting { process, .. } => Some(process.pid),
            _ => None,
        }
    }

    pub(super) fn start(&mut self, process: Process, now: Nanos) {
        let key = ProcessKey {
            pid: process.pid,
            started: StartTime(process.started),
        };
        self.workers.push_back((key, None));
        self.stage = Stage::Starting {
            ready: now + nanos(START),
            process: Box::new(process),
        };
    }

    pub(super) fn calibrate(&mut self, now: Nanos) {
        let until = now + nanos(CALIBRATION);
        self.stage = Stage::Calibrating { until };
    }

    pub(super) fn probe(&mut self, now: Nanos, rate: f64, rng: &mut SmallRng) {
        self.failures = 0;
        let next = now + nanos(exponential(1.0 / rate, rng));
        self.stage = Stage::Probing { next };
    }

    /// A probe is launched, whatever became of those before it.
    pub(super) fn launch(&mut self, device: &Device, now: Nanos, rate: f64, rng: &mut SmallRng) {
        self.settle(now);
        let idle = BASE.0 + exponential(BASE.1, rng);
        if self.flights.len() == PLACES {
            self.missed += 1;
        } else {
            let starts = now + device.wait(now) + nanos(idle);
            let before = self.flights.back().map_or(0, |flight| flight.starts);
            self.flights.push_back(Flight {
                launched: now,
                starts: starts.max(before),
            });
        }
        let next = now + nanos(exponential(1.0 / rate, rng));
        self.stage = Stage::Probing { next };
    }

    /// Nothing starts from now on until `until`.
    pub(super) fn hold(&mut self, now: Nanos, until: Nanos) {
        self.settle(now);
        for flight in &mut self.flights {
            flight.starts += until.saturating_sub(now);
        }
    }

    /// The worker is gone at once, and with it its context and what it waited for.
    pub(super) fn stop(&mut self, device: &mut Device, now: Nanos, records: &mut Records) {
        self.settle(now);
        for flight in std::mem::take(&mut self.flights) {
            let starts = now;
            self.finish(Flight { starts, ..flight }, false);
        }
        if let Some((_, ended @ None)) = self.workers.back_mut() {
            *ended = Some(now);
        }
        device.remove_canary(now, records);
        self.stage = Stage::Absent;
    }

    /// A new worker is tried later: after 1 s, doubling to 32 s.
    pub(super) fn retry(&mut self, now: Nanos, state: CanaryState, reason: CanaryReason) {
        let wait = f64::from(1_u32 << self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        self.stage = Stage::Waiting {
            until: now + nanos(wait),
            state,
            reason,
        };
    }

    /// Takes note of what has started by now.
    fn settle(&mut self, now: Nanos) {
        while let Some(flight) = self.flights.pop_front() {
            if flight.starts > now {
                self.flights.push_front(flight);
                return;
            }
            self.finish(flight, true);
        }
    }

    fn finish(&mut self, flight: Flight, started: bool) {
        if self.done.len() == PROBES {
            self.done.pop_front();
        }
        self.done.push_back((flight, started));
    }

    /// What came since the last call; `origin` is the monotonic time of the start. `None` where
    /// the agent did not name the device.
    pub(super) fn collect(
        &mut self,
        gpu: &GpuUuid,
        origin: Duration,
        now: Nanos,
    ) -> Option<CanaryWindow> {
        let wish = self.wish?;
        self.settle(now);
        self.workers
            .retain(|(_, ended)| ended.is_none_or(|ended| ended + KEEP > now));
        let oldest = self.flights.front().map(|flight| now - flight.launched);
        let is_probing = matches!(self.stage, Stage::Probing { .. });
        let (state, reason) = match self.stage {
            Stage::Absent => wish,
            Stage::Waiting { state, reason, .. } => (state, reason),
            Stage::Starting { .. } => (CanaryState::Running, CanaryReason::Starting),
            Stage::Calibrating { .. } => (CanaryState::Running, CanaryReason::Calibrating),
            Stage::Probing { .. } if oldest.is_some_and(|age| age >= STALL) => {
                (CanaryState::Stalled, CanaryReason::ProbeOutstanding)
            }
            Stage::Probing { .. } => wish,
        };
        Some(CanaryWindow {
            gpu: gpu.clone(),
            state,
            reason,
            probes: std::mem::take(&mut self.done)
                .into_iter()
                .map(|(flight, started)| Probe {
                    launched: origin + Duration::from_nanos(flight.launched),
                    delay: Duration::from_nanos(flight.starts - flight.launched),
                    started,
                })
                .collect(),
            missed: std::mem::take(&mut self.missed),
            waiting: is_probing.then(|| Duration::from_nanos(oldest.unwrap_or(0))),
            clock_error: is_probing.then_some(CLOCK_ERROR),
            workers: self.workers.iter().map(|(key, _)| *key).collect(),
        })
    }
}
