//! The GPU's clock, tied to the host's by the probes themselves.
//!
//! A kernel starts after the call that launched it began, and before its start was seen. So each
//! probe bounds the difference of the clocks: `gpu - host <= started - before`, and, where the
//! worker saw the start, `gpu - host >= started - seen`. The second is all but an equality: the
//! worker sees a start within a microsecond, unless it is preempted. The first is not: a launch
//! takes 10 us on an idle GPU, 130 us where another context ran last, and a millisecond on a busy
//! one (measured on an H200, whose clock drifts from the host's by some 8 us a second). So the
//! difference is the lowest straight line over what was seen, its tightest bound of each second of
//! the last two minutes; and the other bounds say how far it may be off.
//!
//! Where the line is over one of those, one of the clocks was set, and what came before is
//! forgotten.

use std::collections::VecDeque;
use std::time::Duration;

/// Seconds whose tightest bounds are kept.
const KEPT: u64 = 120;
/// Two crystals never differ by more; in nanoseconds a second.
const DRIFT_MAX: f64 = 500e3;
/// Over a shorter time than this, in nanoseconds, no drift can be told.
const SPAN_MIN: f64 = 3e9;
/// Over this time it is known for good.
const SPAN_ENOUGH: f64 = 30e9;
/// A bound that is this much beyond another, in nanoseconds, contradicts it: less is rounding, and
/// how the drift changes.
const TOLERANCE: f64 = 5e3;

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
    /// At the first probe, and from then on.
    at: f64,
    per_second: f64,
    /// Over which time that was learnt, in nanoseconds.
    learnt: f64,
    /// From the line up to the nearest of the other bounds, in nanoseconds.
    room: f64,
    origin: (u64, i64),
}

impl Tie {
    /// The host's time of an instant of the GPU's clock near `near`, all in nanoseconds.
    pub fn host(&self, gpu: u64, near: u64) -> i64 {
        let (host, difference) = self.origin;
        let seconds = near.wrapping_sub(host) as i64 as f64 * 1e-9;
        let moved = self.at + self.per_second * seconds;
        (gpu as i64)
            .wrapping_sub(difference)
            .wrapping_sub(moved.round() as i64)
    }

    /// Whether no bound contradicts it; not for what is no number.
    fn fits(&self) -> bool {
        self.room >= -TOLERANCE
    }

    /// The room between the bounds: how far [`Tie::host`] may be late, though mostly it is exact.
    pub fn error(&self) -> Duration {
        Duration::from_nanos(self.room.max(0.0) as u64)
    }
}

/// The bounds of the last two minutes. Times are nanoseconds.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Host time of the first probe, and the difference that it gave.
    origin: Option<(u64, i64)>,
    seconds: VecDeque<Second>,
    /// Of the lines before, in nanoseconds a second, and the time over which it was learnt.
    drift: f64,
    learnt: f64,
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
        let upper = (since(before), difference.wrapping_sub(zero) as f64);
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

    /// The line over what was seen; `None` until a start was.
    pub fn tie(&mut self) -> Option<Tie> {
        let mut tie = self.line()?;
        if !tie.fits() {
            self.resets += 1;
            while self.seconds.len() > 2 {
                self.seconds.pop_front();
            }
            tie = self.line()?;
        }
        if !tie.fits() {
            *self = Self {
                drift: self.drift,
                learnt: self.learnt,
                resets: self.resets,
                ..Self::default()
            };
            return None;
        }
        (self.drift, self.learnt) = (tie.per_second, tie.learnt);
        Some(tie)
    }

    fn line(&self) -> Option<Tie> {
        let origin = self.origin?;
        let seen: Vec<Point> = self.seconds.iter().filter_map(|s| s.lower).collect();
        let (first, last) = (seen.first()?, seen.last()?);
        let line = |drift: f64| {
            let over = |(x, y): Point| y - drift * 1e-9 * x;
            let at = seen
                .iter()
                .copied()
                .map(over)
                .fold(f64::NEG_INFINITY, f64::max);
            let launched = self.seconds.iter().filter_map(|s| s.upper);
            Tie {
                at,
                per_second: drift,
                learnt: self.learnt,
                room: launched.map(over).fold(f64::INFINITY, f64::min) - at,
                origin,
            }
        };
        let known = line(self.drift);
        let span = last.0 - first.0;
        let is_better = span >= SPAN_MIN && span >= (self.learnt / 2.0).min(SPAN_ENOUGH);
        if known.fits() && !is_better {
            return Some(known);
        }
        Some(Tie {
            learnt: span,
            ..line(slope_over(&seen).clamp(-DRIFT_MAX, DRIFT_MAX))
        })
    }
}

/// Slope, in nanoseconds a second, of the line over all points that is nearest to them together:
/// the edge of their hull over their middle.
fn slope_over(points: &[Point]) -> f64 {
    let mut hull: Vec<Point> = Vec::with_capacity(points.len());
    for &(x, y) in points {
        while let [.., a, b] = hull[..]
            && (b.1 - a.1) * (x - a.0) <= (y - a.1) * (b.0 - a.0)
        {
            hull.pop();
        }
        hull.push((x, y));
    }
    let middle = points.iter().map(|(x, _)| x).sum::<f64>() / points.len() as f64;
    hull.windows(2)
        .find(|edge| edge[1].0 >= middle)
        .map_or(0.0, |edge| {
            (edge[1].1 - edge[0].1) / (edge[1].0 - edge[0].0) * 1e9
        })
}

#[cfg(test)]
mod tests;
