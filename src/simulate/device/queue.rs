//! What is seen of the time-slicing queue: the ring's stretches, and the canary's.

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
