//! From the ledger to what the agent says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::container::ContainerState;
use super::device::DeviceState;
use super::{CardState, Ledger, LedgerSettings, PEAK_WINDOW};
use crate::analyse::contention::TenantId;
use crate::analyse::grants::{ContainerLabels, Grants};
use crate::model::snapshot::{Owner, SCHEMA};
use crate::model::{
    BuildInfo, Bytes, CanaryReason, CanaryView, Cause, ContainerDelay, ContainerView, GpuView,
    Memory, Moment, PodName, ProcessView, Reading, Refusal, Remainder, Snapshot, Source,
    SourceHealth,
};

impl Ledger {
    /// Everything known at `now`, which is the instant of the last `observe`: without findings, which
    /// are made from all of it.
    pub fn snapshot(
        &self,
        now: Moment,
        node: Option<Arc<str>>,
        build: BuildInfo,
        sources: Vec<SourceHealth>,
    ) -> Snapshot {
        let not_yet = Reading::Failed(Cause::NotYet);
        let grants = self
            .allocations
            .as_ref()
            .map_or(&not_yet, |(_, grants)| grants);
        let resident = residences(self.devices.values());
        let kubelet = sources
            .iter()
            .find(|health| health.source == Source::Kubelet);
        let answered = kubelet.and_then(|health| health.last_success);
        // Against a clock that is stepped, ages are compared.
        let heard = Heard {
            grants,
            age: answered.map(|answered| now.unix.saturating_sub(answered)),
        };
        let mut gpus: Vec<GpuView> = self
            .devices
            .values()
            .map(|device| {
                let card = self.cards.get(super::card_of(&device.identity));
                device_view(device, card, heard, &resident, now)
            })
            .collect();
        gpus.sort_by_key(|gpu| index_order(&gpu.identity.index));
        let mut processes_unattributed: BTreeMap<Remainder, u64> = Remainder::ALL
            .iter()
            .map(|remainder| (*remainder, 0))
            .collect();
        let mut processes_attributed = 0;
        for process in gpus.iter().flat_map(|gpu| &gpu.processes) {
            match process.owner {
                Owner::Container(_) => processes_attributed += 1,
                Owner::Unattributed(remainder) => {
                    *processes_unattributed.entry(remainder).or_insert(0) += 1;
                }
            }
        }
        Snapshot {
            schema: SCHEMA,
            at: now,
            node,
            node_facts: Reading::Unsupported,
            build,
            mig_cards: self
                .cards
                .values()
                .filter(|card| !self.devices.contains_key(&card.identity.uuid))
                .map(|card| card_view(card, now))
                .collect(),
            gpus,
            workloads: self.workloads.view(),
            sources,
            findings: Vec::new(),
            processes_attributed,
            processes_unattributed,
            refused_rows: Refusal::ALL
                .iter()
                .map(|refusal| {
                    let count = self.refused.get(refusal).copied().unwrap_or(0);
                    (refusal.label().into(), count)
                })
                .collect(),
        }
    }
}

/// The kubelet's last answer.
#[derive(Clone, Copy)]
struct Heard<'a> {
    grants: &'a Reading<Grants>,
    /// `None`: not told.
    age: Option<Duration>,
}

impl Heard<'_> {
    /// What was granted to a container; unknown where it came after the answer without its name.
    fn replicas(self, container: &ContainerState, now: Moment) -> Reading<u32> {
        let is_new = self.age.is_some_and(|age| age > now.since(container.since));
        match self.grants {
            Reading::Value(_) if container.replicas == 0 && is_new => {
                Reading::Failed(Cause::NotYet)
            }
            grants => grants.as_ref().map(|_| container.replicas),
        }
    }
}

/// Devices that each container is resident on.
fn residences<'a>(
    devices: impl Iterator<Item = &'a DeviceState>,
) -> HashMap<&'a ContainerLabels, usize> {
    let mut resident = HashMap::new();
    for device in devices {
        for (labels, container) in &device.containers {
            if container.resident {
                *resident.entry(labels).or_insert(0) += 1;
            }
        }
    }
    resident
}

fn device_view(
    device: &DeviceState,
    card: Option<&CardState>,
    heard: Heard<'_>,
    resident: &HashMap<&ContainerLabels, usize>,
    now: Moment,
) -> GpuView {
    let grants = heard.grants;
    let memory: Reading<Memory> = match &device.list {
        Some(list) => Reading::Value(list.memory),
        None => device.memory,
    };
    let replicas = match &device.advertised {
        Reading::Value(Some(advertised)) => Reading::Value(advertised.replicas),
        Reading::Value(None) => Reading::Unsupported,
        other => other.as_ref().map(|_| 0),
    };
    let no_list = Reading::Failed(device.list_failed.unwrap_or(Cause::NotYet));
    let measurable = if device.mps {
        Reading::Unsupported
    } else {
        device.ring
    };
    let gpu_time = |container: &ContainerState| match container.memory {
        // Never proven to be here, while a process here has no owner: it may be its own.
        Reading::Failed(cause) if !container.resident && container.gpu_samples == 0 => {
            Reading::Failed(cause)
        }
        _ => measurable.map(|()| container.gpu_time),
    };
    let containers: Vec<ContainerView> = device
        .containers
        .iter()
        .map(|(labels, container)| ContainerView {
            namespace: Arc::clone(&labels.namespace),
            pod: Arc::clone(&labels.pod),
            container: Arc::clone(&labels.container),
            pod_uid: match &container.status {
                Some(status) => Some(status.uid.clone()),
                None => container.pod_uid.clone(),
            },
            qos: match &container.status {
                Some(status) => Arc::clone(&status.qos),
                None => "".into(),
            },
            workload: container.workload(&labels.pod),
            evidence: container.evidence,
            present: container.present,
            memory: container.memory,
            memory_peak: match (container.unknown_at, container.peak.get(now)) {
                (Some(at), _) if now.since(at) <= PEAK_WINDOW => {
                    Reading::Failed(Cause::NotAvailable)
                }
                (_, Some(peak)) => Reading::Value(peak),
                // Granted, and known to hold nothing.
                (_, None) if container.present => container.memory,
                (_, None) => Reading::Failed(Cause::Stale),
            },
            fair_share: fair_share(memory, replicas, heard.replicas(container, now)),
            replicas: heard.replicas(container, now),
            processes: container.process_count,
            gpu_time: gpu_time(container),
            gpu_samples: container.gpu_samples,
            active: container.active,
            contended: container.contended,
            exits_under_pressure: container.exits_under_pressure,
            // Without shares of time nobody is known to have inflicted nothing.
            delay: match container.weighed {
                true => gpu_time(container).map(|_| ContainerDelay {
                    turn: device.contention.turn_of(container.tenant),
                    ..container.delay
                }),
                false => Reading::Unsupported,
            },
            claims: match grants {
                Reading::Value(grants) => grants.claims(labels).to_vec(),
                _ => Vec::new(),
            },
        })
        .collect();
    let position: HashMap<&ContainerLabels, usize> = device
        .containers
        .keys()
        .enumerate()
        .map(|(index, labels)| (labels, index))
        .collect();
    let processes = device
        .list
        .iter()
        .flat_map(|list| &list.processes)
        .map(|process| ProcessView {
            pid: process.pid,
            name: Arc::clone(&process.name),
            memory: process.memory,
            owner: match &process.owner {
                Ok(labels) => position
                    .get(labels)
                    .map_or(Owner::Unattributed(Remainder::UnknownPod), |i| {
                        Owner::Container(*i)
                    }),
                Err(remainder) => Owner::Unattributed(*remainder),
            },
        })
        .collect();
    let tenants: HashSet<PodName> = device
        .containers
        .iter()
        .filter(|(_, container)| container.resident)
        .map(|(labels, _)| labels.pod_name())
        .collect();
    GpuView {
        identity: Arc::clone(&device.identity),
        up: device.up,
        sharing: device.sharing(),
        memory,
        used_peak: match device.up {
            Reading::Value(()) => device
                .peak
                .get(now)
                .map_or(Reading::Failed(Cause::NotYet), Reading::Value),
            other => other.map(|()| Bytes(0)),
        },
        pressure: device.pressure,
        unattributed: match &device.list {
            Some(list) if list.complete => Reading::Value(list.remainders.clone()),
            Some(_) => Reading::Failed(Cause::NotAvailable),
            None => no_list.map(|()| BTreeMap::new()),
        },
        unexplained: match &device.list {
            Some(list) => list.unexplained,
            None => no_list.map(|()| Default::default()),
        },
        torn_windows: device.torn,
        replicas,
        replicas_allocated: grants
            .as_ref()
            .map(|grants| grants.of_device(&device.identity).values().sum()),
        tenants: match &device.list {
            Some(_) => Reading::Value(tenants.len() as u32),
            None => no_list.map(|()| 0),
        },
        active_tenants: device.active_tenants,
        disagreements: match (&device.list, grants) {
            (Some(_), Reading::Value(grants)) => Reading::Value(disagreements(
                device,
                grants,
                |container| heard.replicas(container, now),
                resident,
            )),
            (None, _) => no_list.map(|()| 0),
            (_, other) => other.as_ref().map(|_| 0),
        },
        busy: device.ring.map(|()| device.busy),
        contended: measurable.map(|()| device.contended),
        xids: match card {
            // An XID is the card's: on an instance it would be told many times.
            Some(card) if device.identity.parent.is_none() => card.xids.clone(),
            _ => BTreeMap::new(),
        },
        mig_profiles: match card {
            Some(card) if device.identity.parent.is_none() => card.mig_profiles.clone(),
            _ => Reading::Unsupported,
        },
        canary: {
            let tenants = device.containers.values().map(|container| container.tenant);
            let places: HashMap<TenantId, usize> = tenants
                .enumerate()
                .map(|(place, tenant)| (tenant, place))
                .collect();
            let place = |tenant| places.get(&tenant).copied();
            device.contention.view(now, place)
        },
        containers,
        processes,
    }
}

/// A MIG-enabled card, or one that was never heard: identity, health and faults alone.
fn card_view(card: &CardState, now: Moment) -> GpuView {
    let unknown = DeviceState::new(Arc::clone(&card.identity), now, LedgerSettings::default());
    let heard = Heard {
        grants: &Reading::Unsupported,
        age: None,
    };
    let view = device_view(&unknown, None, heard, &HashMap::new(), now);
    GpuView {
        up: card.up,
        memory: Reading::Unsupported,
        used_peak: Reading::Unsupported,
        unattributed: Reading::Unsupported,
        unexplained: Reading::Unsupported,
        tenants: Reading::Unsupported,
        active_tenants: Reading::Unsupported,
        disagreements: Reading::Unsupported,
        busy: Reading::Unsupported,
        contended: Reading::Unsupported,
        xids: card.xids.clone(),
        mig_profiles: card.mig_profiles.clone(),
        canary: CanaryView::off(match card.identity.mig_enabled {
            Some(true) => CanaryReason::Mig,
            _ => CanaryReason::NotYet,
        }),
        ..view
    }
}

/// (total - reserved) / replicas x granted. Without a figure of the reserve, the total is the
/// driver's that does not tell it apart.
fn fair_share(
    memory: Reading<Memory>,
    replicas: Reading<u32>,
    granted: Reading<u32>,
) -> Reading<Bytes> {
    match (memory, replicas, granted) {
        (_, Reading::Value(0) | Reading::Unsupported, _)
        | (Reading::Unsupported, _, _)
        | (_, _, Reading::Value(0) | Reading::Unsupported) => Reading::Unsupported,
        (_, Reading::Failed(cause), _)
        | (Reading::Failed(cause), _, _)
        | (_, _, Reading::Failed(cause)) => Reading::Failed(cause),
        (Reading::Value(memory), Reading::Value(replicas), Reading::Value(granted)) => {
            let usable = memory
                .total
                .saturating_sub(memory.reserved.copied().unwrap_or_default());
            Reading::Value(Bytes(
                (u128::from(usable.0) * u128::from(granted) / u128::from(replicas)) as u64,
            ))
        }
    }
}

/// Containers granted here that live only elsewhere, and containers that live here ungranted.
/// A container with DRA claims may own what no grant names; one whose grant is not known yet is
/// neither.
fn disagreements(
    device: &DeviceState,
    grants: &Grants,
    replicas: impl Fn(&ContainerState) -> Reading<u32>,
    resident: &HashMap<&ContainerLabels, usize>,
) -> u32 {
    device
        .containers
        .iter()
        .filter(|(labels, container)| {
            let elsewhere = resident.get(labels).copied().unwrap_or(0) > 0;
            let granted_but_elsewhere = container.replicas > 0 && !container.resident && elsewhere;
            let ungranted = container.resident
                && replicas(container) == Reading::Value(0)
                && !labels.container.is_empty()
                && grants.claims(labels).is_empty();
            granted_but_elsewhere || ungranted
        })
        .count() as u32
}

/// `0`, `0:1`, `10` in the order of numbers.
fn index_order(index: &str) -> Vec<u32> {
    index
        .split(':')
        .map(|part| part.parse().unwrap_or(u32::MAX))
        .collect()
}
