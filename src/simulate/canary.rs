//! The latency canaries of the simulated node, behind the agent's seam.
//!
//! A worker is a process of the simulated host, in the agent's own pod: it has a PID and a cgroup,
//! stands in the process list with its context's framebuffer, and takes no time. Yet it wins
//! samples of the ring: on a card that is idle between two kernels of a tenant, the ring names who
//! ran last. Its probes come at exponential gaps and wait in the same queue as everybody's kernels.
//!
//! Canaries draw from a random stream of their own, so what tenants do stays what it was, as far
//! as a tenant's memory allows.

mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::device::{Device, Place, Process};
use super::lock;
use super::names::Naming;
use super::plan::{Demand, MIB, MemoryPlan, Nanos, PodPlan, Workload};
use super::world::World;
use crate::model::{
    CanaryReason, CanarySource, CanaryState, CanaryWindow, CanaryWish, Cause, HostPid, Moment,
    Reading, Source, SourceHealth,
};
use worker::{Canary, Stage};

#[cfg(test)]
mod tests;

/// Framebuffer of a worker's context (measured, with the context's limits cut).
const CONTEXT: u64 = 254 * MIB;
/// Seconds for which a tenant that does not fill the card leaves it idle at a time. Beside gaps of
/// 15 and 80 ms ten probes a second took 8 % and 31 % of a tenant's samples (measured).
const GAP: f64 = 0.05;

/// How simulated canaries probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CanarySettings {
    /// Probes a second, on the mean.
    pub rate: f64,
    /// Of the canaries' own random stream.
    pub seed: u64,
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self {
            rate: 10.0,
            seed: 1,
        }
    }
}

/// All canaries of a node.
#[derive(Debug)]
pub(super) struct Canaries {
    rate: f64,
    rng: SmallRng,
    /// The agent's own pod.
    pod: u64,
    /// By device.
    devices: Vec<Canary>,
    errors: BTreeMap<Arc<str>, u64>,
    last_probe: Option<Nanos>,
}

impl Canaries {
    /// When something happens next, and on which device.
    pub(super) fn next(&self) -> (usize, Nanos) {
        super::world::earliest(self.devices.iter().map(Canary::next))
    }

    /// The canary's process, where its probe was the last to run on a device that was idle for this
    /// part of the time.
    pub(super) fn ran_last(&mut self, index: usize, device: &Device, idle: f64) -> Option<u64> {
        if !matches!(self.devices.get(index)?.stage, Stage::Probing { .. }) {
            return None;
        }
        let worker = device
            .processes
            .iter()
            .find(|process| matches!(process.place, Place::Pod(pod) if pod == self.pod))?;
        let probed = self.rate * GAP / (1.0 + self.rate * GAP);
        (self.rng.random::<f64>() < idle * probed).then_some(worker.id)
    }

    fn failed(&mut self, reason: &str) {
        *self.errors.entry(reason.into()).or_insert(0) += 1;
    }
}

/// The seam.
pub(super) struct SimCanaries {
    world: Arc<Mutex<World>>,
}

impl SimCanaries {
    /// Puts the agent's pod on the node, unless it is there already.
    pub(super) fn new(world: Arc<Mutex<World>>, settings: CanarySettings) -> Self {
        lock(&world).add_canaries(settings);
        Self { world }
    }
}

impl CanarySource for SimCanaries {
    fn steer(&mut self, wishes: Vec<CanaryWish>) {
        lock(&self.world).steer(&wishes);
    }

    fn collect(&mut self, _now: Moment) -> (Vec<CanaryWindow>, SourceHealth) {
        lock(&self.world).collect_canaries()
    }
}

impl World {
    fn add_canaries(&mut self, settings: CanarySettings) {
        if self.canaries.is_some() {
            return;
        }
        let base = "slicewatch".to_owned();
        self.plan.pods.push(PodPlan {
            container: "agent",
            grant: None,
            runs: None,
            ..PodPlan::new("slicewatch", Naming::DaemonSet { base }, 0, workload())
        });
        self.rounds.push(0);
        let index = self.plan.pods.len() - 1;
        self.canaries = Some(Canaries {
            rate: settings.rate,
            rng: SmallRng::seed_from_u64(settings.seed),
            pod: 0,
            devices: self.devices.iter().map(|_| Canary::default()).collect(),
            errors: BTreeMap::new(),
            last_probe: None,
        });
        self.swap_rng();
        let pod = self.start_pod(index);
        self.swap_rng();
        if let Some(canaries) = &mut self.canaries {
            canaries.pod = pod;
        }
    }

    /// What the canaries draw, they draw from their own stream: swapped in, and out again.
    fn swap_rng(&mut self) {
        if let Some(canaries) = &mut self.canaries {
            std::mem::swap(&mut self.rng, &mut canaries.rng);
        }
    }

    /// PIDs of workers that have no context yet.
    pub(super) fn starting_canaries(&self) -> impl Iterator<Item = HostPid> {
        let canaries = self.canaries.iter().flat_map(|all| &all.devices);
        canaries.filter_map(Canary::starting)
    }

    fn steer(&mut self, wishes: &[CanaryWish]) {
        for index in 0..self.devices.len() {
            let uuid = &self.devices[index].identity.uuid;
            let wish = wishes.iter().find(|wish| wish.gpu == *uuid);
            let wish = wish.map(|wish| (wish.state, wish.reason));
            let is_down = self.cards[self.devices[index].card].down.is_some();
            let Some(canaries) = &mut self.canaries else {
                return;
            };
            let canary = &mut canaries.devices[index];
            let was = std::mem::replace(&mut canary.wish, wish);
            let wanted = |wish| matches!(wish, Some((CanaryState::Running, _)));
            if !wanted(wish) {
                canary.stop(&mut self.devices[index], self.now, &mut self.records);
            } else if !wanted(was) && is_down {
                canary.retry(self.now, CanaryState::Off, CanaryReason::GpuDown);
            } else if !wanted(was) {
                self.start_canary(index);
            }
        }
    }

    /// A worker starts: it has a PID, and a second later a context.
    fn start_canary(&mut self, index: usize) {
        let (now, started) = (self.now, self.ticks());
        self.swap_rng();
        let (number, pid) = (self.number(), self.pid());
        self.swap_rng();
        let Some(canaries) = &mut self.canaries else {
            return;
        };
        let mut process = Process::new(number, pid, &workload(), now, &mut canaries.rng);
        process.started = started;
        process.place = Place::Pod(canaries.pod);
        canaries.devices[index].start(process, now);
    }

    /// What is due for a device's canary now.
    pub(super) fn canary_happens(&mut self, index: usize) {
        let now = self.now;
        let is_down = self.cards[self.devices[index].card].down.is_some();
        let Some(canaries) = &mut self.canaries else {
            return;
        };
        let (canary, device) = (&mut canaries.devices[index], &mut self.devices[index]);
        match &mut canary.stage {
            Stage::Waiting { .. } if is_down => {
                canary.retry(now, CanaryState::Off, CanaryReason::GpuDown);
            }
            Stage::Waiting { .. } => self.start_canary(index),
            Stage::Starting { process, .. } => {
                let mut process = process.clone();
                process.began = now;
                if device.admit_canary(*process, now, &mut self.records) {
                    canary.calibrate(now);
                } else {
                    canary.stop(device, now, &mut self.records);
                    canary.retry(now, CanaryState::Yielded, CanaryReason::OutOfMemory);
                    canaries.failed("out_of_memory");
                }
            }
            Stage::Calibrating { .. } => canary.probe(now, canaries.rate, &mut canaries.rng),
            Stage::Probing { .. } => {
                canary.launch(device, now, canaries.rate, &mut canaries.rng);
                canaries.last_probe = Some(now);
            }
            Stage::Absent => {}
        }
    }

    /// A device's worker ends by itself, or with its card.
    pub(super) fn canary_dies(&mut self, index: usize, reason: CanaryReason) {
        let now = self.now;
        let Some(canaries) = &mut self.canaries else {
            return;
        };
        let canary = &mut canaries.devices[index];
        if canary.lives() {
            canary.stop(&mut self.devices[index], now, &mut self.records);
            canary.retry(now, CanaryState::Off, reason);
            canaries.failed("worker_died");
        }
    }

    /// Nobody runs on the device until `until`, probes that are on their way neither.
    pub(super) fn stall(&mut self, index: usize, until: Nanos) {
        let now = self.now;
        self.devices[index].stall(now, until, &mut self.records);
        if let Some(canaries) = &mut self.canaries {
            canaries.devices[index].hold(now, until);
        }
    }

    fn collect_canaries(&mut self) -> (Vec<CanaryWindow>, SourceHealth) {
        let (now, origin) = (self.now, self.origin());
        let mut windows = Vec::new();
        let mut health = SourceHealth {
            source: Source::Canary,
            up: Reading::Value(()),
            detail: "".into(),
            errors: BTreeMap::new(),
            duration: None,
            last_success: None,
        };
        let Some(canaries) = &mut self.canaries else {
            return (windows, health);
        };
        for (canary, device) in canaries.devices.iter_mut().zip(&self.devices) {
            windows.extend(canary.collect(&device.identity.uuid, origin, now));
        }
        health.errors = canaries.errors.clone();
        let last_probe = canaries.last_probe;
        let died = |window: &CanaryWindow| window.reason == CanaryReason::Failed;
        if windows.iter().any(died) {
            health.up = Reading::Failed(Cause::Other);
            health.detail = "a canary's worker died, and is started again".into();
        }
        health.last_success = last_probe.map(|at| self.moment(at).unix);
        (windows, health)
    }
}

fn workload() -> Workload {
    let flat = MemoryPlan::Flat { working: 0 };
    Workload {
        context: CONTEXT,
        ..Workload::cuda("slicewatch", Demand::Idle, flat)
    }
}
