//! What the agent says: one immutable value, of one instant, that everything outward reads. Its
//! JSON form names the unit of every number: bytes or seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Bytes, CanaryReason, CanaryView, Cause, ContainerDelay, DraClaim, GpuIdentity, GpuSeconds,
    GpuUuid, HostPid, MigProfile, Moment, NodeFacts, PodUid, Reading, SignedBytes, Workload,
};

/// Raised whenever a field of the JSON form changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// How a device is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// One replica a device.
    None,
    TimeSlicing,
    Mps,
    /// No device plugin was seen: nothing can be said.
    Unknown,
}

impl Sharing {
    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TimeSlicing => "time-slicing",
            Self::Mps => "mps",
            Self::Unknown => "unknown",
        }
    }
}

/// What proves that a process belongs to a container, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The cgroup's container id stands in a pod status.
    ContainerStatus,
    /// The cgroup's container id stands in a log file's name.
    ContainerLog,
    /// The cgroup's pod UID is known and the pod has one container.
    PodUid,
    /// No process: the kubelet granted the device, nobody was seen on it.
    Allocation,
}

impl Evidence {
    /// A word for tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ContainerStatus => "container status",
            Self::ContainerLog => "container log",
            Self::PodUid => "pod UID",
            Self::Allocation => "allocation",
        }
    }
}

/// Memory and processes that belong to no container, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remainder {
    /// A process of the host, in no pod's cgroup.
    HostProcess,
    /// The agent's own latency canary.
    Canary,
    /// In a pod's cgroup whose names are not known, or are another pod's by now.
    UnknownPod,
    /// It ended before its cgroup could be read.
    ProcessGone,
    /// Its cgroup could not be read: rights, or /proc hides it.
    Unreadable,
    /// The agent is not in the host's PID namespace: no PID can be looked up.
    PidNamespace,
    /// The driver does not say whose it is (PID 0).
    NoPid,
}

impl Remainder {
    /// All of them, for series known in advance.
    pub const ALL: [Self; 7] = [
        Self::HostProcess,
        Self::Canary,
        Self::UnknownPod,
        Self::ProcessGone,
        Self::Unreadable,
        Self::PidNamespace,
        Self::NoPid,
    ];

    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::HostProcess => "host_process",
            Self::Canary => "canary",
            Self::UnknownPod => "unknown_pod",
            Self::ProcessGone => "process_gone",
            Self::Unreadable => "unreadable",
            Self::PidNamespace => "pid_namespace",
            Self::NoPid => "no_pid",
        }
    }
}

/// Whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Index into [`GpuView::containers`].
    Container(usize),
    /// Nobody's that could be proven, for this reason.
    Unattributed(Remainder),
}

/// One process on one device, for people and tests: never a metric label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    pub pid: HostPid,
    /// The kernel's `comm`; empty where it is not known.
    pub name: Arc<str>,
    #[serde(rename = "memory_bytes")]
    pub memory: Reading<Bytes>,
    pub owner: Owner,
}

/// One container on one device. Gauges are `Failed` or `Unsupported` where unknown; a container
/// that was granted the device and is known to hold nothing has 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerView {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    /// Empty where the pod is proven and the container is not.
    pub container: Arc<str>,
    /// `metadata.uid` where the API server told of the pod, else the one of its cgroup, which of a
    /// static pod is another; `None` where only the kubelet's allocation (which has no UID) is
    /// known.
    pub pod_uid: Option<PodUid>,
    /// `Guaranteed`, `Burstable` or `BestEffort`; empty where no status is known.
    #[serde(default)]
    pub qos: Arc<str>,
    /// From its status, or else guessed from its name, without a kind.
    #[serde(default)]
    pub workload: Workload,
    pub evidence: Evidence,
    /// False in the 75 s after its last process and grant: counters and the peak stay, gauges end.
    pub present: bool,
    #[serde(rename = "memory_bytes")]
    pub memory: Reading<Bytes>,
    /// Highest sum over its processes in one list, trailing 60 s.
    #[serde(rename = "memory_peak_bytes")]
    pub memory_peak: Reading<Bytes>,
    /// (total - reserved) / replicas x granted; `Unsupported` where nothing is granted.
    #[serde(rename = "fair_share_bytes")]
    pub fair_share: Reading<Bytes>,
    /// Replicas of this device granted to it; 0: it is resident without a grant. Unknown while the
    /// kubelet does not answer, or has not answered since the container was first seen.
    pub replicas: Reading<u32>,
    pub processes: u32,
    /// `Unsupported` under MIG and MPS, where a share of time cannot be measured.
    #[serde(rename = "gpu_seconds")]
    pub gpu_time: Reading<GpuSeconds>,
    pub gpu_samples: u64,
    #[serde(rename = "active_seconds", with = "super::time::seconds")]
    pub active: Duration,
    #[serde(rename = "contended_seconds", with = "super::time::seconds")]
    pub contended: Duration,
    pub exits_under_pressure: u64,
    /// `Unsupported` where the device's canary never probed while it was there.
    #[serde(default = "unsupported")]
    pub delay: Reading<ContainerDelay>,
    pub claims: Vec<DraClaim>,
}

/// One device: a card without MIG, or a MIG instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuView {
    pub identity: Arc<GpuIdentity>,
    /// `Failed` where it does not answer: then all gauges below are unknown.
    pub up: Reading<()>,
    pub sharing: Sharing,
    /// The figures that the rows below balance against.
    #[serde(rename = "memory_bytes")]
    pub memory: Reading<Memory>,
    /// Trailing 60 s.
    #[serde(rename = "used_peak_bytes")]
    pub used_peak: Reading<Bytes>,
    #[serde(rename = "pressure_seconds", with = "super::time::seconds")]
    pub pressure: Duration,
    /// Named remainders; empty where the list is unknown. Complete with the containers' rows.
    #[serde(rename = "unattributed_bytes")]
    pub unattributed: Reading<BTreeMap<Remainder, Bytes>>,
    /// Used minus every row; `Failed(Torn)` where no whole list is young enough.
    #[serde(rename = "unexplained_bytes")]
    pub unexplained: Reading<SignedBytes>,
    pub torn_windows: u64,
    /// Advertised by the device plugin; `Failed` while the kubelet was not heard.
    pub replicas: Reading<u32>,
    pub replicas_allocated: Reading<u32>,
    /// Pods with a process on it.
    pub tenants: Reading<u32>,
    /// Pods with GPU time in the last drain.
    pub active_tenants: Reading<u32>,
    /// Containers in which allocation and residence disagree: granted here and resident only
    /// elsewhere, or resident without a grant.
    pub disagreements: Reading<u32>,
    #[serde(rename = "busy_seconds")]
    pub busy: Reading<GpuSeconds>,
    #[serde(rename = "contended_seconds", with = "super::time::seconds::reading")]
    pub contended: Reading<Duration>,
    /// Counts since start by XID number; the well-known ones are there from the start.
    pub xids: BTreeMap<u32, u64>,
    pub mig_profiles: Reading<Arc<[MigProfile]>>,
    #[serde(default = "no_canary")]
    pub canary: CanaryView,
    /// Rows in the order of names.
    pub containers: Vec<ContainerView>,
    pub processes: Vec<ProcessView>,
}

pub use super::sample::Memory;

/// GPU time of a workload (the pods' owner), which outlives them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadTotal {
    pub gpu_uuid: GpuUuid,
    pub namespace: Arc<str>,
    pub workload: Arc<str>,
    /// `Deployment`, `Job`, `StatefulSet` …; `Pod` without a controller; empty where the name was
    /// guessed from the pod's.
    pub kind: Arc<str>,
    #[serde(rename = "gpu_seconds")]
    pub gpu_time: GpuSeconds,
}

/// A part of the world the agent reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Nvml,
    Kubelet,
    Host,
    /// The API server.
    Cluster,
    /// The latency canaries' workers.
    Canary,
    /// Kubernetes Events, where they are asked for: written, not read.
    Events,
}

impl Source {
    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nvml => "nvml",
            Self::Kubelet => "kubelet",
            Self::Host => "host",
            Self::Cluster => "cluster",
            Self::Canary => "canary",
            Self::Events => "events",
        }
    }
}

/// How a source is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceHealth {
    pub source: Source,
    pub up: Reading<()>,
    /// In words, with the path, socket or library and what to do; empty while up.
    pub detail: Arc<str>,
    /// By reason label, since start.
    pub errors: BTreeMap<Arc<str>, u64>,
    /// Of the last round.
    #[serde(rename = "duration_seconds", with = "super::time::seconds::option")]
    pub duration: Option<Duration>,
    /// Since 1970, of the last good round.
    #[serde(
        rename = "last_success_unix_seconds",
        with = "super::time::seconds::option"
    )]
    pub last_success: Option<Duration>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl Severity {
    /// The metric label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something about the set-up that a person should mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Stable, `snake_case`.
    pub code: Arc<str>,
    pub severity: Severity,
    /// What it is about: a GPU's UUID, a source, a node.
    pub subject: Arc<str>,
    pub evidence: Arc<str>,
    pub mend: Arc<str>,
}

/// The program itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInfo {
    pub version: Arc<str>,
    pub rustc: Arc<str>,
}

/// All that the agent knows, of one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: u32,
    pub at: Moment,
    /// The Kubernetes node's name, where told.
    pub node: Option<Arc<str>>,
    /// What the API server says of the node; `Unsupported` where it is not asked.
    #[serde(default = "unsupported")]
    pub node_facts: Reading<Arc<NodeFacts>>,
    pub build: BuildInfo,
    /// Devices in the order of index.
    pub gpus: Vec<GpuView>,
    /// MIG-enabled cards, whose instances stand in `gpus`: identity, health and XIDs alone.
    pub mig_cards: Vec<GpuView>,
    pub workloads: Vec<WorkloadTotal>,
    pub sources: Vec<SourceHealth>,
    pub findings: Vec<Finding>,
    /// Processes attributed to a container, over all devices.
    pub processes_attributed: u64,
    /// Processes that are not, by reason; every reason is there.
    pub processes_unattributed: BTreeMap<Remainder, u64>,
    /// Ring rows refused since start, by reason label.
    pub refused_rows: BTreeMap<Arc<str>, u64>,
}

/// In a snapshot of an agent that did not know of it.
fn unsupported<T>() -> Reading<T> {
    Reading::Unsupported
}

/// As above.
fn no_canary() -> CanaryView {
    CanaryView::off(CanaryReason::Disabled)
}

impl Snapshot {
    /// A source's health, where it was told of.
    pub fn source(&self, source: Source) -> Option<&SourceHealth> {
        self.sources.iter().find(|health| health.source == source)
    }

    /// Why there is no GPU to show, where NVML said why.
    pub fn nvml_cause(&self) -> Option<Cause> {
        match self.source(Source::Nvml)?.up {
            Reading::Failed(cause) => Some(cause),
            Reading::Value(()) | Reading::Unsupported => None,
        }
    }
}
