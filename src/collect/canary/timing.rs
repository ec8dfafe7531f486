//! From what a worker and its kernels wrote to delays: the clocks tied, the host's own waiting left
//! out, and nothing told that cannot be.

use std::collections::VecDeque;
use std::time::Duration;

use super::clock::{Bounds, Tie};
use super::pace::Timed;

/// The clocks must be tied to each other this well before a delay is told.
const TIED: Duration = Duration::from_micros(200);
/// After so long they may be tied this well only: a GPU whose every probe waits leaves no tighter
/// bounds.
const TIED_LATE: (u64, Duration) = (10_000_000_000, Duration::from_millis(5));
/// Between two lines through the bounds, in nanoseconds.
const TIE_PERIOD: u64 = 1_000_000_000;
/// Started probes that can wait for the clocks.
const PENDING_MAX: usize = 2048;
/// A start that lies outside what the host saw by more than this, in nanoseconds, is no start: one
/// of the clocks was set.
const IMPOSSIBLE: i64 = 1_000_000;

/// A launch whose kernel has started. Host times are nanoseconds of the raw clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    pub(super) before: u64,
    pub(super) after: u64,
    /// The host took the core away during the call.
    pub(super) preempted: bool,
    /// When the worker saw the start.
    pub(super) seen: Option<u64>,
    /// The start, in nanoseconds of the GPU's clock.
    pub(super) gpu: u64,
}

#[derive(Debug, Clone, Copy)]
struct Started {
    before: u64,
    launched: u64,
    gpu: u64,
    read_at: u64,
}

/// One worker's clocks, and the probes that wait for them.
#[derive(Debug, Default)]
pub(super) struct Timing {
    bounds: Bounds,
    tie: Option<Tie>,
    tied_at: u64,
    /// Since when they are not tied well.
    untied_since: Option<u64>,
    /// What a launch call takes: about its median, in nanoseconds.
    call: u64,
    pending: VecDeque<Started>,
}

impl Timing {
    /// Takes in a start that was read at `now`; says how many probes are lost for it.
    pub(super) fn push(&mut self, launch: Launch, now: u64) -> u32 {
        let Launch {
            before,
            after,
            preempted,
            seen,
            gpu,
        } = launch;
        self.bounds.push(before, gpu, seen);
        let call = after.saturating_sub(before);
        let step = self.call / 32 + 1;
        self.call = match self.call {
            0 => call,
            known if call > known => known + step,
            known => known - step.min(known),
        };
        // The GPU is told at the end of the call. One that was preempted was so before that, most
        // likely: the host's waiting, not the GPU's.
        let launched = if preempted && call > self.call.saturating_mul(4) {
            after.saturating_sub(self.call)
        } else {
            before
        };
        self.pending.push_back(Started {
            before,
            launched,
            gpu,
            read_at: now,
        });
        // Bounded, as a GPU may have no clock that can be tied.
        let over = self.pending.len().saturating_sub(PENDING_MAX);
        self.pending.drain(..over).count() as u32
    }

    /// The delays that can be told at `now`, and how many of the started probes never can be.
    pub(super) fn tell(&mut self, now: u64) -> (Vec<Timed>, u32) {
        if self.pending.is_empty() {
            return (Vec::new(), 0);
        }
        if !self.is_tied(now) || now.saturating_sub(self.tied_at) > TIE_PERIOD || self.is_denied() {
            self.tie = self.bounds.tie();
            self.tied_at = now;
            self.untied_since = match self.is_tied_well() {
                true => None,
                false => self.untied_since.or(Some(now)),
            };
        }
        let (true, Some(tie)) = (self.is_tied(now), self.tie) else {
            return (Vec::new(), 0);
        };
        let call = self.call;
        let mut lost = 0;
        let told = self
            .pending
            .drain(..)
            .filter_map(|started| {
                let timed = started.timed(&tie, call);
                lost += u32::from(timed.is_none());
                timed
            })
            .collect();
        (told, lost)
    }

    /// Started probes that are not told.
    pub(super) fn pending(&self) -> u32 {
        self.pending.len() as u32
    }

    /// Whether what was seen of a started probe denies the clocks' tie.
    fn is_denied(&self) -> bool {
        self.tie.is_some_and(|tie| {
            self.pending
                .iter()
                .any(|started| !started.is_possible(&tie))
        })
    }

    fn is_tied(&self, now: u64) -> bool {
        let waited = self.untied_since.map_or(0, |at| now.saturating_sub(at));
        let enough = if waited > TIED_LATE.0 {
            TIED_LATE.1
        } else {
            TIED
        };
        self.tie.is_some_and(|tie| tie.error() <= enough)
    }

    fn is_tied_well(&self) -> bool {
        self.tie.is_some_and(|tie| tie.error() <= TIED)
    }

    /// How late delays may be told; `None` until one can be.
    pub(super) fn error(&self, now: u64) -> Option<Duration> {
        self.tie
            .filter(|_| self.is_tied(now))
            .map(|tie| tie.error())
    }
}

impl Started {
    fn is_possible(&self, tie: &Tie) -> bool {
        let started = tie.host(self.gpu, self.launched);
        let slack = IMPOSSIBLE.saturating_add(tie.error().as_nanos() as i64);
        started.saturating_add(slack) >= self.before as i64
            && started <= (self.read_at as i64).saturating_add(slack)
    }

    fn timed(self, tie: &Tie, call: u64) -> Option<Timed> {
        if !self.is_possible(tie) {
            return None;
        }
        let started = u64::try_from(tie.host(self.gpu, self.launched)).unwrap_or_default();
        // A call that was preempted after the launch: it began before the start all the same.
        let launched = self
            .launched
            .min(started.saturating_sub(call))
            .max(self.before);
        Some(Timed {
            launched,
            delay: Duration::from_nanos(started.saturating_sub(launched)),
            started: true,
        })
    }
}
