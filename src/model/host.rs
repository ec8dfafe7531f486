//! What the host's files say of a process and of the pods.

use std::collections::HashMap;
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

/// From UIDs and container ids to names, by whichever way there is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PodNames {
    pub pods: HashMap<PodUid, PodName>,
    pub containers: HashMap<ContainerId, ContainerName>,
}
