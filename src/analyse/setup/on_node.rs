//! A node: what its pods of the plugin are told, and whether it is so.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::found::{Found, finding, object, some_of};
use super::mend::{self, quoted};
use super::nodes::{Node, Offer};
use super::profiles::GPU;
use super::told::{CONFIG_LABEL, Outcome, Told, named, set_default, told};
use super::{edited, labels, mig, not_ready};
use crate::analyse::plugin_config::{MigStrategy, PluginConfig, Sharing};
use crate::model::Severity;
use crate::model::setup::{
    KeyFrom, NodeInForce, PluginDaemonSet, PluginPod, PluginRole, PluginWiring,
};

/// A node and what is known of it.
pub(super) struct OnNode<'c> {
    pub(super) cluster: &'c Cluster,
    pub(super) name: &'c str,
    pub(super) node: &'c Node,
    /// The one pod of the plugin that serves it; none where there is none, or two.
    pub(super) pod: Option<&'c PluginPod>,
    pub(super) of_operator: bool,
    pub(super) namespace: &'c str,
    pub(super) wiring: &'c PluginWiring,
    pub(super) told: Told<'c>,
    /// What the plugin reads; absent where it cannot be told.
    pub(super) config: Option<Cow<'c, PluginConfig>>,
    pub(super) strategy: mig::InForce,
}

impl<'c> OnNode<'c> {
    /// Absent where no one plugin serves the node.
    pub(super) fn new(cluster: &'c Cluster, name: &'c str, node: &'c Node) -> Option<Self> {
        let mut serving = cluster
            .pods_on(name)
            .filter(|pod| pod.role == PluginRole::Plugin);
        let pod = serving.next();
        let first = pod.map(|pod| (&pod.namespace, &pod.daemon_set));
        if serving.any(|other| Some((&other.namespace, &other.daemon_set)) != first) {
            return None;
        }
        let set = cluster
            .plugins()
            .find(|set| selects(set, node) != Some(false));
        let (namespace, wiring, of_operator) = match (pod, set) {
            (Some(pod), _) => (&pod.namespace, &pod.wiring, cluster.of_operator(pod)),
            (None, Some(set)) if cluster.setup.plugin_pods.read().is_none() => {
                (&set.namespace, &set.wiring, set.of_operator)
            }
            (None, _) => return None,
        };
        let label = node.label(CONFIG_LABEL);
        let told = told(cluster, namespace, wiring, of_operator, label);
        let config = told.outcome.config();
        let strategy = mig::in_force(cluster, wiring, of_operator, config.as_deref());
        Some(Self {
            cluster,
            name,
            node,
            pod,
            of_operator,
            namespace,
            wiring,
            told,
            config,
            strategy,
        })
    }

    /// Whether the profile in force shares GPUs.
    pub(super) fn shares(&self) -> bool {
        let sharing = self.config.as_deref().map(PluginConfig::sharing);
        sharing.is_some_and(|sharing| sharing != Sharing::None)
    }

    pub(super) fn map(&self) -> Option<&'c str> {
        named(self.wiring.config_map.as_deref())
    }

    /// The other pods that read the same ConfigMap fail by the same fault.
    fn failing_pods(&self) -> BTreeMap<&'c str, Vec<&'c str>> {
        let mut failing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let pods = self.cluster.pods_on(self.name);
        for pod in
            pods.filter(|pod| !pod.ready && named(pod.wiring.config_map.as_deref()) == self.map())
        {
            failing.entry(&pod.namespace).or_default().push(&pod.name);
        }
        failing
    }

    /// What stands here, for a report.
    pub(super) fn in_force(&self) -> NodeInForce {
        // A plugin that no ConfigMap is wired to may have its profile from elsewhere.
        let wired = self.told.from != Some(KeyFrom::Unwired);
        let config = self.config.as_deref().filter(|_| wired);
        let resource = config.map(|config| config.advertised_name(GPU).into_owned());
        let resource = resource.or_else(|| self.node.gpu_name().map(str::to_owned));
        let replicas = config.map(|config| u64::from(config.replicas_of(GPU)));
        let gpus = self.node.gpus();
        NodeInForce {
            node: self.name.to_owned(),
            config_map: self.map().map(|map| format!("{}/{map}", self.namespace)),
            key: self.told.key.map(str::to_owned),
            from: self.told.from,
            sharing: config.map(|config| config.sharing().label()),
            takes_pods: self.node.takes_pods(),
            gpus,
            replicas,
            expected: gpus
                .zip(replicas)
                .map(|(gpus, replicas)| gpus.saturating_mul(replicas)),
            allocatable: resource.as_deref().map(|name| self.node.allocatable(name)),
            resource,
        }
    }
}

/// Whether a DaemonSet's selector takes this node; unknown where it asks for labels that were not
/// read.
pub(super) fn selects(set: &PluginDaemonSet, node: &Node) -> Option<bool> {
    let mut known = Some(true);
    for (label, value) in &set.node_selector {
        if !label.starts_with("nvidia.com/") {
            known = None;
        } else if node.label(label) != Some(value) {
            return Some(false);
        }
    }
    known
}

/// All rules of a node that one plugin serves. `others_choose`: whether other nodes get sharing from
/// the same ConfigMap.
pub(super) fn rules(it: &OnNode<'_>, others_choose: bool, found: &mut Found) {
    if it.node.ready == Some(false) {
        return;
    }
    chosen_key(it, found);
    let explained = matches!(
        it.told.outcome,
        Outcome::NoKey(_) | Outcome::NoFallback(_) | Outcome::NoKeys | Outcome::NoMap
    );
    let mut ill = false;
    for pod in it.cluster.pods_on(it.name) {
        let same_map = named(pod.wiring.config_map.as_deref()) == it.map();
        let ready = not_ready::rule(it, pod, explained && same_map, found);
        ill |= !ready && pod.role == PluginRole::Plugin;
    }
    if !it.node.has_gpus() {
        return;
    }
    if explained {
        if matches!(it.told.outcome, Outcome::NoFallback(_)) {
            sharing(it, others_choose, found);
        }
        return;
    }
    mig::rules(it, found);
    let edited = edited::rules(it, found);
    let settled = it.pod.is_none_or(|pod| settled(it.cluster, pod));
    if !ill && !edited.plugin && settled {
        sharing(it, others_choose, found);
    }
    if !edited.discovery && settled {
        labels::rule(it, found);
    }
}

/// Whether a pod's main container runs for long enough to have changed what the node says.
pub(super) fn settled(cluster: &Cluster, pod: &PluginPod) -> bool {
    let started = pod.main().and_then(|main| main.started).or(pod.started);
    started.is_none_or(|started| cluster.now.saturating_sub(started) >= cluster.settling)
}

/// A key that is not there.
fn chosen_key(it: &OnNode<'_>, found: &mut Found) {
    let (Some(key), Some(KeyFrom::Label), Outcome::NoKey(map)) =
        (it.told.key, it.told.from, &it.told.outcome)
    else {
        return;
    };
    let default = named(it.wiring.default_config.as_deref());
    let default = default.filter(|key| map.profiles.contains_key(*key));
    let first = match (default, map.likely_key()) {
        (Some(_), _) => Some(mend::label_node(it.name, CONFIG_LABEL, None)),
        (None, Some(key)) => Some(mend::label_node(it.name, CONFIG_LABEL, Some(key))),
        (None, None) => None,
    };
    let failing = it.failing_pods();
    let delete = |(namespace, pods): (&str, Vec<&str>)| mend::delete(namespace, "pod", pods);
    let state = match failing.is_empty() {
        true => "Its plugin runs on with the profile that it had, until it restarts",
        false => "Its plugin does not start, or chooses no other profile until that is mended",
    };
    let map_name = format!("{}/{}", it.namespace, it.map().unwrap_or_default());
    found.add(
        finding(
            "node_label_names_missing_key",
            Severity::Error,
            object("Node", None, it.name),
            format!("The label names {key:?}, which is no key of ConfigMap {map_name}. {state}."),
        )
        .on(it.name)
        .field(format!("metadata.labels.{CONFIG_LABEL}"))
        .expected(format!("one of {}", some_of(map.keys())))
        .found(key)
        .mend(first.into_iter().chain(failing.into_iter().map(delete))),
    );
}

/// A profile shares, and the node does not, or otherwise.
fn sharing(it: &OnNode<'_>, others_choose: bool, found: &mut Found) {
    match &it.told.outcome {
        Outcome::Empty(map) | Outcome::NoFallback(map) if map.shares() => {
            let Some(key) = map.likely_key() else { return };
            let mut mend = set_default(it.cluster, it.namespace, it.of_operator, key);
            if (others_choose || mend.is_empty()) && it.wiring.config_manager {
                mend = vec![mend::label_node(it.name, CONFIG_LABEL, Some(key))];
            }
            let severity = match others_choose {
                true => Severity::Warning,
                false => Severity::Error,
            };
            let map = format!("{}/{}", it.namespace, it.map().unwrap_or_default());
            let mut one = finding(
                "sharing_not_in_force",
                severity,
                object("Node", None, it.name),
                format!(
                    "ConfigMap {map} has profiles with sharing, and this node gets none: it has no \
                     label {CONFIG_LABEL} and there is no default. If it shall not share, give it a \
                     profile that says so."
                ),
            )
            .on(it.name)
            .field(format!("label {CONFIG_LABEL}, or default"))
            .expected(format!("one of {}", some_of(map_keys(&it.told.outcome))))
            .mend(mend);
            if let Some(gpus) = it.node.gpus() {
                let offered = it.node.allocatable(GPU);
                one = one.found(format!(
                    "neither; allocatable {GPU} is {offered}, GPUs {gpus}"
                ));
            }
            found.add(one);
        }
        // A plugin that no ConfigMap is wired to may have its profile from elsewhere.
        Outcome::Profile(_) | Outcome::Empty(_) => differs(it, found),
        _ => {}
    }
}

fn map_keys<'o>(outcome: &'o Outcome<'_>) -> impl Iterator<Item = &'o str> {
    let map = match outcome {
        Outcome::Empty(map) | Outcome::NoFallback(map) => Some(*map),
        _ => None,
    };
    map.into_iter().flat_map(|map| map.keys())
}

/// The numbers disagree, though nobody edited anything since the plugin started.
fn differs(it: &OnNode<'_>, found: &mut Found) {
    let (Some(config), Some(pod)) = (&it.config, it.pod) else {
        return;
    };
    let Offer::Differs {
        resource,
        expected,
        found: offered,
        other,
    } = it.node.offer(config, it.strategy.strategy)
    else {
        return;
    };
    // GPUs in MIG mode without the strategy for it are another finding.
    if it.node.mig() && it.strategy.strategy == MigStrategy::None {
        return;
    }
    let what = match (&it.told.key, config.sharing()) {
        (Some(key), Sharing::None) => format!("Profile {key:?} shares nothing, which"),
        (Some(key), _) => format!("Profile {key:?}, by {},", by(it.told.from)),
        (None, _) => "No label and no default choose a profile, which".to_owned(),
    };
    let beside = match other {
        (name, count) if count > 0 => format!(", and {count} of {name}"),
        _ => String::new(),
    };
    found.add(
        finding(
            "sharing_not_in_force",
            Severity::Error,
            object("Node", None, it.name),
            format!(
                "{what} makes {expected} of {resource}, and the node offers {offered}{beside}: the \
                 plugin runs with something else."
            ),
        )
        .on(it.name)
        .field(format!("status.capacity.{resource}"))
        .expected(expected)
        .found(offered)
        .mend([mend::delete(&pod.namespace, "pod", [pod.name.as_str()])]),
    );
}

fn by(from: Option<KeyFrom>) -> &'static str {
    match from {
        Some(KeyFrom::Label) => "the node's label",
        Some(KeyFrom::Default) => "default",
        Some(KeyFrom::Named) => "its name",
        Some(KeyFrom::Single) => "being the only one",
        Some(KeyFrom::Empty | KeyFrom::Unwired) | None => "nothing",
    }
}

/// A node with GPUs, a plugin elsewhere, and none here.
pub(super) fn no_pod(cluster: &Cluster, name: &str, node: &Node, found: &mut Found) {
    const DEPLOY: &str = "nvidia.com/gpu.deploy.";
    let paused = ["device-plugin", "operands"].iter().any(|operand| {
        let value = node.label(&format!("{DEPLOY}{operand}"));
        value.is_some_and(|value| value == "false" || value.starts_with("paused"))
    });
    let read = cluster.setup.plugin_pods.read().is_some();
    let Some(set) = cluster.plugins().next().filter(|_| read) else {
        return;
    };
    if paused || node.offers_gpus() || node.ready == Some(false) {
        return;
    }
    let set = cluster
        .plugins()
        .find(|set| selects(set, node) != Some(false))
        .unwrap_or(set);
    let lacking: Vec<_> = set
        .node_selector
        .iter()
        .filter(|(label, value)| {
            label.starts_with("nvidia.com/") && node.label(label) != Some(value)
        })
        .collect();
    let taints: Vec<&str> = node
        .taints
        .iter()
        .map(String::as_str)
        .filter(|taint| !taint.ends_with(":PreferNoSchedule"))
        .filter(|taint| {
            !taint.starts_with("node.kubernetes.io/") && !taint.starts_with("nvidia.com/gpu")
        })
        .collect();
    let (why, mend) = match (lacking.is_empty(), taints.is_empty()) {
        (false, _) => (
            "its selector does not take this node".to_owned(),
            lacking
                .iter()
                .map(|(label, value)| mend::label_node(name, label, Some(value)))
                .collect(),
        ),
        (true, false) => (
            format!("a taint may keep it away: {}", taints.join(", ")),
            tolerate(cluster, set, &taints),
        ),
        (true, true) => (
            "its selector takes this node, so the events of the DaemonSet say why".to_owned(),
            vec![format!(
                "kubectl -n {} describe {}",
                quoted(&set.namespace),
                quoted(&format!("daemonset/{}", set.name))
            )],
        ),
    };
    found.add(
        finding(
            "plugin_missing",
            Severity::Error,
            object("Node", None, name),
            format!(
                "The node has GPUs and offers none, because no pod of {}/{} is on it: {why}.",
                set.namespace, set.name
            ),
        )
        .on(name)
        .field("pod of the device plugin")
        .expected("1")
        .found("0")
        .mend(mend),
    );
}

/// Has the operator's DaemonSets tolerate what is on the node; its chart sets the list.
fn tolerate(cluster: &Cluster, set: &PluginDaemonSet, taints: &[&str]) -> Vec<String> {
    let Some(policy) = cluster.policy().filter(|_| set.of_operator) else {
        return Vec::new();
    };
    let add: Vec<_> = taints
        .iter()
        .map(|taint| {
            let key = taint.split(['=', ':']).next().unwrap_or(taint);
            serde_json::json!({
                "op": "add",
                "path": "/spec/daemonsets/tolerations/-",
                "value": {"key": key, "operator": "Exists"},
            })
        })
        .collect();
    let patch = serde_json::Value::Array(add).to_string();
    vec![format!(
        "kubectl patch {} --type json -p {}",
        quoted(&format!("clusterpolicies.nvidia.com/{}", policy.name)),
        quoted(&patch)
    )]
}
