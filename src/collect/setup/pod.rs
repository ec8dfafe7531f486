//! Pods that ask for GPUs.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::shape::{Condition, Metadata, Shape, Strings, condition, gpus, said, unscheduled};
use crate::model::setup::{ControllerRef, PodContainer, PodRead};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodObject {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    runtime_class_name: Option<String>,
    node_selector: Strings,
    affinity: Option<Affinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    resources: Option<Resources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    limits: Strings,
    requests: Strings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Affinity {
    node_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    reason: Option<String>,
    message: Option<String>,
    conditions: Option<Vec<Condition>>,
}

impl Shape for PodObject {
    fn key(&self) -> (Option<&str>, &str) {
        self.metadata.key()
    }
}

impl PodObject {
    /// `None` where it has nothing to do with GPUs.
    pub(super) fn read(self) -> Option<PodRead> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let init = containers(spec.init_containers, true);
        let containers: Vec<_> = containers(spec.containers, false).chain(init).collect();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let runtime_class = filled(spec.runtime_class_name);
        if containers.is_empty() && runtime_class.is_none() {
            return None;
        }
        let waits = condition(status.conditions.as_ref(), "PodScheduled")
            .filter(|condition| condition.status == "False");
        let affinity = spec.affinity.and_then(|affinity| affinity.node_affinity);
        Some(PodRead {
            namespace: metadata.namespace(),
            node: filled(spec.node_name),
            phase: status.phase,
            reason: said(status.reason.as_ref()),
            message: said(status.message.as_ref()),
            unscheduled: waits.and_then(|condition| unscheduled(condition.message.as_ref())),
            containers,
            controller: metadata.controller().map(|owner| ControllerRef {
                kind: owner.kind.clone(),
                name: owner.name.clone(),
            }),
            template_hash: metadata.label("pod-template-hash").cloned(),
            runtime_class,
            node_selector: spec.node_selector.unwrap_or_default(),
            node_affinity: affinity.is_some_and(|affinity| affinity.required.is_some()),
            name: metadata.name,
        })
    }
}

/// Those that ask for GPUs.
fn containers(
    containers: Option<Vec<Container>>,
    init: bool,
) -> impl Iterator<Item = PodContainer> {
    let all = containers.into_iter().flatten().enumerate();
    all.map(move |(index, Container { name, resources })| {
        let Resources { limits, requests } = resources.unwrap_or_default();
        PodContainer {
            name,
            index,
            init,
            limits: gpus(&limits),
            requests: gpus(&requests),
        }
    })
    .filter(|container| !container.limits.is_empty() || !container.requests.is_empty())
}
