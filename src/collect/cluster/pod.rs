//! A pod as the API server writes it, cut down to the fields that are kept.

use std::sync::Arc;

use serde::Deserialize;

use crate::collect::host::{is_container_id, is_label, is_subdomain, is_uid};
use crate::model::{ContainerId, PodName, PodStatus, PodUid, Workload};

/// Longest kind of an owner that is believed.
const MAX_KIND: usize = 63;
/// Most owner references of a pod that are looked at.
const MAX_OWNERS: usize = 32;
/// Digits of the minute since 1970 that a CronJob appends to its Jobs' names, from 1989 on.
const MINUTE_DIGITS: usize = 8;

/// A `Pod` object: everything that is not named here is dropped while it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodObject {
    metadata: Metadata,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "pod-template-hash")]
    template_hash: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    /// On the API's copy of a static pod: the UID that the kubelet runs it under.
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    qos_class: Option<String>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    state: Option<ContainerState>,
    last_state: Option<ContainerState>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    terminated: Option<Terminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl PodObject {
    /// The version of the object, where a watch goes on from.
    pub fn resource_version(&self) -> Option<&str> {
        self.metadata
            .resource_version
            .as_deref()
            .filter(|version| !version.is_empty())
    }
}

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// The UID in cgroups and log folders: of a static pod the kubelet's own, else `uid`.
    pub host_uid: PodUid,
    pub name: PodName,
    pub status: Arc<PodStatus>,
    /// Every container of the pod has ended.
    pub finished: bool,
    /// Ids with their containers' names: regular, init, sidecar and ephemeral ones, each now and
    /// before its last restart. Sorted.
    pub containers: Vec<(ContainerId, Arc<str>)>,
}

impl Pod {
    /// The pod that the object describes; `None` where a name or the UID is not of Kubernetes'
    /// form. Container ids that are not of a runtime's form are left out: a container that has not
    /// started has none.
    pub fn of(object: &PodObject) -> Option<Self> {
        let metadata = &object.metadata;
        let namespace = metadata.namespace.as_deref().filter(|n| is_label(n))?;
        let pod = metadata.name.as_deref().filter(|n| is_subdomain(n))?;
        let uid = metadata.uid.as_deref().filter(|uid| is_uid(uid))?;
        let mirror = metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.mirror.as_deref())
            .filter(|uid| is_uid(uid));
        let none = Status::default();
        let status = object.status.as_ref().unwrap_or(&none);
        let uid = PodUid::new(uid);
        Some(Self {
            host_uid: mirror.map_or_else(|| uid.clone(), PodUid::new),
            name: PodName {
                namespace: namespace.into(),
                pod: pod.into(),
            },
            status: Arc::new(PodStatus {
                uid: uid.clone(),
                qos: match status.qos_class.as_deref() {
                    Some(qos @ ("Guaranteed" | "Burstable" | "BestEffort")) => qos.into(),
                    _ => "".into(),
                },
                workload: workload(pod, metadata),
            }),
            uid,
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            containers: containers(status),
        })
    }
}

fn containers(status: &Status) -> Vec<(ContainerId, Arc<str>)> {
    let mut containers = Vec::new();
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        if !is_label(&container.name) {
            continue;
        }
        let name: Arc<str> = container.name.as_str().into();
        let ended = [&container.state, &container.last_state]
            .into_iter()
            .flatten()
            .filter_map(|state| state.terminated.as_ref())
            .map(|terminated| &terminated.container_id);
        for id in ended.chain([&container.container_id]).flatten() {
            // `containerd://<id>`, `cri-o://<id>`, `docker://<id>`
            let id = id.rsplit_once("://").map_or(id.as_str(), |(_, id)| id);
            if is_container_id(id) {
                containers.push((ContainerId::new(id), Arc::clone(&name)));
            }
        }
    }
    containers.sort_unstable();
    containers.dedup_by(|a, b| a.0 == b.0);
    containers
}

/// The controller, as far as the pod itself tells: what owns a Job or a ReplicaSet stands in
/// objects that the agent has no right to read.
fn workload(pod: &str, metadata: &Metadata) -> Workload {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    let controller = owners
        .iter()
        .take(MAX_OWNERS)
        .find(|owner| owner.controller == Some(true))
        .filter(|owner| owner.kind.len() <= MAX_KIND && is_subdomain(&owner.name));
    let Some(OwnerReference { kind, name, .. }) = controller else {
        return named("Pod", pod);
    };
    let hash = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.template_hash.as_deref());
    match kind.as_str() {
        // The mirror of a static pod: the kubelet names it after its manifest and the node.
        "Node" => named("StaticPod", without_suffix(pod, name).unwrap_or(pod)),
        "ReplicaSet" => match hash.and_then(|hash| without_suffix(name, hash)) {
            Some(deployment) => named("Deployment", deployment),
            None => named(kind, name),
        },
        // All runs of a CronJob together: there would be a series a run, for ever.
        "Job" => named(kind, without_minute(name)),
        _ => named(kind, name),
    }
}

fn named(kind: &str, name: &str) -> Workload {
    Workload {
        kind: kind.into(),
        name: name.into(),
    }
}

/// `web` of `web-7d4b9c8f6d` and `7d4b9c8f6d`.
fn without_suffix<'name>(name: &'name str, suffix: &str) -> Option<&'name str> {
    let rest = name.strip_suffix(suffix)?.strip_suffix('-')?;
    (!rest.is_empty() && !suffix.is_empty()).then_some(rest)
}

/// `nightly` of `nightly-29389440`.
fn without_minute(job: &str) -> &str {
    match job.rsplit_once('-') {
        Some((rest, minute))
            if !rest.is_empty()
                && minute.len() == MINUTE_DIGITS
                && minute.bytes().all(|b| b.is_ascii_digit()) =>
        {
            rest
        }
        _ => job,
    }
}

#[cfg(test)]
mod tests;
