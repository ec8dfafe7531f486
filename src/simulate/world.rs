//! The simulated node: cards, clock, and the loop that runs events in the order of time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::canary::Canaries;
use super::cards;
use super::device::{Device, End, Place, Process};
use super::plan::{Fault, HostPlan, NEVER, Nanos, NodePlan, PodPlan, nanos};
use super::pods::Pod;
use super::ring::Ring;
use super::truth::Records;
use crate::model::{
    Allocations, CanaryReason, GpuError, GpuIdentity, HostPid, Moment, RingRead, RingRow, XidEvent,
};

/// The node was booted so long before the simulation starts.
const UPTIME: Nanos = 3 * 86_400 * 1_000_000_000;
/// XIDs that nobody has fetched; older ones are lost, as the driver's event queue loses them.
const XID_QUEUE: usize = 64;

/// What the agenda holds besides what devices and rings do by themselves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    StartPod(usize),
    StartContainer(u64),
    /// The pod's object and its logs go away.
    ForgetPod(u64),
    StartHost(usize),
    Fault(Fault),
}

/// One physical card.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) identity: Arc<GpuIdentity>,
    /// Indexes into [`World::devices`].
    pub(super) devices: Vec<usize>,
    pub(super) replicas: u32,
    /// `None` under MIG.
    pub(super) ring: Option<Ring>,
    /// Why it does not answer.
    pub(super) down: Option<GpuError>,
    /// Handles opened before the last fault are dead for ever, with this error.
    pub(super) generation: u32,
    pub(super) last_fault: GpuError,
    pub(super) xids: Vec<XidEvent>,
    pub(super) xid_totals: BTreeMap<u32, u64>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: NodePlan,
    pub(super) cards: Vec<Card>,
    pub(super) devices: Vec<Device>,
    pub(super) pods: BTreeMap<u64, Pod>,
    pub(super) records: Records,
    pub(super) rng: SmallRng,
    /// Once the agent has asked for them.
    pub(super) canaries: Option<Canaries>,
    pub(super) kubelet_up: bool,
    /// Built when asked for, dropped when pods change.
    pub(super) allocations: Option<Arc<Allocations>>,
    /// Pods of each plan so far.
    pub(super) rounds: Vec<u32>,
    pub(super) now: Nanos,
    start: Moment,
    wall_step: i128,
    agenda: BTreeMap<(Nanos, u64), Action>,
    last_id: u64,
    last_pid: u32,
    ring_reads: u32,
}

impl World {
    pub(super) fn new(
        build: impl FnOnce(&mut SmallRng) -> NodePlan,
        seed: u64,
        start: Moment,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let plan = build(&mut rng);
        let (cards, devices) = cards::build(&plan, &mut rng);
        let mut world = Self {
            rounds: vec![0; plan.pods.len()],
            last_pid: *plan.pids.start(),
            plan,
            cards,
            devices,
            pods: BTreeMap::new(),
            records: Records::default(),
            rng,
            canaries: None,
            kubelet_up: true,
            allocations: None,
            now: 0,
            start,
            wall_step: 0,
            agenda: BTreeMap::new(),
            last_id: 0,
            ring_reads: 0,
        };
        for index in 0..world.plan.hosts.len() {
            world.later(0, Action::StartHost(index));
        }
        for index in 0..world.plan.pods.len() {
            let begins = (world.plan.pods[index].begins * 1e9) as Nanos;
            world.later(begins, Action::StartPod(index));
        }
        for (at, fault) in world.plan.faults.clone() {
            world.later(nanos(at), Action::Fault(fault));
        }
        world.run(0);
        world
    }

    /// The monotonic time at which the simulation started.
    pub(super) fn origin(&self) -> Duration {
        self.start.monotonic
    }

    /// The instant `at` on both clocks, steps of the wall clock so far included.
    pub(super) fn moment(&self, at: Nanos) -> Moment {
        let wall = self.start.unix.as_nanos() as i128 + i128::from(at) + self.wall_step;
        Moment {
            monotonic: self.start.monotonic + Duration::from_nanos(at),
            unix: Duration::from_nanos(wall.clamp(0, i128::from(u64::MAX)) as u64),
        }
    }

    pub(super) fn step_wall_clock(&mut self, seconds: f64) {
        self.wall_step += (seconds * 1e9) as i128;
    }

    /// A new number for a pod or process.
    pub(super) fn number(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Puts an action on the agenda, `after` nanoseconds from now.
    pub(super) fn later(&mut self, after: Nanos, action: Action) {
        let number = self.number();
        self.agenda
            .insert((self.now.saturating_add(after), number), action);
    }

    /// Runs everything that is due up to and at `to`.
    pub(super) fn run(&mut self, to: Nanos) {
        loop {
            let agenda = self.agenda.keys().next().map_or(NEVER, |(at, _)| *at);
            let device = earliest(self.devices.iter().map(|device| device.next));
            let ring = earliest(self.cards.iter().map(Card::next_sample));
            let canary = self.canaries.as_ref().map_or((0, NEVER), Canaries::next);
            let next = agenda.min(device.1).min(ring.1).min(canary.1);
            if next > to {
                break;
            }
            self.now = self.now.max(next);
            if agenda == next {
                if let Some((_, action)) = self.agenda.pop_first() {
                    self.act(action);
                }
            } else if device.1 == next {
                self.happen(device.0);
            } else if ring.1 == next {
                self.sample(ring.0);
            } else {
                self.canary_happens(canary.0);
            }
        }
        self.now = self.now.max(to);
        for device in &mut self.devices {
            device.settle(self.now, &mut self.records);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartPod(plan) => {
                self.start_pod(plan);
            }
            Action::StartContainer(pod) => self.start_container(pod),
            Action::ForgetPod(pod) => {
                self.pods.remove(&pod);
                self.allocations = None;
            }
            Action::StartHost(index) => self.start_host(index),
            Action::Fault(fault) => self.fault(fault),
        }
    }

    fn happen(&mut self, index: usize) {
        let ends = self.devices[index].happen(self.now, &mut self.records, &mut self.rng);
        for (id, end) in ends {
            self.process_ended(index, id, end);
        }
    }

    fn sample(&mut self, card: usize) {
        let wall = self.moment(self.now).unix;
        let Some(&index) = self.cards[card].devices.first() else {
            return;
        };
        let device = &mut self.devices[index];
        let mut busy = device.take_stretch(self.now, &mut self.records);
        if let Some(server) = device.processes.iter().find(|process| process.mps_server) {
            for (id, _) in &mut busy {
                *id = server.id;
            }
        }
        if let Some(ring) = &mut self.cards[card].ring {
            let canaries = &mut self.canaries;
            let last = |idle| canaries.as_mut()?.ran_last(index, device, idle);
            ring.sample(&busy, last, wall, &mut self.rng);
        }
    }

    /// What a read of the ring gives.
    pub(super) fn ring(&mut self, card: usize, after: Duration) -> Result<RingRead, GpuError> {
        let card = &self.cards[card];
        let (Some(ring), Some(&device)) = (&card.ring, card.devices.first()) else {
            return Err(GpuError::Unsupported);
        };
        let processes = &self.devices[device].processes;
        let mut read = ring.read(after, |id| {
            let process = processes.iter().find(|process| process.id == id)?;
            Some((process.pid, process.began))
        });
        self.ring_reads = self.ring_reads.wrapping_add(1);
        let every = self.plan.garbage_every;
        if every > 0 && self.ring_reads.is_multiple_of(every) {
            read.rows.push(RingRow {
                pid: HostPid(1_634_038_370),
                last_won: Duration::from_micros(1),
                sm_percent: 2_053_731_104,
            });
        }
        Ok(read)
    }

    /// Memory moves just after a list was read, now and then.
    pub(super) fn list_was_read(&mut self, device: usize) {
        if self.plan.torn_chance > 0.0 && self.rng.random_bool(self.plan.torn_chance) {
            self.devices[device].hurry_memory(self.now, &mut self.records, &mut self.rng);
        }
    }

    /// The next free PID: upwards, and from the start again after the end of the range.
    pub(super) fn pid(&mut self) -> HostPid {
        let taken: BTreeSet<u32> = self
            .devices
            .iter()
            .flat_map(Device::contexts)
            .map(|process| process.pid)
            .chain(self.starting_canaries())
            .map(|pid| pid.0)
            .collect();
        let (first, last) = (*self.plan.pids.start(), *self.plan.pids.end());
        // Other programs of the node take PIDs too.
        let mut pid = self.last_pid + self.rng.random_range(1..=3);
        loop {
            if pid > last {
                pid = first + (pid - last - 1) % (last - first + 1);
            }
            if !taken.contains(&pid) {
                self.last_pid = pid;
                return HostPid(pid);
            }
            pid += 1;
        }
    }

    /// Clock ticks after boot, 100 a second.
    pub(super) fn ticks(&self) -> u64 {
        (UPTIME + self.now) / 10_000_000
    }

    fn start_host(&mut self, index: usize) {
        let HostPlan {
            device,
            cgroup,
            workload,
            mps_server,
        } = self.plan.hosts[index].clone();
        if self.cards[self.devices[device].card].down.is_some() {
            self.later(nanos(5.0), Action::StartHost(index));
            return;
        }
        let pid = if cgroup.is_some() {
            self.pid()
        } else {
            HostPid(0)
        };
        let mut process = Process::new(self.number(), pid, &workload, self.now, &mut self.rng);
        process.started = self.ticks();
        process.place = cgroup.map_or(Place::Nobody, |path| Place::Host(path.into()));
        process.mps_server = mps_server;
        process.host = Some(index);
        if !self.devices[device].admit(process, self.now, &mut self.records) {
            self.later(nanos(5.0), Action::StartHost(index));
        }
    }

    /// A process of `device` ends, and with it its container.
    pub(super) fn process_ended(&mut self, device: usize, id: u64, end: End) {
        let processes = &self.devices[device].processes;
        let Some(index) = processes.iter().position(|process| process.id == id) else {
            return;
        };
        if let Place::Pod(pod) = processes[index].place {
            self.container_ended(pod, end);
            return;
        }
        let host = processes[index].host;
        self.devices[device].remove(index, self.now, &mut self.records);
        if let Some(host) = host {
            self.later(nanos(5.0), Action::StartHost(host));
        }
    }

    /// Reports an XID of a card.
    pub(super) fn xid(&mut self, card: usize, xid: u32) {
        let card = &mut self.cards[card];
        *card.xid_totals.entry(xid).or_default() += 1;
        if card.xids.len() == XID_QUEUE {
            card.xids.remove(0);
        }
        card.xids.push(XidEvent { xid });
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Xid(card, xid) => self.xid(card, xid),
            Fault::CardLost(card) => self.take_down(card, GpuError::Lost),
            Fault::CardBack(card) => self.bring_up(card),
            Fault::DriverUnloaded => {
                for card in 0..self.cards.len() {
                    self.take_down(card, GpuError::DriverNotLoaded);
                }
            }
            Fault::DriverLoaded => {
                for card in 0..self.cards.len() {
                    self.bring_up(card);
                }
            }
            Fault::Stall(card, seconds) => {
                for device in self.cards[card].devices.clone() {
                    self.stall(device, self.now + nanos(seconds));
                }
            }
            Fault::CanaryKilled(device) => self.canary_dies(device, CanaryReason::Failed),
            Fault::KubeletDown => self.kubelet_up = false,
            Fault::KubeletUp => self.kubelet_up = true,
        }
    }

    fn take_down(&mut self, card: usize, error: GpuError) {
        self.cards[card].down = Some(error);
        self.cards[card].last_fault = error;
        self.cards[card].generation += 1;
        self.cards[card].ring = None;
        for device in self.cards[card].devices.clone() {
            let processes = self.devices[device].processes.iter();
            let ids: Vec<u64> = processes.map(|process| process.id).collect();
            for id in ids {
                self.process_ended(device, id, End::Killed);
            }
            self.canary_dies(device, CanaryReason::GpuDown);
        }
    }

    fn bring_up(&mut self, card: usize) {
        if self.cards[card].down.take().is_none() {
            return;
        }
        // Events from before were for handles that are dead.
        self.cards[card].xids.clear();
        if self.cards[card].identity.mig_enabled != Some(true) {
            for device in self.cards[card].devices.clone() {
                self.devices[device].take_stretch(self.now, &mut self.records);
            }
            let offset = self.rng.random();
            self.cards[card].ring = Some(Ring::new(self.now, offset));
        }
    }

    /// What the plan says of a pod.
    pub(super) fn pod_plan(&self, plan: usize) -> &PodPlan {
        &self.plan.pods[plan]
    }
}

impl Card {
    fn next_sample(&self) -> Nanos {
        self.ring.as_ref().map_or(NEVER, |ring| ring.next)
    }
}

/// The first of the earliest.
pub(super) fn earliest(times: impl Iterator<Item = Nanos>) -> (usize, Nanos) {
    times
        .enumerate()
        .min_by_key(|(_, at)| *at)
        .unwrap_or((0, NEVER))
}
