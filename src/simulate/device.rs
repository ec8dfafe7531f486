//! One schedulable device: its processes, their memory, and who runs when.
//!
//! A fluid model of time-slicing. Between two events the set of processes with work is constant;
//! they take turns in a circle, each for its kernel or a whole slice, whichever is shorter, so
//! each receives time in proportion to its turn. Truth is the integral of just that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::plan::{Demand, MIB, MemoryPlan, NEVER, Nanos, Overhead, Workload, exponential, nanos};
use super::truth::{Records, Stretch, Turn};
use crate::model::{Bytes, Cause, ContextKind, GpuIdentity, HostPid, Memory, RawProcess, Reading};

/// A time slice in seconds (measured: about 2 ms).
const SLICE: f64 = 2e-3;
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
    pub(super) fn new(id: u64, pid: HostPid, workload: &Workload, now: Nanos) -> Self {
        Self {
            id,
            pid,
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
                Demand::Steady { .. } | Demand::Bursts { .. } => now + 1,
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
    pub(super) busy: f64,
    pub(super) outside_pods: f64,
    pub(super) contended: f64,
    pub(super) pressure: f64,
    pub(super) ooms: u64,
    /// When something happens here next.
    pub(super) next: Nanos,
    overhead: Overhead,
    used: u64,
    settled: Nanos,
    /// Sum of the turns of all processes with work.
    circle: f64,
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
            busy: 0.0,
            outside_pods: 0.0,
            contended: 0.0,
            pressure: 0.0,
            ooms: 0,
            next: NEVER,
            overhead,
            used: 0,
            settled: 0,
            circle: 0.0,
            stalled_until: 0,
            ended: Vec::new(),
            keep: 0,
            stretches: VecDeque::new(),
        }
    }

    pub(super) fn unexplained(&self) -> u64 {
        self.overhead.of(self.processes.len())
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    fn free(&self) -> u64 {
        (self.total - self.reserved).saturating_sub(self.used)
    }

    pub(super) fn under_pressure(&self) -> bool {
        self.free() < self.total / FLOOR
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            total: Bytes(self.total),
            reserved: Reading::Value(Bytes(self.reserved)),
            used: Bytes(self.used),
            free: Bytes(self.free()),
        }
    }

    pub(super) fn rows(&self, into: &mut Vec<RawProcess>) {
        into.extend(self.processes.iter().map(|process| RawProcess {
            pid: process.pid,
            kind: process.kind,
            used: if process.memory_unknown {
                Reading::Failed(Cause::NotAvailable)
            } else {
                Reading::Value(Bytes(process.memory))
            },
        }));
    }

    fn count_used(&mut self) {
        let rows: u64 = self.processes.iter().map(|process| process.memory).sum();
        self.used = rows + self.unexplained();
    }

    /// Adds a process if its context fits.
    pub(super) fn admit(&mut self, process: Process, now: Nanos, records: &mut Records) -> bool {
        self.settle(now, records);
        let before = self.unexplained();
        let more = self.overhead.of(self.processes.len() + 1) - before;
        if process.memory + more > self.free() {
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

    fn fail(&mut self, tenant: Option<usize>, records: &mut Records) {
        self.ooms += 1;
        if let Some(slot) = tenant {
            records.get(slot).ooms += 1;
        }
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
                    let first = record.stamp != stamp;
                    record.stamp = stamp;
                    first
                }
                None => {
                    self.outside_pods += got;
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

    /// The next step of the process whose step is nearest, before its time. For lists that
    /// memory moves under; a step that fails leaves all as it was.
    pub(super) fn hurry_memory(&mut self, now: Nanos, records: &mut Records, rng: &mut SmallRng) {
        self.settle(now, records);
        let nearest = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.memory_at != NEVER && process.memory_at > now)
            .min_by_key(|(_, process)| process.memory_at)
            .map(|(index, _)| index);
        if let Some(index) = nearest {
            let patient = std::mem::replace(&mut self.processes[index].patient, true);
            self.memory_step(index, now, records, rng);
            self.processes[index].patient = patient;
            self.plan_ahead();
        }
    }

    /// One allocation or release; false where the process gives up.
    fn memory_step(
        &mut self,
        index: usize,
        now: Nanos,
        records: &mut Records,
        rng: &mut SmallRng,
    ) -> bool {
        let free = self.free();
        let process = &mut self.processes[index];
        let held = process.memory - process.context;
        let (wanted, next) = match process.plan {
            MemoryPlan::Flat { working } => (working * MIB, NEVER),
            MemoryPlan::Sway {
                low,
                high,
                step,
                every,
            } => {
                let wanted = if held < low * MIB {
                    low * MIB
                } else if rng.random::<bool>() {
                    (held + step * MIB).min(high * MIB)
                } else {
                    held.saturating_sub(step * MIB).max(low * MIB)
                };
                (wanted, now + nanos(exponential(every, rng)))
            }
            MemoryPlan::Grow {
                step,
                ceiling,
                every,
            } => {
                let more = held + step * MIB;
                let wanted = if more > ceiling * MIB { 0 } else { more };
                (wanted, now + nanos(every * rng.random_range(0.5..1.5)))
            }
        };
        let fits = wanted.saturating_sub(held) <= free;
        process.memory_at = if fits || next != NEVER {
            next
        } else {
            now + nanos(exponential(2.0, rng))
        };
        if fits {
            process.memory = process.context + wanted;
            self.count_used();
            return true;
        }
        let (tenant, patient) = (process.tenant, process.patient);
        self.fail(tenant, records);
        patient
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

    /// Seconds that each process ran since the last call: what the ring's sample is drawn from.
    pub(super) fn take_stretch(&mut self, now: Nanos, records: &mut Records) -> Vec<(u64, f64)> {
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
    pub(super) fn queue(&self) -> Vec<Turn> {
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
    pub(super) fn keep_stretches(&mut self, keep: Nanos) {
        self.keep = keep;
        if keep == 0 {
            self.stretches.clear();
        }
    }

    fn note_stretch(&mut self, from: Nanos, to: Nanos) {
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
    pub(super) fn stretches(&self, origin: Duration) -> Vec<Stretch> {
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
