//! What is kept of one container on one device.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::peak::SlidingMax;
use crate::analyse::contention::{Charge, TenantId};
use crate::analyse::workload::workload_of;
use crate::model::{
    Bytes, ContainerDelay, DelaySeconds, Evidence, GpuSeconds, Moment, PodNames, PodStatus, PodUid,
    ProcessKey, Reading, Weight, Workload,
};

/// Counters and the peak of a gone container stay this long: longer than a scrape period.
pub const LINGER: Duration = Duration::from_secs(75);

/// Counters never fall while the container is the same one (by UID).
#[derive(Debug)]
pub(super) struct ContainerState {
    /// Another one for each container that ever had the name.
    pub(super) tenant: TenantId,
    pub(super) pod_uid: Option<PodUid>,
    /// Once known it stays, whatever the API server says or forgets later: its GPU time goes to one
    /// workload.
    pub(super) status: Option<Arc<PodStatus>>,
    pub(super) evidence: Evidence,
    /// When it was first seen.
    pub(super) since: Moment,
    /// Last time it was proven resident or granted.
    pub(super) last_present: Moment,
    pub(super) present: bool,
    /// True where the newest list has it.
    pub(super) resident: bool,
    pub(super) memory: Reading<Bytes>,
    pub(super) peak: SlidingMax,
    /// When it last held what the driver did not tell: until that is old, its peak is not known.
    pub(super) unknown_at: Option<Moment>,
    pub(super) replicas: u32,
    pub(super) processes: HashSet<ProcessKey>,
    pub(super) process_count: u32,
    pub(super) gpu_time: GpuSeconds,
    pub(super) gpu_samples: u64,
    pub(super) active: Duration,
    pub(super) contended: Duration,
    pub(super) exits_under_pressure: u64,
    /// True once a drain with a canary's probes was taken in while it was there.
    pub(super) weighed: bool,
    /// Without its turn, which is not counted but known or not.
    pub(super) delay: ContainerDelay,
}

impl ContainerState {
    pub(super) fn new(
        tenant: TenantId,
        pod_uid: Option<PodUid>,
        evidence: Evidence,
        now: Moment,
    ) -> Self {
        Self {
            tenant,
            pod_uid,
            status: None,
            evidence,
            since: now,
            last_present: now,
            present: true,
            resident: false,
            memory: Reading::Value(Bytes(0)),
            peak: SlidingMax::default(),
            unknown_at: None,
            replicas: 0,
            processes: HashSet::new(),
            process_count: 0,
            gpu_time: GpuSeconds(0.0),
            gpu_samples: 0,
            active: Duration::ZERO,
            contended: Duration::ZERO,
            exits_under_pressure: 0,
            weighed: false,
            delay: ContainerDelay {
                inflicted: DelaySeconds(0.0),
                exposed: DelaySeconds(0.0),
                exposed_probes: 0.0,
                turn: None,
                weight: Weight::Share,
            },
        }
    }

    /// Adds what a window of probes puts down to it.
    pub(super) fn charge(&mut self, charge: Charge) {
        self.weighed = true;
        self.delay.inflicted += charge.inflicted;
        self.delay.exposed += charge.exposed;
        self.delay.exposed_probes += charge.exposed_probes;
        self.delay.weight = charge.weight;
    }

    /// Looks for the pod's status, until it is found.
    pub(super) fn learn(&mut self, names: &PodNames) {
        if self.status.is_none()
            && let Some(uid) = &self.pod_uid
        {
            self.status = names.statuses.get(uid).cloned();
        }
    }

    /// The workload of this container's pod, which has this name: its controller, or else what the
    /// name tells, without a kind.
    pub(super) fn workload(&self, pod: &str) -> Workload {
        match &self.status {
            Some(status) => status.workload.clone(),
            None => Workload {
                kind: "".into(),
                name: workload_of(pod).into(),
            },
        }
    }

    /// Whether `uid` is another pod than the one kept here.
    pub(super) fn is_another(&self, uid: Option<&PodUid>) -> bool {
        matches!((&self.pod_uid, uid), (Some(old), Some(new)) if old != new)
    }
}
