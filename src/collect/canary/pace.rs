//! When one card's probes are launched, and what became of them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::clock::{Bounds, Tie};
use super::raw::page::{Page, SLOTS};

/// The clocks must be tied to each other this well before a delay is told.
const TIED: Duration = Duration::from_micros(500);
/// Delays that have waited for that so long are told with clocks tied this well: a GPU whose every
/// probe waits leaves no tighter bounds.
const TIED_LATE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(5));
/// How long a worker looks for a start: at 15 probes a second, a tenth of a percent of a core at the
/// most.
const LOOK: Duration = Duration::from_micros(60);
/// The same of one probe in [`LONG_LOOKS`], and of all while the clocks are not tied: longer than a
/// newcomer mostly waits.
const LONG_LOOK: Duration = Duration::from_millis(3);
const LONG_LOOKS: u64 = 32;
/// Between two lines through the bounds.
const TIE_PERIOD: u64 = 1_000_000_000;
/// A worker that is still about to stop misses what continues it: it is told again after this.
const TELL_AGAIN: Duration = Duration::from_millis(5);
/// Longer gaps are cut: with 15 probes a second, one in 10^13.
const GAPS_MAX: f64 = 30.0;

/// A probe, on the host's raw clock in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timed {
    pub(super) launched: u64,
    pub(super) delay: Duration,
    pub(super) started: bool,
}

/// A probe that has started, by the GPU's clock.
#[derive(Debug, Clone, Copy)]
struct Started {
    launched: u64,
    gpu: u64,
}

/// What a turn came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) probes: Vec<Timed>,
    pub(super) missed: u32,
    /// The worker must be continued.
    pub(super) go_on: bool,
}

/// The probes of one worker.
#[derive(Debug)]
pub(super) struct Pace {
    rng: SmallRng,
    mean_gap: f64,
    /// Next arrival, on the raw clock.
    next: u64,
    previous: u64,
    wanted: u64,
    /// When the newest launch was asked for.
    asked: u64,
    /// Launches whose starts were read.
    read: u64,
    /// The shortest launch call so far, in nanoseconds.
    call: u64,
    bounds: Bounds,
    tie: Option<Tie>,
    tied_at: u64,
    /// How well they must be tied now.
    enough: Duration,
    /// Started, and waiting for the clocks to be tied.
    pending: VecDeque<Started>,
}

impl Pace {
    pub(super) fn new(rate: f64, seed: u64, now: u64) -> Self {
        let mut pace = Self {
            rng: SmallRng::seed_from_u64(seed),
            mean_gap: 1.0 / rate,
            next: now,
            previous: now,
            wanted: 0,
            asked: now,
            read: 0,
            call: u64::MAX / 2,
            bounds: Bounds::default(),
            tie: None,
            tied_at: 0,
            enough: TIED,
            pending: VecDeque::new(),
        };
        pace.next += pace.gap();
        pace
    }

    /// Nanoseconds to the next arrival: exponential, so that arrivals see time averages.
    fn gap(&mut self) -> u64 {
        let uniform: f64 = self.rng.random();
        ((-(1.0 - uniform).ln()).min(GAPS_MAX) * self.mean_gap * 1e9) as u64
    }

    /// Reads what has started and asks for what is due at `now`.
    pub(super) fn turn(&mut self, page: &Page, now: u64) -> Turn {
        let mut turn = Turn::default();
        self.read(page, &mut turn);
        self.tell(now, &mut turn);
        let mut due = 0;
        while self.next <= now {
            due += 1;
            self.previous = self.next;
            self.next += self.gap();
        }
        if due > 0 {
            let room = self.wanted - self.read < SLOTS as u64;
            turn.missed += due - u32::from(room);
            if room {
                self.wanted += 1;
                self.asked = now;
                let short = self.is_tied() && !self.wanted.is_multiple_of(LONG_LOOKS);
                let look = if short { LOOK } else { LONG_LOOK };
                page.look.store(look.as_nanos() as u64, Relaxed);
                page.wanted.store(self.wanted, Release);
            }
        }
        turn.go_on = page.launched.load(Acquire) < self.wanted;
        turn
    }

    /// When to take the next turn, on the raw clock.
    pub(super) fn wake(&self, page: &Page, now: u64) -> u64 {
        if page.launched.load(Acquire) < self.wanted && now.saturating_sub(self.asked) < TIE_PERIOD
        {
            self.next.min(now + TELL_AGAIN.as_nanos() as u64)
        } else {
            self.next
        }
    }

    fn read(&mut self, page: &Page, turn: &mut Turn) {
        // One stream: they start in the order of their launches.
        let launched = page.launched.load(Acquire).min(self.wanted);
        while self.read < launched {
            let slot = &page.slots[self.read as usize % SLOTS];
            let gpu = slot.started.load(Acquire);
            if gpu == 0 {
                break;
            }
            let seen = slot.seen.load(Acquire);
            let (before, after) = (slot.before.load(Acquire), slot.after.load(Acquire));
            self.bounds.push(before, gpu, (seen != 0).then_some(seen));
            self.call = self.call.min(after.saturating_sub(before));
            // The GPU is told at the end of the call. A longer one was preempted, most likely
            // before that: the host's waiting, not the GPU's.
            let launched = before.max(after.saturating_sub(2 * self.call));
            self.pending.push_back(Started { launched, gpu });
            self.read += 1;
        }
        // Bounded, as a GPU may have no clock that can be tied.
        while self.pending.len() > 4 * SLOTS {
            self.pending.pop_front();
            turn.missed += 1;
        }
    }

    /// Tells the delays of what has started, once the clocks are tied.
    fn tell(&mut self, now: u64, turn: &mut Turn) {
        let Some(oldest) = self.pending.front() else {
            return;
        };
        self.enough = match self.tie {
            Some(tie) if tie.error() <= TIED => TIED,
            _ if now.saturating_sub(oldest.launched) > TIED_LATE.0.as_nanos() as u64 => TIED_LATE.1,
            _ => self.enough,
        };
        if !self.is_tied() || now.saturating_sub(self.tied_at) > TIE_PERIOD {
            self.tie = self.bounds.tie();
            self.tied_at = now;
        }
        if let (true, Some(tie)) = (self.is_tied(), self.tie) {
            turn.probes
                .extend(self.pending.drain(..).map(|started| started.timed(&tie)));
        }
    }

    fn is_tied(&self) -> bool {
        self.tie.is_some_and(|tie| tie.error() <= self.enough)
    }

    /// How far delays may be off; `None` until one can be told.
    pub(super) fn clock_error(&self) -> Option<Duration> {
        self.tie.filter(|_| self.is_tied()).map(|tie| tie.error())
    }

    /// Launch of the oldest probe that has not started, as far as is known.
    pub(super) fn waiting_since(&self, page: &Page) -> Option<u64> {
        let launched = page.launched.load(Acquire).min(self.wanted);
        if self.read < launched {
            Some(page.slots[self.read as usize % SLOTS].after.load(Acquire))
        } else {
            self.not_launched_since(page)
        }
    }

    /// Since when the worker has not launched what it was asked for.
    pub(super) fn not_launched_since(&self, page: &Page) -> Option<u64> {
        (page.launched.load(Acquire) < self.wanted).then_some(self.asked)
    }

    /// The worker ends: what has started is told if that can be, and what has not waited at least
    /// until now.
    pub(super) fn give_up(mut self, page: &Page, now: u64) -> Turn {
        let mut turn = Turn::default();
        self.read(page, &mut turn);
        self.tell(now, &mut turn);
        turn.missed += self.pending.len() as u32;
        let launched = page.launched.load(Acquire).min(self.wanted);
        for number in self.read..launched {
            let after = page.slots[number as usize % SLOTS].after.load(Acquire);
            turn.probes.push(Timed {
                launched: after,
                delay: Duration::from_nanos(now.saturating_sub(after)),
                started: false,
            });
        }
        turn
    }
}

impl Started {
    fn timed(self, tie: &Tie) -> Timed {
        let started = tie.host(self.gpu, self.launched);
        // Within the clocks' error it may seem to have started before it was launched.
        let delay = u64::try_from(started)
            .unwrap_or_default()
            .saturating_sub(self.launched);
        Timed {
            launched: self.launched,
            delay: Duration::from_nanos(delay),
            started: true,
        }
    }
}

#[cfg(test)]
mod tests;
