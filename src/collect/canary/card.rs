//! One card: its worker, if it shall have one, and what to do when that ends.

use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use super::board::Entry;
use super::pace::Pace;
use super::process::Worker;
use super::raw::cuda::{OUT_OF_MEMORY, Step};
use super::worker::phase;
use super::{CanarySettings, nanos};
use crate::model::{CanaryReason, CanaryState, Cause, GpuUuid};

/// A start takes a second; on a card that resets, some.
const START_MAX: Duration = Duration::from_secs(60);
/// A probe that waits longer is a stall.
const STALL: Duration = Duration::from_secs(1);
/// Between looks at a worker that starts or ends.
const LOOK: Duration = Duration::from_millis(50);
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A worker that worked for so long starts the retries anew.
const WORKED: Duration = Duration::from_secs(60);

/// Why a worker is no more, though one is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) state: CanaryState,
    pub(super) reason: CanaryReason,
    /// The `reason` of the health series.
    pub(super) label: &'static str,
    pub(super) cause: Cause,
    pub(super) words: String,
}

#[derive(Debug)]
struct Live {
    worker: Worker,
    /// Raw nanoseconds.
    began: u64,
    /// When it was last seen to be there.
    last: u64,
    pace: Option<Pace>,
}

/// The wish for one card, and how far it is fulfilled.
#[derive(Debug)]
pub(super) struct Card {
    gpu: GpuUuid,
    wish: (CanaryState, CanaryReason),
    live: Option<Live>,
    /// Killed and not yet gone, with when that was.
    dying: Vec<(Worker, u64)>,
    /// Of the last failure, until a worker works again.
    failed: Option<(CanaryState, CanaryReason)>,
    retry_at: u64,
    retry: Duration,
}

/// What a turn of a card came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// When to take the next turn, in raw nanoseconds; `None`: when a wish comes.
    pub(super) wake: Option<u64>,
    pub(super) failed: Option<Failed>,
    /// A worker has just become ready.
    pub(super) ready: bool,
    /// The card shall have one.
    pub(super) wanted: bool,
}

impl Card {
    pub(super) fn new(gpu: GpuUuid) -> Self {
        Self {
            gpu,
            wish: (CanaryState::Off, CanaryReason::NotYet),
            live: None,
            dying: Vec::new(),
            failed: None,
            retry_at: 0,
            retry: RETRY_MIN,
        }
    }

    pub(super) fn steer(&mut self, state: CanaryState, reason: CanaryReason) {
        self.wish = (state, reason);
    }

    /// True where nothing of it is left to wait for.
    pub(super) fn is_still(&self) -> bool {
        self.live.is_none() && self.dying.is_empty()
    }

    /// Does what is due at `now`, and writes how it stands into its entry.
    pub(super) fn turn(
        &mut self,
        settings: &CanarySettings,
        entry: &mut Entry,
        now: u64,
    ) -> Outcome {
        self.dying.retain_mut(|(worker, _)| !worker.has_ended());
        if !self.dying.is_empty() {
            entry.not_gone_yet(now);
        }
        let mut outcome = Outcome {
            wake: (!self.dying.is_empty()).then_some(now + nanos(LOOK)),
            failed: None,
            ready: false,
            wanted: self.wish.0 == CanaryState::Running,
        };
        if !outcome.wanted {
            if let Some(live) = self.live.take() {
                self.retire(live, entry, now, now);
            }
            entry.rest();
            (entry.state, entry.reason) = self.wish;
            (self.failed, self.retry, self.retry_at) = (None, RETRY_MIN, 0);
            return outcome;
        }
        let next = match self.live.take() {
            Some(live) => self.follow(live, settings, entry, now, &mut outcome),
            None => self.begin(settings, entry, now, &mut outcome),
        };
        outcome.wake = outcome.wake.into_iter().chain(next).min();
        outcome
    }

    /// Starts a worker where none is, when the time has come.
    fn begin(
        &mut self,
        settings: &CanarySettings,
        entry: &mut Entry,
        now: u64,
        outcome: &mut Outcome,
    ) -> Option<u64> {
        if let Some((_, since)) = self.dying.first() {
            // A second context beside one that cannot be ended would hide what is wrong.
            if now.saturating_sub(*since) > nanos(STALL) {
                (entry.state, entry.reason) = (CanaryState::Stalled, CanaryReason::CallHung);
                (entry.probing, entry.waiting_since) = (true, Some(*since));
            }
            return None;
        }
        entry.rest();
        if now < self.retry_at {
            return Some(self.retry_at);
        }
        match Worker::start(settings, &self.gpu) {
            Ok(worker) => {
                entry.began(worker.key);
                (entry.state, entry.reason) = match self.failed {
                    Some(failed) => failed,
                    None => (CanaryState::Running, CanaryReason::Starting),
                };
                self.live = Some(Live {
                    worker,
                    began: now,
                    last: now,
                    pace: None,
                });
                Some(now + nanos(LOOK))
            }
            Err(error) => {
                let failed = Failed {
                    state: CanaryState::Off,
                    reason: CanaryReason::Failed,
                    label: "spawn",
                    cause: Cause::Other,
                    words: format!("no worker can be started: {error}"),
                };
                Some(self.fail(failed, entry, now, outcome))
            }
        }
    }

    /// Looks after the worker that is there.
    fn follow(
        &mut self,
        mut live: Live,
        settings: &CanarySettings,
        entry: &mut Entry,
        now: u64,
        outcome: &mut Outcome,
    ) -> Option<u64> {
        let age = now.saturating_sub(live.began);
        // One that failed may hang in the library's own end.
        let failed = live.worker.page.phase.load(Acquire) == phase::FAILED;
        if live.worker.has_ended() || failed {
            let failed = why_ended(&live.worker);
            let last = live.last;
            self.retire(live, entry, now, last);
            return Some(self.fail(failed, entry, now, outcome));
        }
        live.last = now;
        let page = &live.worker.page;
        let pace = match &mut live.pace {
            Some(pace) => pace,
            None if page.phase.load(Acquire) == phase::READY => {
                outcome.ready = true;
                self.failed = None;
                let seed = now ^ u64::from(live.worker.id()) << 32;
                live.pace.insert(Pace::new(settings.rate, seed, now))
            }
            None if age > nanos(START_MAX) => {
                let failed = hung("start_hung", "its worker did not start", START_MAX);
                self.retire(live, entry, now, now);
                return Some(self.fail(failed, entry, now, outcome));
            }
            None => {
                self.live = Some(live);
                return Some(now + nanos(LOOK));
            }
        };
        let turn = pace.turn(page, now);
        if turn.go_on {
            live.worker.go_on();
        }
        entry.add(turn);
        entry.probing = true;
        entry.clock_error = pace.clock_error(now);
        entry.waiting_since = pace.waiting_since(page);
        let since = |at: Option<u64>| at.map_or(0, |at| now.saturating_sub(at));
        let waiting = since(entry.waiting_since);
        let hanging = since(pace.in_call_since(page));
        let lost = if hanging > nanos(settings.hung_after) {
            let words = "a call into CUDA did not return";
            Some(hung("call_hung", words, settings.hung_after))
        } else if since(pace.behind_since(page)) > nanos(settings.hung_after) {
            Some(hung(
                "not_scheduled",
                "its worker did not run",
                settings.hung_after,
            ))
        } else if waiting > nanos(settings.give_up_after) {
            let words = "a probe did not start";
            Some(hung("probe_lost", words, settings.give_up_after))
        } else {
            None
        };
        if let Some(failed) = lost {
            self.retire(live, entry, now, now);
            return Some(self.fail(failed, entry, now, outcome));
        }
        (entry.state, entry.reason) = if hanging > nanos(STALL) {
            (CanaryState::Stalled, CanaryReason::CallHung)
        } else if waiting > nanos(STALL) {
            (CanaryState::Stalled, CanaryReason::ProbeOutstanding)
        } else if entry.clock_error.is_none() {
            (CanaryState::Running, CanaryReason::Calibrating)
        } else {
            self.wish
        };
        if age > nanos(WORKED) {
            self.retry = RETRY_MIN;
        }
        let wake = pace.wake(page, now);
        self.live = Some(live);
        Some(wake)
    }

    /// Ends a worker that was there last at `last`.
    fn retire(&mut self, mut live: Live, entry: &mut Entry, now: u64, last: u64) {
        live.worker.kill();
        if let Some(pace) = live.pace {
            entry.add(pace.give_up(&live.worker.page, last));
        }
        entry.ended(now);
        self.dying.push((live.worker, now));
    }

    /// Notes a failure and says when to try again.
    fn fail(&mut self, failed: Failed, entry: &mut Entry, now: u64, outcome: &mut Outcome) -> u64 {
        (entry.state, entry.reason) = (failed.state, failed.reason);
        self.failed = Some((failed.state, failed.reason));
        outcome.failed = Some(failed);
        self.retry_at = now + nanos(self.retry);
        self.retry = (self.retry * 2).min(RETRY_MAX);
        self.retry_at.min(now + nanos(LOOK))
    }
}

fn hung(label: &'static str, words: &str, after: Duration) -> Failed {
    Failed {
        state: CanaryState::Off,
        reason: CanaryReason::Failed,
        label,
        cause: Cause::Hung,
        words: format!("{words} for {} s: it is started again", after.as_secs()),
    }
}

/// What the page says of a worker that has ended.
fn why_ended(worker: &Worker) -> Failed {
    let step = match worker.page.phase.load(Acquire) {
        phase::FAILED => Step::of(worker.page.step.load(Acquire)),
        _ => None,
    };
    let code = worker.page.code.load(Acquire);
    let failed = |state, reason, label, cause, words: &str| Failed {
        state,
        reason,
        label,
        cause,
        words: words.to_owned(),
    };
    match step {
        Some(Step::Library) => failed(
            CanaryState::Off,
            CanaryReason::NoLibrary,
            "no_library",
            Cause::NotFound,
            "no libcuda.so.1 can be loaded: let the container have the driver's compute libraries \
             (NVIDIA_DRIVER_CAPABILITIES=compute,utility), name the file with --cuda-library, or \
             switch the canary off (--canary off)",
        ),
        Some(Step::Symbol) => failed(
            CanaryState::Off,
            CanaryReason::OldDriver,
            "old_driver",
            Cause::Malformed,
            "libcuda.so.1 lacks a call that the canary needs: upgrade the driver, or switch the \
             canary off (--canary off)",
        ),
        Some(Step::Context | Step::Module | Step::Memory) if code == OUT_OF_MEMORY => failed(
            CanaryState::Yielded,
            CanaryReason::OutOfMemory,
            "out_of_memory",
            Cause::Other,
            "its context did not fit into the framebuffer",
        ),
        Some(step) => failed(
            CanaryState::Off,
            CanaryReason::Failed,
            "cuda_error",
            Cause::Other,
            &format!("CUDA's code {code} in step {step:?}: it is started again"),
        ),
        None => failed(
            CanaryState::Off,
            CanaryReason::Failed,
            "worker_died",
            Cause::Other,
            "its worker ended by a signal: it is started again",
        ),
    }
}
