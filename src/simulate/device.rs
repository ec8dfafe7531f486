//! One schedulable device: its processes, their memory, and who runs when.
//!
//! A fluid model of time-slicing. Between two events the set of processes with work is constant;
//! they take turns in a circle, each for its kernel or a whole slice, whichever is shorter, so
//! each receives time in proportion to its turn. Truth is the integral of just that.
//!
//! A newcomer has its own place in the circle, and waits until the turn comes to it: half of the
//! circle on the mean, all of it at most. That is what was measured: with one, two and three
//! neighbours of 8 ms kernels, delay grows as 1 : 2 : 3. (One that queued behind whole turns of
//! all others would wait 1 : 3 : 5.)

mod memory;
mod queue;

use std::collections::VecDeque;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::SmallRng;

use super::plan::{Demand, MemoryPlan, NEVER, Nanos, Overhead, Workload, exponential, nanos};
use super::truth::{Records, Turn};
use crate::model::{ContextKind, GpuIdentity, HostPid};

/// A time slice in seconds: what reproduces the delay that one, two and three neighbours with
/// kernels of 8 ms add to a short request (measured: 1.2, 2.4 and 3.6 ms).
const SLICE: f64 = 2.4e-3;
/// Part of a saturated card's time in which kernels run; the driver shows 97 or 98 %.
const EFFICIENCY: f64 = 0.979;
/// Free memory under this share of the total is pressure.
const FLOOR: u64 = 20;

/// Where a process lives.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The pod's number.
    Pod(u64),
    /// Its cgroup path.
    Host(Arc<str>),
    /// The driver says PID 0.
    Nobody,
}

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its plan was fulfilled.
    Done,
    OutOfMemory,
    /// Its card, its driver or its pod went away.
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Waiting,
    Running,
}

/// One process with a context.
#[derive(Debug, Clone)]
pub(super) struct Process {
    /// Never used again, unlike the PID.
    pub(super) id: u64,
    pub(super) pid: HostPid,
    /// When it got its context.
    pub(super) began: Nanos,
    /// Clock ticks after boot.
    pub(super) started: u64,
    pub(super) comm: Arc<str>,
    pub(super) kind: ContextKind,
    pub(super) place: Place,
    pub(super) tenant: Option<usize>,
    pub(super) memory: u64,
    pub(super) memory_unknown: bool,
    pub(super) unreadable: bool,
    pub(super) mps_server: bool,
    /// Which of the plan's host processes it is.
    pub(super) host: Option<usize>,
    pub(super) ends_at: Nanos,
    pub(super) gpu: f64,
    demand: Demand,
    work: Work,
    /// GPU seconds until its present work is done.
    left: f64,
    work_at: Nanos,
    stretch: f64,
    plan: MemoryPlan,
    patient: bool,
    context: u64,
    memory_at: Nanos,
}

impl Process {
    /// A process that starts at `now`; whose it is, is for the caller to fill in.
    pub(super) fn new(
        id: u64,
        pid: HostPid,
        workload: &Workload,
        now: Nanos,
        rng: &mut SmallRng,
    ) -> Self {
        Self {
            id,
            pid,
            began: now,
            started: 0,
            comm: workload.program.chars().take(15).collect::<String>().into(),
            kind: workload.kind,
            place: Place::Nobody,
            tenant: None,
            memory: workload.context,
            memory_unknown: false,
            unreadable: false,
            mps_server: false,
            host: None,
            ends_at: NEVER,
            gpu: 0.0,
            demand: workload.demand,
            work: Work::Waiting,
            left: 0.0,
            work_at: match workload.demand {
                Demand::Idle => NEVER,
                Demand::Steady { .. } => now + 1,
                Demand::Bursts { gap, .. } => now + nanos(exponential(gap, rng)),
            },
            stretch: 0.0,
            plan: workload.memory,
            patient: workload.patient,
            context: workload.context,
            memory_at: now,
        }
    }

    fn turn(&self) -> f64 {
        self.demand.kernel().min(SLICE)
    }
}

/// A card without MIG, or a MIG instance.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) identity: Arc<GpuIdentity>,
    pub(super) card: usize,
    pub(super) total: u64,
    pub(super) reserved: u64,
    pub(super) processes: Vec<Process>,
    /// The worker of its latency canary, which never has work that counts.
    pub(super) canary: Option<Process>,
    pub(super) busy: f64,
    pub(super) outside_pods: f64,
    pub(super) contended: f64,
    pub(super) pressure: f64,
    pub(super) ooms: u64,
    /// Integrals over time: turns of processes outside of every pod, and a newcomer's mean wait.
    pub(super) outside_turns: f64,
    pub(super) expected_delay: f64,
    /// When something happens here next.
    pub(super) next: Nanos,
    overhead: Overhead,
    used: u64,
    settled: Nanos,
    /// Sum of the turns of all processes with work.
    circle: f64,
    /// Where the turn is in the circle, 0 to 1, seen from the canary's place.
    hand: f64,
    stalled_until: Nanos,
    /// What processes that have ended since the last sample had run.
    ended: Vec<(u64, f64)>,
    keep: Nanos,
    stretches: VecDeque<(Nanos, Nanos, Vec<Turn>)>,
}

impl Device {
    pub(super) fn new(
        identity: GpuIdentity,
        card: usize,
        total: u64,
        reserved: u64,
        overhead: Overhead,
    ) -> Self {
        Self {
            identity: Arc::new(identity),
            card,
            total,
            reserved,
            processes: Vec::new(),
            canary: None,
            busy: 0.0,
            outside_pods: 0.0,
            contended: 0.0,
            pressure: 0.0,
            ooms: 0,
            outside_turns: 0.0,
            expected_delay: 0.0,
            next: NEVER,
            overhead,
            used: 0,
            settled: 0,
            circle: 0.0,
            hand: 0.0,
            stalled_until: 0,
            ended: Vec::new(),
            keep: 0,
            stretches: VecDeque::new(),
        }
    }

    /// Adds a process if its context fits.
    pub(super) fn admit(&mut self, process: Process, now: Nanos, records: &mut Records) -> bool {
        self.settle(now, records);
        if !self.has_room(&process) {
            self.fail(process.tenant, records);
            return false;
        }
        self.processes.push(process);
        self.count_used();
        self.plan_ahead();
        true
    }

    /// Removes a process and counts its exit.
    pub(super) fn remove(&mut self, index: usize, now: Nanos, records: &mut Records) -> Process {
        self.settle(now, records);
        let pressed = self.under_pressure();
        let process = self.processes.swap_remove(index);
        if process.stretch > 0.0 {
            self.ended.push((process.id, process.stretch));
        }
        if let Some(slot) = process.tenant {
            let record = records.get(slot);
            record.exits += 1;
            record.exits_under_pressure += u64::from(pressed);
        }
        self.count_used();
        self.plan_ahead();
        process
    }

    /// Nobody runs until `until`: a fault is being handled.
    pub(super) fn stall(&mut self, now: Nanos, until: Nanos, records: &mut Records) {
        self.settle(now, records);
        self.stalled_until = until;
        self.plan_ahead();
    }

    /// Gives everybody the time up to `now`. Never called across an event of this device.
    pub(super) fn settle(&mut self, now: Nanos, records: &mut Records) {
        let from = self.settled;
        if now <= from {
            return;
        }
        self.settled = now;
        let elapsed = (now - from) as f64 * 1e-9;
        if self.under_pressure() {
            self.pressure += elapsed;
        }
        self.turn(from, now);
        if self.circle <= 0.0 || from < self.stalled_until {
            return;
        }
        records.stamp += 1;
        let stamp = records.stamp;
        let rate = EFFICIENCY / self.circle;
        let mut tenants = 0;
        for process in &mut self.processes {
            if process.work == Work::Waiting {
                continue;
            }
            let got = process.turn() * rate * elapsed;
            process.gpu += got;
            process.stretch += got;
            process.left -= got;
            let first = match process.tenant {
                Some(slot) => {
                    let record = records.get(slot);
                    record.gpu += got;
                    record.turns += process.turn() * elapsed;
                    let first = record.stamp != stamp;
                    record.stamp = stamp;
                    first
                }
                None => {
                    self.outside_pods += got;
                    self.outside_turns += process.turn() * elapsed;
                    true
                }
            };
            tenants += usize::from(first);
        }
        for process in &self.processes {
            let Some(slot) = process.tenant.filter(|_| process.work == Work::Running) else {
                continue;
            };
            let record = records.get(slot);
            if record.stamp == stamp {
                record.active += elapsed;
                record.contended += if tenants > 1 { elapsed } else { 0.0 };
                record.stamp = 0;
            }
        }
        self.busy += EFFICIENCY * elapsed;
        self.contended += if tenants > 1 { elapsed } else { 0.0 };
        self.note_stretch(from, now);
    }

    /// Lets happen what is due at `now`; the numbers of processes that end by it, and why.
    pub(super) fn happen(
        &mut self,
        now: Nanos,
        records: &mut Records,
        rng: &mut SmallRng,
    ) -> Vec<(u64, End)> {
        self.settle(now, records);
        let mut ends = Vec::new();
        for index in 0..self.processes.len() {
            let process = &mut self.processes[index];
            if process.ends_at <= now {
                ends.push((process.id, End::Done));
                continue;
            }
            if process.work_at <= now {
                (process.work, process.left, process.work_at) = match (process.demand, process.work)
                {
                    (Demand::Idle, _) => (Work::Waiting, 0.0, NEVER),
                    (Demand::Steady { .. }, _) => (Work::Running, f64::INFINITY, NEVER),
                    (Demand::Bursts { work, .. }, Work::Waiting) => {
                        (Work::Running, rng.random_range(work.0..=work.1), NEVER)
                    }
                    (Demand::Bursts { gap, .. }, Work::Running) => {
                        (Work::Waiting, 0.0, now + nanos(exponential(gap, rng)))
                    }
                };
            }
            if process.memory_at <= now && !self.memory_step(index, now, records, rng) {
                ends.push((self.processes[index].id, End::OutOfMemory));
            }
        }
        self.plan_ahead();
        ends
    }

    /// Recomputes when the next event is, after anything changed.
    fn plan_ahead(&mut self) {
        let now = self.settled;
        let running = |process: &&Process| process.work == Work::Running;
        self.circle = self
            .processes
            .iter()
            .filter(running)
            .map(Process::turn)
            .sum();
        let stalled = now < self.stalled_until;
        let mut next = if stalled { self.stalled_until } else { NEVER };
        for process in &mut self.processes {
            if process.work == Work::Running {
                process.work_at = if stalled || process.left == f64::INFINITY {
                    NEVER
                } else {
                    let rate = EFFICIENCY * process.turn() / self.circle;
                    now + nanos(process.left.max(0.0) / rate)
                };
            }
            next = next
                .min(process.work_at)
                .min(process.memory_at)
                .min(process.ends_at);
        }
        self.next = next;
    }
}
