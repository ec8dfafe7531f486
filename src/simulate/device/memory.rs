//! Framebuffer of a device: who holds what, and what fails when it runs out.

use rand::Rng;
use rand::rngs::SmallRng;

use super::{Device, FLOOR, Process};
use crate::model::{Bytes, Cause, Memory, RawProcess, Reading};
use crate::simulate::plan::{MIB, MemoryPlan, NEVER, Nanos, exponential, nanos};
use crate::simulate::truth::Records;

impl Device {
    pub(in crate::simulate) fn unexplained(&self) -> u64 {
        self.overhead.of(self.contexts().count())
    }

    /// Every process with a context.
    pub(in crate::simulate) fn contexts(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().chain(&self.canary)
    }

    /// Whether another context fits.
    pub(super) fn has_room(&self, process: &Process) -> bool {
        let more = self.overhead.of(self.contexts().count() + 1) - self.unexplained();
        process.memory + more <= self.free()
    }

    /// Adds the worker of a canary if its context fits.
    pub(in crate::simulate) fn admit_canary(
        &mut self,
        worker: Process,
        now: Nanos,
        records: &mut Records,
    ) -> bool {
        self.settle(now, records);
        let fits = self.has_room(&worker);
        if fits {
            self.canary = Some(worker);
            self.count_used();
        }
        fits
    }

    /// The worker of a canary ends.
    pub(in crate::simulate) fn remove_canary(&mut self, now: Nanos, records: &mut Records) {
        self.settle(now, records);
        self.canary = None;
        self.count_used();
    }

    pub(in crate::simulate) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn free(&self) -> u64 {
        (self.total - self.reserved).saturating_sub(self.used)
    }

    pub(in crate::simulate) fn under_pressure(&self) -> bool {
        self.free() < self.total / FLOOR
    }

    pub(in crate::simulate) fn memory(&self) -> Memory {
        Memory {
            total: Bytes(self.total),
            reserved: Reading::Value(Bytes(self.reserved)),
            used: Bytes(self.used),
            free: Bytes(self.free()),
        }
    }

    pub(in crate::simulate) fn rows(&self, into: &mut Vec<RawProcess>) {
        into.extend(self.contexts().map(|process| RawProcess {
            pid: process.pid,
            kind: process.kind,
            used: if process.memory_unknown {
                Reading::Failed(Cause::NotAvailable)
            } else {
                Reading::Value(Bytes(process.memory))
            },
        }));
    }

    pub(super) fn count_used(&mut self) {
        let rows: u64 = self.contexts().map(|process| process.memory).sum();
        self.used = rows + self.unexplained();
    }

    pub(super) fn fail(&mut self, tenant: Option<usize>, records: &mut Records) {
        self.ooms += 1;
        if let Some(slot) = tenant {
            records.get(slot).ooms += 1;
        }
    }

    /// The next step of the process whose step is nearest, before its time. For lists that
    /// memory moves under; a step that fails leaves all as it was.
    pub(in crate::simulate) fn hurry_memory(
        &mut self,
        now: Nanos,
        records: &mut Records,
        rng: &mut SmallRng,
    ) {
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
    pub(super) fn memory_step(
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
}
