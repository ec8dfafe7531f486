//! Pods of the simulated node: how they start, restart and end, and what the kubelet says.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;

use super::device::{End, Place, Process};
use super::names;
use super::plan::{Life, Qos, log_uniform, nanos};
use super::truth::{PodTruth, TenantKey};
use super::world::{Action, World};
use crate::model::{
    Allocations, Cause, ContainerAllocation, ContainerId, DeviceRef, Grant, PodUid, Reading,
};

/// How long one tenant's fault stops its neighbours (measured after Xid 31).
const FAULT_STALL: f64 = 0.149;

/// One container and the containers before it.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: Arc<str>,
    pub(super) id: ContainerId,
    pub(super) restarts: u32,
    /// The kubelet keeps the one before, and its log.
    pub(super) previous: Option<ContainerId>,
}

/// One pod, from its birth to the end of its logs.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) plan: usize,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) uid: PodUid,
    pub(super) qos: Qos,
    /// The one that may use a GPU first.
    pub(super) containers: Vec<Container>,
    /// The kubelet lists it no more; its logs are still there.
    pub(super) ended: bool,
    /// By device.
    tenants: BTreeMap<usize, usize>,
}

impl World {
    /// Starts a pod of a plan, and says its number.
    pub(super) fn start_pod(&mut self, index: usize) -> u64 {
        let plan = self.pod_plan(index).clone();
        let round = self.rounds[index];
        self.rounds[index] += 1;
        let namespace: Arc<str> = plan.namespace.as_str().into();
        let name: Arc<str> = plan.naming.next(round, &mut self.rng).into();
        let uid = PodUid::new(names::uuid(&mut self.rng));
        let containers: Vec<Container> = std::iter::once(plan.container)
            .chain(plan.sidecar)
            .map(|name| Container {
                name: name.into(),
                id: ContainerId::new(names::container_id(&mut self.rng)),
                restarts: 0,
                previous: None,
            })
            .collect();
        let mut tenants = BTreeMap::new();
        for device in plan.grant.map(|grant| grant.0).into_iter().chain(plan.runs) {
            let granted = plan.grant.filter(|grant| grant.0 == device);
            tenants.entry(device).or_insert_with(|| {
                self.records.open(
                    TenantKey {
                        gpu_uuid: self.devices[device].identity.uuid.clone(),
                        pod_uid: uid.clone(),
                        container: containers[0].name.clone(),
                    },
                    namespace.clone(),
                    name.clone(),
                    granted.map_or(0, |grant| grant.1),
                )
            });
        }
        let (workload_kind, workload) = plan.naming.workload();
        self.records.note_pod(PodTruth {
            namespace: namespace.clone(),
            pod: name.clone(),
            container: containers[0].name.clone(),
            uid: uid.clone(),
            workload: workload.into(),
            workload_kind,
        });
        let pod = Pod {
            plan: index,
            namespace,
            name,
            uid,
            qos: plan.qos,
            containers,
            ended: false,
            tenants,
        };
        let number = self.number();
        self.pods.insert(number, pod);
        self.allocations = None;
        self.start_processes(number);
        number
    }

    /// Starts the pod's first container again, under a new id.
    pub(super) fn start_container(&mut self, number: u64) {
        let id = ContainerId::new(names::container_id(&mut self.rng));
        let Some(pod) = self.pods.get_mut(&number).filter(|pod| !pod.ended) else {
            return;
        };
        let container = &mut pod.containers[0];
        container.previous = Some(std::mem::replace(&mut container.id, id));
        container.restarts += 1;
        self.start_processes(number);
    }

    fn start_processes(&mut self, number: u64) {
        let Some(pod) = self.pods.get(&number) else {
            return;
        };
        let plan = self.pod_plan(pod.plan).clone();
        let Some(device) = plan.runs else {
            return;
        };
        let tenant = pod.tenants.get(&device).copied();
        if self.cards[self.devices[device].card].down.is_some() {
            // CUDA does not initialise: the container fails at once.
            self.container_ended(number, End::Killed);
            return;
        }
        let lasts = match plan.life {
            Life::Service => None,
            Life::Job { run, .. } => Some(run),
            Life::Crash { after, .. } | Life::Recreated { after } => Some(after),
        };
        let lasts = lasts.map(|range| log_uniform(range, &mut self.rng));
        for index in 0..plan.processes {
            let (id, pid) = (self.number(), self.pid());
            let mut process = Process::new(id, pid, &plan.workload, self.now, &mut self.rng);
            process.started = self.ticks();
            process.place = Place::Pod(number);
            process.tenant = tenant;
            process.unreadable = plan.unreadable;
            process.memory_unknown = plan.memory_unknown;
            if let Some(lasts) = lasts.filter(|_| index == 0) {
                process.ends_at = self.now + nanos(lasts);
            }
            if !self.devices[device].admit(process, self.now, &mut self.records) {
                self.container_ended(number, End::OutOfMemory);
                return;
            }
        }
    }

    /// All processes of the pod's container end; what comes next is as its life has it.
    pub(super) fn container_ended(&mut self, number: u64, end: End) {
        let Some(pod) = self.pods.get(&number).filter(|pod| !pod.ended) else {
            return;
        };
        let (plan, restarts) = (pod.plan, pod.containers[0].restarts);
        let life = self.pod_plan(plan).life;
        let runs = self.pod_plan(plan).runs;
        for device in &mut self.devices {
            let of_pod = |place: &Place| matches!(place, Place::Pod(pod) if *pod == number);
            while let Some(index) = device
                .processes
                .iter()
                .position(|process| of_pod(&process.place))
            {
                device.remove(index, self.now, &mut self.records);
            }
        }
        match (life, end) {
            (Life::Job { gap, .. }, _) => {
                self.pod_ended(number);
                let gap = log_uniform(gap, &mut self.rng);
                self.later(nanos(gap), Action::StartPod(plan));
            }
            (Life::Recreated { .. }, End::Done) => {
                self.pod_ended(number);
                self.later(nanos(0.8), Action::StartPod(plan));
            }
            (Life::Crash { xid, .. }, End::Done) => {
                if let (Some(xid), Some(device)) = (xid, runs) {
                    let until = self.now + nanos(FAULT_STALL);
                    self.stall(device, until);
                    self.xid(self.devices[device].card, xid);
                }
                self.restart(number, restarts);
            }
            (Life::Crash { .. } | Life::Recreated { .. } | Life::Service, _) => {
                self.restart(number, restarts);
            }
        }
    }

    /// The kubelet's back-off, cut short: 1 s doubling to 16 s.
    fn restart(&mut self, number: u64, restarts: u32) {
        let wait = f64::from(1_u32 << restarts.min(4)) * self.rng.random_range(0.9..1.1);
        self.later(nanos(wait), Action::StartContainer(number));
    }

    fn pod_ended(&mut self, number: u64) {
        if let Some(pod) = self.pods.get_mut(&number) {
            pod.ended = true;
            for slot in pod.tenants.values() {
                self.records.close(*slot);
            }
            self.allocations = None;
            let keep = self.rng.random_range(5.0..15.0);
            self.later(nanos(keep), Action::ForgetPod(number));
        }
    }

    /// What the kubelet answers now.
    pub(super) fn allocations(&mut self) -> Reading<Arc<Allocations>> {
        if !self.kubelet_up {
            return Reading::Failed(Cause::NotFound);
        }
        if let Some(known) = &self.allocations {
            return Reading::Value(known.clone());
        }
        let world = &*self;
        let containers = world
            .pods
            .values()
            .filter(|pod| !pod.ended)
            .flat_map(|pod| {
                let grant = world.pod_plan(pod.plan).grant;
                pod.containers
                    .iter()
                    .enumerate()
                    .map(move |(index, container)| {
                        let grants = grant
                            .filter(|_| index == 0)
                            .map(|(device, replicas)| world.grant(device, replicas));
                        ContainerAllocation {
                            namespace: pod.namespace.clone(),
                            pod: pod.name.clone(),
                            container: container.name.clone(),
                            grants: grants.into_iter().collect(),
                            claims: Vec::new(),
                        }
                    })
            })
            .collect();
        let allocatable = (0..self.devices.len())
            .map(|device| {
                let card = &self.cards[self.devices[device].card];
                let grant = self.grant(device, card.replicas);
                (grant.device.clone(), grant)
            })
            .collect();
        let answer = Arc::new(Allocations {
            containers,
            allocatable,
        });
        self.allocations = Some(answer.clone());
        Reading::Value(answer)
    }

    fn grant(&self, device: usize, replicas: u32) -> Grant {
        let device = &self.devices[device];
        let identity = &device.identity;
        Grant {
            resource: match &identity.mig {
                Some(mig) => format!("nvidia.com/mig-{}", mig.profile).into(),
                None => self.plan.resource.into(),
            },
            device: DeviceRef::Uuid(identity.uuid.clone()),
            replicas,
            shared: self.cards[device.card].replicas > 1,
        }
    }
}
