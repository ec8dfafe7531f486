//! Nodes as the API server writes them.

use serde::Deserialize;

use super::shape::{Condition, Metadata, Shape, Strings, condition, gpus};
use crate::collect::kubelet::NVIDIA_PREFIX;
use crate::model::setup::NodeRead;

/// Set anew each minute by GPU feature discovery.
const TIMESTAMP: &str = "nvidia.com/gfd.timestamp";
const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeObject {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    taints: Option<Vec<Taint>>,
    unschedulable: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
    value: Option<String>,
    effect: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    capacity: Strings,
    allocatable: Strings,
    conditions: Option<Vec<Condition>>,
}

impl Shape for NodeObject {
    fn key(&self) -> (Option<&str>, &str) {
        self.metadata.key()
    }
}

impl NodeObject {
    pub(super) fn read(self) -> NodeRead {
        let ready = condition(self.status.conditions.as_ref(), "Ready");
        let taints = self.spec.taints.into_iter().flatten();
        NodeRead {
            name: self.metadata.name,
            labels: self
                .metadata
                .labels
                .into_iter()
                .flatten()
                .filter(|(name, _)| {
                    name == INSTANCE_TYPE || (name.starts_with(NVIDIA_PREFIX) && name != TIMESTAMP)
                })
                .collect(),
            capacity: gpus(&self.status.capacity),
            allocatable: gpus(&self.status.allocatable),
            taints: taints
                .map(|Taint { key, value, effect }| {
                    format!("{key}={}:{effect}", value.unwrap_or_default())
                })
                .collect(),
            ready: ready.map(|ready| ready.status == "True"),
            unschedulable: self.spec.unschedulable.unwrap_or_default(),
        }
    }
}
