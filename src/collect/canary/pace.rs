//! When one card's probes are launched, and what became of them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::raw::page::{Page, SLOTS};
use super::timing::{Launch, Timing};

/// How long a worker looks for a start: at 10 probes a second, 0.06 % of a core at the
/// most.
const LOOK: Duration = Duration::from_micros(60);
/// The same of one probe in [`LONG_LOOKS`], and of all while the clocks are not tied: longer than a
/// newcomer mostly waits.
const LONG_LOOK: Duration = Duration::from_millis(3);
const LONG_LOOKS: u64 = 32;
/// Probes of a worker whose clocks are not tied that are looked at so long.
const UNTIED_LOOKS: u64 = 64;
/// A worker that is still about to stop misses what continues it: it is told again after this.
const TELL_AGAIN: Duration = Duration::from_millis(5);
/// For so long, in nanoseconds; then with each arrival only.
const TELL_FOR: u64 = 1_000_000_000;
/// Longer gaps, in means, are cut: one in 10^13.
const GAPS_MAX: f64 = 30.0;

/// A probe, on the host's raw clock in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timed {
    pub(super) launched: u64,
    pub(super) delay: Duration,
    pub(super) started: bool,
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
    wanted: u64,
    /// When the newest launch was asked for.
    asked: u64,
    /// Launches whose starts were read.
    read: u64,
    timing: Timing,
}

impl Pace {
    pub(super) fn new(rate: f64, seed: u64, now: u64) -> Self {
        let mut pace = Self {
            rng: SmallRng::seed_from_u64(seed),
            mean_gap: 1.0 / rate,
            next: now,
            wanted: 0,
            asked: now,
            read: 0,
            timing: Timing::default(),
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
        self.read(page, now, &mut turn);
        let mut due = 0;
        while self.next <= now {
            due += 1;
            self.next += self.gap();
        }
        if due > 0 {
            // Not while the worker is behind: it would launch them all at one time.
            let room = page.launched.load(Acquire) >= self.wanted
                && self.wanted - self.read < SLOTS as u64;
            turn.missed += due - u32::from(room);
            if room {
                self.wanted += 1;
                self.asked = now;
                // Clocks that cannot be tied are not worth a core.
                let short = (self.timing.error(now).is_some() || self.wanted > UNTIED_LOOKS)
                    && !self.wanted.is_multiple_of(LONG_LOOKS);
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
        if page.launched.load(Acquire) < self.wanted && now.saturating_sub(self.asked) < TELL_FOR {
            self.next.min(now + TELL_AGAIN.as_nanos() as u64)
        } else {
            self.next
        }
    }

    /// Reads what has started, and tells what can be told.
    fn read(&mut self, page: &Page, now: u64, turn: &mut Turn) {
        // One stream: they start in the order of their launches.
        let launched = page.launched.load(Acquire).min(self.wanted);
        while self.read < launched {
            let slot = &page.slots[self.read as usize % SLOTS];
            let gpu = slot.started.load(Acquire);
            if gpu == 0 {
                break;
            }
            let seen = slot.seen.load(Acquire);
            let launch = Launch {
                before: slot.before.load(Acquire),
                after: slot.after.load(Acquire),
                preempted: slot.preempted.load(Acquire) != 0,
                seen: (seen != 0).then_some(seen),
                gpu,
            };
            turn.missed += self.timing.push(launch, now);
            self.read += 1;
        }
        let (told, lost) = self.timing.tell(now);
        turn.probes.extend(told);
        turn.missed += lost;
    }

    /// How late delays may be told; `None` until one can be.
    pub(super) fn clock_error(&self, now: u64) -> Option<Duration> {
        self.timing.error(now)
    }

    /// Launch of the oldest probe that has not started: its own, or since when the worker is in the
    /// call.
    pub(super) fn waiting_since(&self, page: &Page) -> Option<u64> {
        let launched = page.launched.load(Acquire).min(self.wanted);
        if self.read < launched {
            Some(page.slots[self.read as usize % SLOTS].after.load(Acquire))
        } else {
            self.in_call_since(page)
        }
    }

    /// Since when the worker has not done what it was asked for.
    pub(super) fn behind_since(&self, page: &Page) -> Option<u64> {
        (page.launched.load(Acquire) < self.wanted).then_some(self.asked)
    }

    /// Since when the worker is in its launch call.
    pub(super) fn in_call_since(&self, page: &Page) -> Option<u64> {
        let asked = self.behind_since(page)?;
        let next = page.launched.load(Acquire).min(self.wanted);
        let began = page.slots[next as usize % SLOTS].before.load(Acquire);
        (began >= asked).then_some(began)
    }

    /// The worker ended, and was there last at `now`: what has started is told if that can be, and
    /// what has not waited at least until then.
    pub(super) fn give_up(mut self, page: &Page, now: u64) -> Turn {
        let mut turn = Turn::default();
        self.read(page, now, &mut turn);
        let launched = page.launched.load(Acquire).min(self.wanted);
        turn.missed += self.timing.pending() + (self.wanted - launched) as u32;
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

#[cfg(test)]
mod tests;
