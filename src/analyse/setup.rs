//! The set-up of time-slicing in a cluster: from what was read to findings.
//!
//! [`Check`] takes what there is one of, then nodes one by one; [`PodCheck`] the pods. What was given
//! can be dropped: of a node little is kept, of a pod only what is wrong with it. Neither the order
//! of nodes nor that of pods changes what is found.
//!
//! # Codes
//! Besides those of [`plugin_config`](super::plugin_config), which hold for each key of a ConfigMap
//! that is wired: `config_edited_not_rolled_out`, `sharing_not_in_force`,
//! `node_label_names_missing_key`, `pending_on_zero_resource`, `request_greater_than_one`,
//! `containers_request_one_each`, `mig_with_strategy_none`, `mps_with_mig_mixed`,
//! `mig_strategy_overridden`,
//! `config_not_wired`, `config_map_missing`, `config_map_empty`, `config_map_name_unusable`,
//! `default_names_missing_key`, `labels_out_of_date`, `rollout_waits_for_deletion`,
//! `plugin_pod_not_ready`, `plugin_version_broken`, `plugin_missing`, `two_plugins`,
//! `operator_incomplete`, `runtime_class_missing`, `rights_missing`, `api_unavailable`.
//!
//! # Where the rules come from
//! NVIDIA/k8s-device-plugin v0.20: `cmd/config-manager/main.go` (which key, and that a changed file
//! is not looked at), `internal/lm` (labels), `internal/rm/rm.go` (requests); NVIDIA/gpu-operator
//! v26.7: `controllers/object_controls.go`. deploy/time-slicing/README.md quotes both.

mod asked;
mod cluster;
mod edited;
mod found;
mod install;
mod labels;
mod mend;
mod mig;
mod nodes;
mod not_ready;
mod on_node;
mod profiles;
mod repair;
mod runtime;
#[cfg(test)]
mod tests;
mod told;
mod version;
mod wiring;
mod workloads;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use self::cluster::Cluster;
use self::found::Found;
pub use self::found::MAX_OF_A_CODE;
use self::nodes::{Alike, Node};
use self::on_node::OnNode;
use self::runtime::RuntimeClasses;
use self::workloads::{Shares, Workloads};
use crate::model::setup::{
    Asked, KeyFrom, NodeInForce, NodeRead, PluginRole, PodRead, Setup, SetupReport,
};

/// How long kubelet and feature discovery take, at most, to show what a plugin that started offers.
pub const SETTLING: Duration = Duration::from_secs(120);

/// A cluster's set-up, while its nodes are read.
#[derive(Debug)]
pub struct Check {
    cluster: Cluster,
    alike: Alike,
    nodes: BTreeMap<String, Node>,
}

impl Check {
    /// Of what there is one of, or few. `now` is since 1970, as the API server's `Date` has it. For
    /// `settling` after a start of the plugin, what its node says may be of before and is no finding;
    /// usually [`SETTLING`].
    pub fn new(setup: Setup, now: Duration, settling: Duration) -> Self {
        Self {
            cluster: Cluster::new(setup, now, settling),
            alike: Alike::default(),
            nodes: BTreeMap::new(),
        }
    }

    /// A node. Where some nodes are asked about, the others are passed over.
    pub fn node(&mut self, node: &NodeRead) {
        let only = &self.cluster.setup.only_nodes;
        if only.is_empty() || only.contains(&node.name) {
            self.nodes.insert(node.name.clone(), self.alike.keep(node));
        }
    }

    /// No more nodes: all were read, or why not. Pods are next.
    pub fn pods(self, nodes: &Asked<()>) -> PodCheck {
        let Self {
            cluster,
            nodes: kept,
            ..
        } = self;
        let all = nodes.read().is_some() && cluster.setup.only_nodes.is_empty();
        let mut found = Found::default();
        asked::rules(&cluster, &mut found);
        asked::answer(nodes, &mut found);
        wiring::rules(&cluster, &mut found);
        let (in_force, shares) = look(&cluster, &kept, &mut found);
        let gpu_nodes: Vec<&str> = with_gpus(&kept).map(|(name, _)| name).collect();
        let bare =
            with_gpus(&kept).filter(|(_, node)| !node.offers_gpus() && node.ready != Some(false));
        let bare: Vec<&str> = bare.map(|(name, _)| name).collect();
        install::rules(&cluster, &gpu_nodes, &bare, &mut found);
        PodCheck {
            found,
            all,
            shares,
            in_force,
            nodes: kept,
            cluster,
            workloads: Workloads::default(),
            classes: RuntimeClasses::default(),
            pods_read: 0,
        }
    }
}

/// The same, while pods are read.
#[derive(Debug)]
pub struct PodCheck {
    cluster: Cluster,
    found: Found,
    /// Whether `nodes` are all of the cluster.
    all: bool,
    nodes: BTreeMap<String, Node>,
    shares: HashMap<String, Shares>,
    in_force: Vec<NodeInForce>,
    workloads: Workloads,
    classes: RuntimeClasses,
    pods_read: u64,
}

impl PodCheck {
    /// A pod that asks for GPUs, or names a RuntimeClass.
    pub fn pod(&mut self, pod: &PodRead) {
        self.pods_read += 1;
        let nodes = self.all.then_some(&self.nodes);
        self.workloads.pod(pod, nodes, &self.shares);
        self.classes.pod(pod);
    }

    /// No more pods: all were read, or why not.
    pub fn finish(self, pods: &Asked<()>) -> SetupReport {
        let Self {
            cluster,
            mut found,
            all: _,
            nodes,
            shares: _,
            in_force,
            workloads,
            classes,
            pods_read,
        } = self;
        asked::answer(pods, &mut found);
        workloads.findings(&mut found);
        runtime::rules(&cluster, &classes, &mut found);
        let (findings, left_out) = found.sorted();
        SetupReport {
            findings,
            left_out,
            nodes: in_force,
            nodes_read: u64::try_from(nodes.len()).unwrap_or(u64::MAX),
            pods_read,
        }
    }
}

fn with_gpus(nodes: &BTreeMap<String, Node>) -> impl Iterator<Item = (&str, &Node)> {
    let nodes = nodes.iter().filter(|(_, node)| node.has_gpus());
    nodes.map(|(name, node)| (name.as_str(), node))
}

/// All nodes with GPUs: what is in force on each, and what each shares.
fn look(
    cluster: &Cluster,
    nodes: &BTreeMap<String, Node>,
    found: &mut Found,
) -> (Vec<NodeInForce>, HashMap<String, Shares>) {
    let looked_at: Vec<(&str, &Node, Option<OnNode<'_>>)> = nodes
        .iter()
        .filter(|(name, node)| node.has_gpus() || served(cluster, name))
        .map(|(name, node)| (name.as_str(), node, OnNode::new(cluster, name, node)))
        .collect();
    // ConfigMaps by which nodes share that chose so by label.
    let chosen: HashSet<(&str, &str)> = looked_at
        .iter()
        .filter_map(|(_, _, it)| it.as_ref())
        .filter(|it| it.told.from == Some(KeyFrom::Label) && it.shares())
        .filter_map(|it| Some((it.namespace, it.map()?)))
        .collect();
    let mut in_force = Vec::new();
    let mut shares = HashMap::new();
    for (name, node, it) in looked_at {
        match &it {
            Some(it) => {
                let map = it.map();
                // Those that were not looked at may choose so.
                let unseen = !cluster.setup.only_nodes.is_empty();
                let others = unseen || map.is_some_and(|map| chosen.contains(&(it.namespace, map)));
                on_node::rules(it, others, found);
            }
            None if !served(cluster, name) => on_node::no_pod(cluster, name, node, found),
            None => {}
        }
        let config = it.as_ref().and_then(|it| it.config.as_deref());
        shares.insert(name.to_owned(), workloads::shares(node, config));
        if node.has_gpus() {
            in_force.push(it.map_or_else(|| unknown(name, node), |it| it.in_force()));
        }
    }
    (in_force, shares)
}

/// Whether a pod of the plugin is on a node.
fn served(cluster: &Cluster, node: &str) -> bool {
    let mut pods = cluster.pods_on(node);
    pods.any(|pod| pod.role == PluginRole::Plugin)
}

/// A node of which only its own words are known.
fn unknown(name: &str, node: &Node) -> NodeInForce {
    NodeInForce {
        node: name.to_owned(),
        config_map: None,
        key: None,
        from: None,
        sharing: None,
        resource: node.gpu_name().map(str::to_owned),
        takes_pods: node.takes_pods(),
        gpus: node.gpus(),
        replicas: None,
        expected: None,
        allocatable: node.gpu_name().map(|name| node.allocatable(name)),
    }
}
