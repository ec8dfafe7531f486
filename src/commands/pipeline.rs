//! From samples to snapshots: the one path that agent, demo and tests share.

use std::collections::HashSet;
use std::sync::Arc;

use crate::analyse::ledger::Ledger;
use crate::model::{Allocations, NodeSample, PodNames, Reading, Snapshot, SourceHealth};

/// The agent's memory, and what it needs to say who it is.
#[derive(Debug)]
pub struct Pipeline {
    ledger: Ledger,
    node: Option<Arc<str>>,
}

impl Pipeline {
    /// A pipeline that has seen nothing.
    pub fn new(node: Option<Arc<str>>) -> Self {
        Self {
            ledger: Ledger::new(),
            node,
        }
    }

    /// One step: what is new in, what is known now out.
    pub fn step(
        &mut self,
        sample: &NodeSample,
        allocations: &Reading<Arc<Allocations>>,
        names: &PodNames,
        sources: Vec<SourceHealth>,
    ) -> Arc<Snapshot> {
        self.ledger.observe(sample, allocations, names);
        Arc::new(
            self.ledger
                .snapshot(sample.at, self.node.clone(), super::build_info(), sources),
        )
    }
}

/// Whether a process of the sample is in a pod whose names are not known yet.
pub fn has_unnamed(sample: &NodeSample, names: &PodNames) -> bool {
    sample
        .windows
        .iter()
        .flat_map(|window| &window.devices)
        .flat_map(|device| &device.lists)
        .flat_map(|list| &list.processes)
        .filter_map(|process| process.facts.value())
        .any(
            |facts| match (&facts.cgroup.container_id, &facts.cgroup.pod_uid) {
                (Some(id), _) => !names.containers.contains_key(id),
                (None, Some(uid)) => !names.pods.contains_key(uid),
                (None, None) => false,
            },
        )
}

/// Containers that are resident without a grant: news to ask the kubelet about.
pub fn ungranted(snapshot: &Snapshot) -> HashSet<(Arc<str>, Arc<str>, Arc<str>)> {
    snapshot
        .gpus
        .iter()
        .flat_map(|gpu| &gpu.containers)
        .filter(|container| container.processes > 0 && container.replicas == Reading::Value(0))
        .map(|container| {
            (
                Arc::clone(&container.namespace),
                Arc::clone(&container.pod),
                Arc::clone(&container.container),
            )
        })
        .collect()
}
