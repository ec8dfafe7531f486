//! What is seen of the time-slicing queue: the ring's stretches, and a newcomer's wait.

use std::time::Duration;

use super::{Device, Work};
use crate::simulate::plan::Nanos;
use crate::simulate::truth::{Records, Stretch, Turn};

impl Device {
    /// Seconds that each process ran since the last call: what the ring's sample is drawn from.
    pub(in crate::simulate) fn take_stretch(
        &mut self,
        now: Nanos,
        records: &mut Records,
    ) -> Vec<(u64, f64)> {
        self.settle(now, records);
        let mut busy = std::mem::take(&mut self.ended);
        for process in &mut self.processes {
            if process.stretch > 0.0 {
                busy.push((process.id, process.stretch));
                process.stretch = 0.0;
            }
        }
        busy
    }

    /// The turn goes round, and what a newcomer has to wait on the mean is added up.
    pub(super) fn turn(&mut self, from: Nanos, to: Nanos) {
        let elapsed = (to - from) as f64 * 1e-9;
        let stalled = self.stalled_until.saturating_sub(from) as f64 * 1e-9;
        self.expected_delay += self.circle / 2.0 * elapsed;
        if stalled > 0.0 {
            self.expected_delay += (stalled - elapsed / 2.0) * elapsed;
        } else if self.circle > 0.0 {
            self.hand = (self.hand + elapsed / self.circle).fract();
        }
    }

    /// How long a newcomer waits who comes at `now`, up to which this device has nothing to do:
    /// for the end of a stall, and until the turn comes to its place.
    pub(in crate::simulate) fn wait(&self, now: Nanos) -> Nanos {
        if self.circle <= 0.0 {
            return self.stalled_until.saturating_sub(now);
        }
        let runs_from = self.settled.max(self.stalled_until);
        let passed = now.saturating_sub(runs_from) as f64 * 1e-9 / self.circle;
        let left = 1.0 - (self.hand + passed).fract();
        self.stalled_until.saturating_sub(now) + (left * self.circle * 1e9) as Nanos
    }

    /// The processes that take turns now.
    pub(in crate::simulate) fn queue(&self) -> Vec<Turn> {
        if self.settled < self.stalled_until {
            return Vec::new();
        }
        self.processes
            .iter()
            .filter(|process| process.work == Work::Running)
            .map(|process| Turn {
                pid: process.pid,
                kernel: Duration::from_secs_f64(process.demand.kernel()),
                turn: Duration::from_secs_f64(process.turn()),
            })
            .collect()
    }

    /// Keeps the stretches of so much time from now on.
    pub(in crate::simulate) fn keep_stretches(&mut self, keep: Nanos) {
        self.keep = keep;
        if keep == 0 {
            self.stretches.clear();
        }
    }

    pub(super) fn note_stretch(&mut self, from: Nanos, to: Nanos) {
        if self.keep == 0 {
            return;
        }
        let turns = self.queue();
        match self.stretches.back_mut() {
            Some((_, end, same)) if *end == from && *same == turns => *end = to,
            _ => self.stretches.push_back((from, to, turns)),
        }
        while self
            .stretches
            .front()
            .is_some_and(|(_, end, _)| end + self.keep < to)
        {
            self.stretches.pop_front();
        }
    }

    /// The kept stretches, oldest first; `origin` is the monotonic time of the start.
    pub(in crate::simulate) fn stretches(&self, origin: Duration) -> Vec<Stretch> {
        self.stretches
            .iter()
            .map(|(from, to, turns)| Stretch {
                from: origin + Duration::from_nanos(*from),
                to: origin + Duration::from_nanos(*to),
                turns: turns.clone(),
            })
            .collect()
    }
}
