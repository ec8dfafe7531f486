//! What the host's files say of a process and of the pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ContainerId, PodUid, ProcessKey};

/// What a cgroup path proves.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupIdentity {
    /// From `pod<uid>` in the path.
    pub pod_uid: Option<PodUid>,
    /// From the outermost 64-hex part below the pod: a nested runtime's own ids do not count.
    pub container_id: Option<ContainerId>,
}

/// One process, read once in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    pub key: ProcessKey,
    /// The kernel's `comm`, at most 15 bytes, made printable.
    pub name: Arc<str>,
    pub cgroup: CgroupIdentity,
}

/// Names of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodName {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
}

/// A container's name within its pod, and how it was learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerName {
    pub pod: PodName,
    pub container: Arc<str>,
    /// True where a pod status said so, false where a log file's name did.
    pub from_status: bool,
}

/// What pods belong to: their controller, as series name it.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// `Deployment`, `Job`, `StatefulSet` … `Pod` of a pod without a controller; empty where the
    /// name was only guessed from the pod's.
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

/// What a pod's status says beside its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// `metadata.uid`. A static pod's cgroup has another one.
    pub uid: PodUid,
    /// `Guaranteed`, `Burstable` or `BestEffort`; empty where the status has none yet.
    pub qos: Arc<str>,
    pub workload: Workload,
}

/// From UIDs and container ids to names, by whichever way there is. UIDs are those of cgroups and
/// log folders, which for a static pod is not the API's.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PodNames {
    pub pods: HashMap<PodUid, PodName>,
    pub containers: HashMap<ContainerId, ContainerName>,
    /// Of the pods that the API server told of.
    pub statuses: HashMap<PodUid, Arc<PodStatus>>,
    /// Whose a name is now, as far as the API server told: a deleted pod's may be another's.
    pub current: HashMap<PodName, PodUid>,
}

/// What the API server says of this node.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Those that concern GPUs, and the machine's type.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Extended GPU resources, as the kubelet counts them.
    pub capacity: BTreeMap<Arc<str>, u64>,
    /// The same, without unhealthy devices.
    pub allocatable: BTreeMap<Arc<str>, u64>,
}
