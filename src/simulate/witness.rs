//! From the world to [`Truth`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::device::{Device, Place, Process};
use super::truth::{DeviceTruth, ProcessTruth, TenantTruth, TrueOwner, Truth};
use super::world::World;
use crate::model::{Bytes, GpuSeconds, GpuUuid, StartTime};

impl World {
    /// The device of this UUID.
    pub(super) fn device(&self, gpu: &GpuUuid) -> Option<&Device> {
        self.devices
            .iter()
            .find(|device| device.identity.uuid == *gpu)
    }

    /// Everything that is true now.
    pub(super) fn truth(&self) -> Truth {
        let mut tenants: BTreeMap<usize, TenantTruth> = self
            .records
            .iter()
            .map(|(slot, record)| {
                let tenant = TenantTruth {
                    namespace: record.namespace.clone(),
                    pod: record.pod.clone(),
                    memory: Bytes(0),
                    gpu_seconds: GpuSeconds(record.gpu),
                    active: Duration::from_secs_f64(record.active),
                    contended: Duration::from_secs_f64(record.contended),
                    turn_seconds: record.turns,
                    processes: Vec::new(),
                    granted: record.granted,
                    ooms: record.ooms,
                    exits: record.exits,
                    exits_under_pressure: record.exits_under_pressure,
                    present: record.present,
                };
                (slot, tenant)
            })
            .collect();
        let mut processes = Vec::new();
        for device in &self.devices {
            for process in device.contexts() {
                if let Some(tenant) = process.tenant.and_then(|slot| tenants.get_mut(&slot)) {
                    tenant.memory += Bytes(process.memory);
                    tenant.processes.push(process.pid);
                }
                processes.push(ProcessTruth {
                    gpu_uuid: device.identity.uuid.clone(),
                    pid: process.pid,
                    started: StartTime(process.started),
                    owner: match &device.canary {
                        Some(canary) if canary.id == process.id => TrueOwner::Canary,
                        _ => self.owner(process),
                    },
                    memory: Bytes(process.memory),
                    memory_hidden: process.memory_unknown,
                    owner_hidden: process.unreadable,
                    gpu_seconds: GpuSeconds(process.gpu),
                });
            }
        }
        let keys = self.records.iter();
        let keyed = keys.filter_map(|(slot, record)| {
            let tenant = tenants.remove(&slot)?;
            Some((record.key.clone(), tenant))
        });
        Truth {
            at: self.moment(self.now),
            kubelet_up: self.kubelet_up,
            tenants: keyed.collect(),
            devices: self
                .devices
                .iter()
                .map(|device| (device.identity.uuid.clone(), self.device_truth(device)))
                .collect(),
            processes,
            pods: self.records.pods.iter().cloned().collect(),
        }
    }

    fn device_truth(&self, device: &Device) -> DeviceTruth {
        let card = &self.cards[device.card];
        DeviceTruth {
            up: card.down.is_none(),
            used: Bytes(device.used()),
            unexplained: Bytes(device.unexplained()),
            busy: GpuSeconds(device.busy),
            outside_pods: GpuSeconds(device.outside_pods),
            contended: Duration::from_secs_f64(device.contended),
            outside_turn_seconds: device.outside_turns,
            expected_delay: device.expected_delay,
            pressure: Duration::from_secs_f64(device.pressure),
            ooms: device.ooms,
            xids: card.xid_totals.clone(),
        }
    }

    fn owner(&self, process: &Process) -> TrueOwner {
        match &process.place {
            Place::Pod(number) => match self.pods.get(number) {
                Some(pod) => TrueOwner::Container {
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: pod.containers[0].name.clone(),
                    pod_uid: pod.uid.clone(),
                },
                None => TrueOwner::Host(process.comm.clone()),
            },
            Place::Host(_) => TrueOwner::Host(process.comm.clone()),
            Place::Nobody => TrueOwner::Nobody,
        }
    }
}
