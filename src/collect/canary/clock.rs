//! The GPU's clock, tied to the host's by the probes themselves.
//!
//! A kernel starts after the call that launched it began, and before its start was seen. So each
//! probe bounds the difference of the clocks: `gpu - host <= started - before`, and, where the
//! worker saw the start, `gpu - host >= started - seen`. On an H200 the clocks drift apart by some
//! 8 us a second, and on a busy GPU most bounds are a millisecond wide: so the tightest bounds of
//! each second are kept for minutes, and the difference is a straight line in the middle of them. Probes come at random times, so some find the GPU free even where it never
//! rests; their bounds are tight whatever the others' are.
//!
//! Where no line fits any more, one of the clocks was set: the bounds before it are forgotten.

use std::collections::VecDeque;
use std::time::Duration;

/// Seconds whose tightest bounds are kept.
const KEPT: u64 = 120;
/// Two crystals never differ by more; in nanoseconds a second.
const DRIFT_MAX: f64 = 500e3;
/// Steps of each search for a drift: down to a nanosecond a second.
const STEPS: usize = 40;
/// A bound: nanoseconds of the host's clock, and of the difference, both since the first probe.
type Point = (f64, f64);

#[derive(Debug, Default, Clone, Copy)]
struct Second {
    number: u64,
    upper: Option<Point>,
    lower: Option<Point>,
}

/// The difference of the clocks as a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tie {
    /// The difference at `now`, both since the first probe, in nanoseconds.
    at: f64,
    now: f64,
    per_second: f64,
    error: f64,
    origin: (u64, i64),
}

impl Tie {
    /// The host's time of an instant of the GPU's clock, both in nanoseconds.
    pub fn host(&self, gpu: u64, near: u64) -> i64 {
        let (host, difference) = self.origin;
        let since = near.wrapping_sub(host) as i64 as f64 - self.now;
        let moved = self.at + self.per_second * since * 1e-9;
        (gpu as i64)
            .wrapping_sub(difference)
            .wrapping_sub(moved.round() as i64)
    }

    /// How far [`Tie::host`] may be off.
    pub fn error(&self) -> Duration {
        Duration::from_nanos(self.error as u64)
    }
}

/// The bounds of the last two minutes. Times are nanoseconds.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Host time of the first probe, and the difference that it gave.
    origin: Option<(u64, i64)>,
    seconds: VecDeque<Second>,
    /// Launch of the newest probe, since the first.
    newest: f64,
    /// Of the line before, in nanoseconds a second.
    drift: f64,
    /// Times that the bounds contradicted each other.
    pub resets: u64,
}

impl Bounds {
    /// Takes in a probe: launched not before `before`, started at `started` by the GPU's clock, and
    /// seen to have started at `seen`.
    pub fn push(&mut self, before: u64, started: u64, seen: Option<u64>) {
        let difference = (started as i64).wrapping_sub(before as i64);
        let (host, zero) = *self.origin.get_or_insert((before, difference));
        let since = |at: u64| at.wrapping_sub(host) as i64 as f64;
        let number = before.saturating_sub(host) / 1_000_000_000;
        if self.seconds.back().is_none_or(|last| last.number < number) {
            self.seconds.push_back(Second {
                number,
                ..Second::default()
            });
        }
        while self
            .seconds
            .front()
            .is_some_and(|first| first.number + KEPT < number)
        {
            self.seconds.pop_front();
        }
        let Some(second) = self.seconds.back_mut() else {
            return;
        };
        self.newest = since(before);
        let upper = (self.newest, difference.wrapping_sub(zero) as f64);
        if second.upper.is_none_or(|known| upper.1 < known.1) {
            second.upper = Some(upper);
        }
        if let Some(seen) = seen {
            let difference = (started as i64).wrapping_sub(seen as i64);
            let lower = (since(seen), difference.wrapping_sub(zero) as f64);
            if second.lower.is_none_or(|known| lower.1 > known.1) {
                second.lower = Some(lower);
            }
        }
    }

    /// The line in the middle of the bounds; `None` until there are some on both sides.
    pub fn tie(&mut self) -> Option<Tie> {
        let mut tie = self.middle()?;
        if tie.is_err() {
            self.resets += 1;
            while self.seconds.len() > 2 {
                self.seconds.pop_front();
            }
            tie = self.middle()?;
        }
        let Ok(tie) = tie else {
            self.seconds.clear();
            self.origin = None;
            return None;
        };
        self.drift = tie.per_second;
        Some(tie)
    }

    /// `Err` where no line fits.
    fn middle(&self) -> Option<Result<Tie, ()>> {
        let origin = self.origin?;
        let upper: Vec<Point> = self.seconds.iter().filter_map(|s| s.upper).collect();
        let lower: Vec<Point> = self.seconds.iter().filter_map(|s| s.lower).collect();
        if upper.is_empty() || lower.is_empty() {
            return None;
        }
        let room = |drift: f64| {
            let over = |(x, y): &Point| y - drift * 1e-9 * x;
            let ceiling = upper.iter().map(over).fold(f64::INFINITY, f64::min);
            let floor = lower.iter().map(over).fold(f64::NEG_INFINITY, f64::max);
            (ceiling, floor)
        };
        let width = |drift: f64| {
            let (ceiling, floor) = room(drift);
            ceiling - floor
        };
        let best = summit(&width, -DRIFT_MAX, DRIFT_MAX);
        if width(best) < 0.0 {
            return Some(Err(()));
        }
        let (low, high) = (
            edge(&width, best, -DRIFT_MAX),
            edge(&width, best, DRIFT_MAX),
        );
        // The highest and the lowest that a line that fits can run now.
        let now = self.newest;
        let top = |drift: f64| room(drift).0 + drift * 1e-9 * now;
        let bottom = |drift: f64| -room(drift).1 - drift * 1e-9 * now;
        let highest = top(summit(&top, low, high));
        let lowest = -bottom(summit(&bottom, low, high));
        // Over a short time the bounds allow for many drifts, and the one known before is as good
        // as any; the longer the time, the less is left beside the middle of those allowed for.
        let quarter = (high - low) / 4.0;
        Some(Ok(Tie {
            at: (highest + lowest) / 2.0,
            now,
            per_second: self.drift.clamp(low + quarter, high - quarter),
            error: ((highest - lowest) / 2.0).max(0.0),
            origin,
        }))
    }
}

/// Where a concave function of the drift is highest: found by thirds.
fn summit(height: &impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..STEPS {
        let third = (high - low) / 3.0;
        if height(low + third) < height(high - third) {
            low += third;
        } else {
            high -= third;
        }
    }
    (low + high) / 2.0
}

/// The drift farthest from `inside`, towards `outside`, that leaves room.
fn edge(width: &impl Fn(f64) -> f64, inside: f64, outside: f64) -> f64 {
    if width(outside) >= 0.0 {
        return outside;
    }
    let (mut good, mut bad) = (inside, outside);
    for _ in 0..STEPS {
        let middle = (good + bad) / 2.0;
        if width(middle) >= 0.0 {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

#[cfg(test)]
mod tests;
