//! What is kept of one device: a card, or a MIG instance.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::LedgerSettings;
use super::container::{ContainerState, LINGER};
use super::peak::SlidingMax;
use crate::analyse::attribution::{Attributed, Context, attribute};
use crate::analyse::contention::Contention;
use crate::analyse::grants::{Advertised, ContainerLabels};
use crate::model::{
    Bytes, Cause, ContextKind, DeviceWindow, Evidence, GpuIdentity, GpuSeconds, Memory, Moment,
    PodNames, PodUid, ProcessList, Reading, Remainder, Sharing,
};

/// Name of the process that runs all clients' work under MPS, `nvidia-cuda-mps-server`, as far as
/// the kernel keeps it.
const MPS_SERVER: &str = "nvidia-cuda-mps";

#[derive(Debug)]
pub(super) struct DeviceState {
    pub(super) identity: Arc<GpuIdentity>,
    pub(super) up: Reading<()>,
    pub(super) last_window: Moment,
    /// The newest list with its owners; its memory is what the rows balance against.
    pub(super) list: Option<Attributed>,
    pub(super) list_failed: Option<Cause>,
    pub(super) memory: Reading<Memory>,
    pub(super) peak: SlidingMax,
    pub(super) pressure: Duration,
    pub(super) under_pressure: bool,
    pub(super) torn: u64,
    pub(super) mps: bool,
    /// `Unsupported` once the card says that it has no ring.
    pub(super) ring: Reading<()>,
    pub(super) busy: GpuSeconds,
    pub(super) contended: Duration,
    pub(super) active_tenants: Reading<u32>,
    pub(super) advertised: Reading<Option<Advertised>>,
    pub(super) containers: BTreeMap<ContainerLabels, ContainerState>,
    pub(super) contention: Contention,
}

impl DeviceState {
    pub(super) fn new(identity: Arc<GpuIdentity>, now: Moment, settings: LedgerSettings) -> Self {
        Self {
            identity,
            up: Reading::Failed(Cause::NotYet),
            last_window: now,
            list: None,
            list_failed: Some(Cause::NotYet),
            memory: Reading::Failed(Cause::NotYet),
            peak: SlidingMax::default(),
            pressure: Duration::ZERO,
            under_pressure: false,
            torn: 0,
            mps: false,
            ring: Reading::Failed(Cause::NotYet),
            busy: GpuSeconds(0.0),
            contended: Duration::ZERO,
            active_tenants: Reading::Failed(Cause::NotYet),
            advertised: Reading::Failed(Cause::NotYet),
            containers: BTreeMap::new(),
            contention: Contention::new(settings.native_histograms),
        }
    }

    /// How the device is shared, as far as anybody says.
    pub(super) fn sharing(&self) -> Sharing {
        if self.mps {
            return Sharing::Mps;
        }
        match self.advertised {
            Reading::Value(Some(advertised)) if advertised.shared => Sharing::TimeSlicing,
            Reading::Value(Some(_)) => Sharing::None,
            _ => Sharing::Unknown,
        }
    }

    /// Takes in one window of the device itself.
    pub(super) fn observe(&mut self, window: &DeviceWindow, to: Moment, context: Context<'_>) {
        self.identity = Arc::clone(&window.identity);
        self.last_window = to;
        self.up = Reading::Value(());
        self.memory = window.memory;
        if let Reading::Value(peak) = window.used_peak {
            self.peak.push(to, peak);
        }
        let pressed_before = self.under_pressure;
        self.under_pressure = window.under_floor > Duration::ZERO;
        self.pressure += window.under_floor;
        self.torn += u64::from(window.torn);
        for list in &window.lists {
            self.observe_list(list, context, pressed_before || self.under_pressure);
        }
        if window.lists.is_empty() {
            // An older list is of another instant than the memory beside it.
            self.list = None;
            self.list_failed = Some(window.lists_failed.unwrap_or(Cause::NotYet));
        }
    }

    fn observe_list(&mut self, list: &ProcessList, context: Context<'_>, pressed: bool) {
        let attributed = attribute(list, context);
        self.mps = list.processes.iter().any(|process| {
            process.kind == ContextKind::Mps
                || process
                    .facts
                    .value()
                    .is_some_and(|facts| &*facts.name == MPS_SERVER)
        });
        for (labels, holding) in &attributed.holdings {
            let (uid, names) = (holding.pod_uid.as_ref(), context.names);
            let container = self.container(labels, uid, holding.evidence, names, list.at);
            match holding.memory {
                Reading::Value(memory) if list.complete => container.peak.push(list.at, memory),
                _ => container.unknown_at = Some(list.at),
            }
        }
        for (labels, container) in &mut self.containers {
            let holding = attributed.holdings.get(labels);
            container.resident = holding.is_some();
            let processes: HashSet<_> = holding
                .map(|holding| holding.processes.iter().copied().collect())
                .unwrap_or_default();
            if list.complete {
                let exits = container.processes.difference(&processes).count() as u64;
                if pressed {
                    container.exits_under_pressure += exits;
                }
            }
            container.process_count = processes.len() as u32;
            container.processes = processes;
            match holding {
                Some(holding) => {
                    container.memory = match list.complete {
                        true => holding.memory,
                        false => Reading::Failed(Cause::NotAvailable),
                    };
                    container.evidence = holding.evidence;
                }
                None => {
                    container.memory = absent_memory(&attributed);
                    container.evidence = Evidence::Allocation;
                }
            }
        }
        self.list = Some(attributed);
        self.list_failed = None;
    }

    /// The state of a container, new where the name now is another pod's.
    pub(super) fn container(
        &mut self,
        labels: &ContainerLabels,
        uid: Option<&PodUid>,
        evidence: Evidence,
        names: &PodNames,
        now: Moment,
    ) -> &mut ContainerState {
        if self.is_another(labels, uid) {
            self.containers.remove(labels);
        }
        let container = self.containers.entry(labels.clone()).or_insert_with(|| {
            let tenant = self.contention.new_tenant();
            ContainerState::new(tenant, uid.cloned(), evidence, now)
        });
        if container.pod_uid.is_none() {
            container.pod_uid = uid.cloned();
        }
        container.learn(names);
        container.last_present = now;
        container
    }

    /// The UID of a pod that was granted the device, as far as it is told: the kubelet names it
    /// alone. Who is resident has proven its own; else the state is the old pod's only while the
    /// API server, which may be behind, does not say that another pod took the name after it.
    fn granted_to<'n>(&self, labels: &ContainerLabels, names: &'n PodNames) -> Option<&'n PodUid> {
        let current = names.current.get(&labels.pod_name())?;
        match self.containers.get(labels) {
            Some(known) if known.resident && known.pod_uid.is_some() => None,
            Some(ContainerState {
                pod_uid: Some(old), ..
            }) if !names.statuses.contains_key(old) => None,
            _ => Some(current),
        }
    }

    /// Whether this name now is another pod's.
    pub(super) fn is_another(&self, labels: &ContainerLabels, uid: Option<&PodUid>) -> bool {
        self.containers
            .get(labels)
            .is_some_and(|known| known.is_another(uid))
    }

    /// Takes in what the kubelet granted, and ends what is neither granted nor resident.
    pub(super) fn settle(&mut self, context: Context<'_>, now: Moment) {
        let Context { names, grants, .. } = context;
        let granted = match grants {
            Reading::Value(grants) => grants.of_device(&self.identity),
            Reading::Unsupported | Reading::Failed(_) => BTreeMap::new(),
        };
        self.advertised = grants
            .as_ref()
            .map(|grants| grants.advertised(&self.identity));
        for container in self.containers.values_mut() {
            container.replicas = 0;
        }
        for (labels, replicas) in granted {
            let memory = match &self.list {
                Some(list) => absent_memory(list),
                None => Reading::Failed(self.list_failed.unwrap_or(Cause::NotYet)),
            };
            let new = !self.containers.contains_key(labels);
            let uid = self.granted_to(labels, names);
            let container = self.container(labels, uid, Evidence::Allocation, names, now);
            container.replicas = replicas;
            if new {
                container.memory = memory;
            }
        }
        let listless = self.list.is_none();
        let cause = self.list_failed.unwrap_or(Cause::Stale);
        self.containers.retain(|_, container| {
            // Without a list nobody knows who is resident: who was last, is not gone yet.
            container.present = container.replicas > 0
                || container.resident && (!listless || now.since(container.last_present) < LINGER);
            if container.resident && !listless {
                container.last_present = now;
            }
            if listless {
                container.memory = Reading::Failed(cause);
            }
            container.peak.expire(now);
            container.present || now.since(container.last_present) < LINGER
        });
        self.peak.expire(now);
        self.contention.expire(now);
    }

    /// The card said nothing, or nothing usable: gauges end, counters stay.
    pub(super) fn silence(&mut self, cause: Cause) {
        self.up = Reading::Failed(cause);
        self.memory = Reading::Failed(cause);
        self.list = None;
        self.list_failed = Some(cause);
        self.active_tenants = Reading::Failed(cause);
        self.under_pressure = false;
    }
}

/// What a granted container without a process holds: 0 only where every process is accounted
/// for; else one of the unknown ones may be its own.
fn absent_memory(list: &Attributed) -> Reading<Bytes> {
    let known = [Remainder::HostProcess, Remainder::Canary];
    let mut owners = list.processes.iter().map(|process| &process.owner);
    let unknown = owners.any(|owner| matches!(owner, Err(rest) if !known.contains(rest)));
    if list.complete && !unknown {
        Reading::Value(Bytes(0))
    } else {
        Reading::Failed(Cause::NotAvailable)
    }
}
