//! A whole simulated node behind the seams of [`crate::model::seams`]: used by `demo` and by
//! tests that compare the agent's word with [`SimNode::truth`].
//!
//! **What it obeys.** Time is shared by process, in slices of about 2.4 ms; a kernel shorter than
//! the slice yields early. The driver's ring has one sample each 200 ms and one winner a sample.
//! A latency canary's probe waits until the turn comes to its own place in the circle of tenants:
//! uniform in it, half of it on the mean, as measured for up to three heavy, four medium and three
//! bursty neighbours. A probe keeps the wait that it was launched into, also where a tenant comes or
//! goes meanwhile, and costs nobody anything. Memory runs out. Processes end, PIDs come again, containers restart under new ids.
//! Figures marked as measured are of a real H200 (driver 580.159.04).
//!
//! **How.** Events in the order of time (work done, next burst, allocation, sample, pod ends);
//! between two events everybody's share is constant, and truth is its integral: a fluid model.
//! One random stream a node, and one of its canaries, seeded: the same scenario, seed and sequence of calls give the same
//! world. Time is what [`SimNode::advance`] is told; reads change nothing, except that in
//! scenarios with torn lists a read of a process list may bring a memory step forward.

mod canary;
mod cards;
mod device;
mod host;
mod names;
mod plan;
mod pods;
mod ring;
mod scenarios;
mod source;
mod truth;
mod witness;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{
    Allocations, CanarySource, GpuError, GpuSource, GpuUuid, HostFiles, Moment, Reading,
};
use canary::SimCanaries;
use host::SimHost;
use source::SimGpu;
use world::World;

pub use canary::CanarySettings;
pub use scenarios::{Scenario, scenarios};
pub use truth::{
    DeviceTruth, PodTruth, ProcessTruth, Stretch, TenantKey, TenantTruth, TrueOwner, Truth, Turn,
};

/// A scenario's name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scenario {name:?}: use one of {known}")]
pub struct UnknownScenario {
    /// What was asked for.
    pub name: String,
    /// All names there are, separated by commas.
    pub known: String,
}

/// A simulated node. Clones show the same node.
#[derive(Debug, Clone)]
pub struct SimNode {
    world: Arc<Mutex<World>>,
}

/// The world, also after another thread died with it in hand: each event leaves it whole.
fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimNode {
    /// The node of a scenario at `start`; its services are running already.
    ///
    /// # Errors
    /// [`UnknownScenario`], which lists the names there are.
    pub fn new(scenario: &str, seed: u64, start: Moment) -> Result<Self, UnknownScenario> {
        let found = scenarios().iter().find(|known| known.name == scenario);
        let Some(found) = found else {
            let known: Vec<&str> = scenarios().iter().map(|known| known.name).collect();
            return Err(UnknownScenario {
                name: scenario.to_owned(),
                known: known.join(", "),
            });
        };
        Ok(Self {
            world: Arc::new(Mutex::new(World::new(found.build, seed, start))),
        })
    }

    /// Runs the world up to `to.monotonic`; an earlier time does nothing. The wall clock follows
    /// by itself (`to.unix` is not read): see [`SimNode::now`] and [`SimNode::step_wall_clock`].
    pub fn advance(&self, to: Moment) {
        let mut world = lock(&self.world);
        let passed = to.monotonic.saturating_sub(world.origin());
        world.run(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX - 1));
    }

    /// The instant up to which the world has run, on both of its clocks.
    pub fn now(&self) -> Moment {
        let world = lock(&self.world);
        world.moment(world.now)
    }

    /// Steps the wall clock, and with it the driver's, as a time server would.
    pub fn step_wall_clock(&self, by_seconds: f64) {
        lock(&self.world).step_wall_clock(by_seconds);
    }

    /// How likely memory moves right after a process list was read, 0 to 1, instead of what the
    /// scenario says. 0: no torn lists but those of time passing between two calls.
    pub fn set_torn_chance(&self, chance: f64) {
        lock(&self.world).plan.torn_chance = chance.clamp(0.0, 1.0);
    }

    /// Handles of the cards that answer now; lost cards are left out. A handle dies with its
    /// card or driver and must be opened anew, as with the real driver.
    ///
    /// # Errors
    /// [`GpuError::DriverNotLoaded`] while the scenario has the driver unloaded.
    pub fn open(&self) -> Result<Vec<Box<dyn GpuSource>>, GpuError> {
        let cards = lock(&self.world).cards.len();
        let mut sources: Vec<Box<dyn GpuSource>> = Vec::new();
        for card in 0..cards {
            match SimGpu::open(&self.world, card) {
                Ok(source) => sources.push(Box::new(source)),
                Err(GpuError::DriverNotLoaded) => return Err(GpuError::DriverNotLoaded),
                Err(_) => {}
            }
        }
        Ok(sources)
    }

    /// As [`SimNode::open`]; none while the driver is not loaded.
    pub fn gpu_sources(&self) -> Vec<Box<dyn GpuSource>> {
        self.open().unwrap_or_default()
    }

    /// The node's latency canaries, none of which runs before it is asked for. From then on the
    /// agent's own pod is on the node. All handles are of the same canaries, as the first call
    /// asked for them.
    pub fn canary(&self, settings: CanarySettings) -> Box<dyn CanarySource> {
        Box::new(SimCanaries::new(self.world.clone(), settings))
    }

    /// /proc, /var/log/pods and /var/log/containers as they are at the time of each read.
    pub fn host_files(&self) -> Arc<dyn HostFiles> {
        Arc::new(SimHost::new(self.world.clone()))
    }

    /// The kubelet's answer now; `Failed(NotFound)` while it is down.
    pub fn allocations(&self) -> Reading<Arc<Allocations>> {
        lock(&self.world).allocations()
    }

    /// What really happens now.
    pub fn truth(&self) -> Truth {
        lock(&self.world).truth()
    }

    /// Who takes turns on a device now, for a latency canary. Empty: the device is idle, unknown,
    /// or stalled by a fault.
    pub fn queue(&self, gpu: &GpuUuid) -> Vec<Turn> {
        let world = lock(&self.world);
        world
            .device(gpu)
            .map(|device| device.queue())
            .unwrap_or_default()
    }

    /// Keeps each device's stretches of the last `keep` from now on (none by default).
    pub fn keep_stretches(&self, keep: Duration) {
        let keep = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
        for device in &mut lock(&self.world).devices {
            device.keep_stretches(keep);
        }
    }

    /// The kept stretches of a device, oldest first.
    pub fn stretches(&self, gpu: &GpuUuid) -> Vec<Stretch> {
        let world = lock(&self.world);
        let origin = world.origin();
        let device = world.device(gpu);
        device
            .map(|device| device.stretches(origin))
            .unwrap_or_default()
    }
}
