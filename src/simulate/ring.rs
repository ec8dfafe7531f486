//! The driver's utilization ring: one sample of the card each 200 ms, one winner a sample.
//!
//! The winner is drawn with the processes' shares of the busy time of the stretch, and the whole
//! percentage is drawn from the two whole numbers beside the true one, so that the expected sum
//! of a process's samples is its true GPU time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::plan::Nanos;
use crate::model::{HostPid, RingRead, RingRow, RingSample};

/// Spacing of samples (measured: 200 ms, off by less than 1 ms).
const SPACING: Nanos = 200_000_000;
const JITTER: i64 = 900_000;
/// The ring reaches back so far (measured: 10 to 14 s).
const DEPTH: Nanos = 14_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Slot {
    at: Nanos,
    wall: Duration,
    percent: u32,
    winner: Option<u64>,
}

/// One card's ring.
#[derive(Debug)]
pub(super) struct Ring {
    slots: VecDeque<Slot>,
    grid: Nanos,
    /// Nanoseconds that the sample due next covers.
    length: Nanos,
    /// When the next sample is taken.
    pub(super) next: Nanos,
}

impl Ring {
    /// A ring whose first sample is due `offset` (at most one spacing) after `now`, and covers a
    /// whole spacing like the others: the card was idle before.
    pub(super) fn new(now: Nanos, offset: Nanos) -> Self {
        let first = now + 1 + offset % SPACING;
        Self {
            slots: VecDeque::new(),
            grid: first,
            length: SPACING,
            next: first,
        }
    }

    /// Takes the sample that is due. `busy` has the seconds that each process ran since the last
    /// one; `wall` is the wall clock; `last` may name another winner, given the part of the time in
    /// which nobody ran.
    pub(super) fn sample(
        &mut self,
        busy: &[(u64, f64)],
        last: impl FnOnce(f64) -> Option<u64>,
        wall: Duration,
        rng: &mut SmallRng,
    ) {
        let at = self.next;
        let length = self.length as f64 * 1e-9;
        let total: f64 = busy.iter().map(|(_, seconds)| seconds).sum();
        let mut percent = 0;
        let mut winner = None;
        if total > 0.0 {
            let exact = (100.0 * total / length).min(100.0);
            percent = exact.floor() as u32 + u32::from(rng.random::<f64>() < exact.fract());
            let mut left = rng.random::<f64>() * total;
            winner = busy.last().map(|(id, _)| *id);
            for (id, seconds) in busy {
                left -= seconds;
                if left < 0.0 {
                    winner = Some(*id);
                    break;
                }
            }
            winner = last((1.0 - total / length).max(0.0)).or(winner);
        }
        self.slots.push_back(Slot {
            at,
            wall: Duration::from_micros(wall.as_micros() as u64),
            percent,
            winner: winner.filter(|_| percent > 0),
        });
        while self.slots.front().is_some_and(|slot| slot.at + DEPTH < at) {
            self.slots.pop_front();
        }
        self.grid += SPACING;
        self.next = self
            .grid
            .saturating_add_signed(rng.random_range(-JITTER..=JITTER));
        self.length = self.next - at;
    }

    /// What a read gives: `process` knows the live processes and when each began; rows of ended
    /// ones vanish. A row is a mean over the samples since its process began (measured).
    pub(super) fn read(
        &self,
        after: Duration,
        process: impl Fn(u64) -> Option<(HostPid, Nanos)>,
    ) -> RingRead {
        let newer = || self.slots.iter().filter(|slot| slot.wall > after);
        let samples: Vec<RingSample> = newer()
            .map(|slot| RingSample {
                at: slot.wall,
                percent: slot.percent,
            })
            .collect();
        let mut won: BTreeMap<(HostPid, Nanos), (u32, Duration)> = BTreeMap::new();
        for slot in newer() {
            if let Some(process) = slot.winner.and_then(&process) {
                let (sum, last) = won.entry(process).or_default();
                *sum += slot.percent;
                *last = slot.wall;
            }
        }
        let rows = won
            .into_iter()
            .map(|((pid, began), (sum, last_won))| RingRow {
                pid,
                last_won,
                sm_percent: sum.div_ceil(newer().filter(|slot| slot.at > began).count() as u32),
            })
            .collect();
        RingRead { rows, samples }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// 15 samples of a card at 98 %, as measured: wins to percent.
    #[test]
    fn rows_are_means_over_all_samples_rounded_up() {
        for (wins, percent) in [(1_usize, 7), (2, 14), (3, 20), (7, 46), (15, 98)] {
            let mut ring = Ring::new(1_000_000, 0);
            let mut rng = SmallRng::seed_from_u64(3);
            for index in 0..15 {
                let seconds = 0.98 * ring.length as f64 * 1e-9;
                let who = if index < wins { 1 } else { 2 };
                let wall = Duration::from_nanos(ring.next);
                // A shade over 98 would draw 99 now and then.
                ring.sample(&[(who, seconds * 0.999_999_999)], |_| None, wall, &mut rng);
            }
            let read = ring.read(Duration::ZERO, |id| {
                (id == 1).then_some((HostPid(id as u32), 0))
            });
            assert_eq!(read.samples.len(), 15);
            assert_eq!(read.rows.len(), 1);
            assert_eq!(read.rows[0].sm_percent, percent);
            assert_eq!(read.rows[0].last_won, read.samples[wins - 1].at);
        }
    }

    #[test]
    fn an_idle_card_has_samples_and_no_rows() {
        let mut ring = Ring::new(0, 5);
        let mut rng = SmallRng::seed_from_u64(3);
        for _ in 0..200 {
            ring.sample(&[], |_| None, Duration::from_nanos(ring.next), &mut rng);
        }
        let read = ring.read(Duration::ZERO, |_| Some((HostPid(1), 0)));
        assert!(read.rows.is_empty());
        assert!((70..=71).contains(&read.samples.len()), "14 s at 5 Hz");
        for pair in read.samples.windows(2) {
            let gap = pair[1].at - pair[0].at;
            assert!(gap.abs_diff(Duration::from_millis(200)) < Duration::from_millis(2));
        }
        assert!(read.samples.iter().all(|sample| sample.percent == 0));
        let none = ring.read(read.samples[read.samples.len() - 1].at, |_| None);
        assert_eq!(none, RingRead::default());
    }
}
