//! What there is one of, or few, sorted and indexed, so that rules find it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::mend::{self, Release, chart_version};
use super::profiles::Profiles;
use super::told::named;
use crate::model::setup::{
    Asked, ClusterPolicy, ObjectRef, PluginContainer, PluginDaemonSet, PluginPod, PluginRole, Setup,
};

/// The namespace of NVIDIA's documentation, where nothing better is known.
const USUAL_NAMESPACE: &str = "gpu-operator";

/// The set-up without the texts of its ConfigMaps, which are parsed.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) setup: Setup,
    pub(super) profiles: Profiles,
    pub(super) now: Duration,
    /// For so long after a start, a node's numbers and labels may still be those of before.
    pub(super) settling: Duration,
    /// Places in `plugin_pods`, by node.
    pods_on: HashMap<String, Vec<usize>>,
}

impl Cluster {
    pub(super) fn new(mut setup: Setup, now: Duration, settling: Duration) -> Self {
        let profiles = Profiles::new(std::mem::take(&mut setup.config_maps));
        if let Asked::Read(policies) = &mut setup.policies {
            policies.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if let Asked::Read(sets) = &mut setup.daemon_sets {
            sets.sort_by(|a, b| {
                (&a.namespace, a.role, &a.name).cmp(&(&b.namespace, b.role, &b.name))
            });
        }
        let mut pods_on: HashMap<String, Vec<usize>> = HashMap::new();
        if let Asked::Read(pods) = &mut setup.plugin_pods {
            pods.sort_by(|a, b| {
                (&a.namespace, a.role, &a.name).cmp(&(&b.namespace, b.role, &b.name))
            });
            for (place, pod) in pods.iter().enumerate() {
                let over = matches!(pod.phase.as_str(), "Failed" | "Succeeded");
                if let Some(node) = pod.node.clone().filter(|_| !over) {
                    pods_on.entry(node).or_default().push(place);
                }
            }
        }
        Self {
            setup,
            profiles,
            now,
            settling,
            pods_on,
        }
    }

    pub(super) fn policies(&self) -> &[ClusterPolicy] {
        self.setup.policies.read().map_or(&[], Vec::as_slice)
    }

    /// The ClusterPolicy that the operator follows.
    pub(super) fn policy(&self) -> Option<&ClusterPolicy> {
        let followed = |policy: &&ClusterPolicy| policy.state.as_deref() != Some("ignored");
        self.policies().iter().find(followed)
    }

    /// Where the operator's operands are.
    pub(super) fn operator_namespace(&self) -> &str {
        let by_policy = self.policy().and_then(|policy| policy.namespace.as_deref());
        let known = by_policy.or(self.setup.operator_namespace.as_deref());
        known.unwrap_or(USUAL_NAMESPACE)
    }

    pub(super) fn daemon_sets(&self) -> &[PluginDaemonSet] {
        self.setup.daemon_sets.read().map_or(&[], Vec::as_slice)
    }

    pub(super) fn plugins(&self) -> impl Iterator<Item = &PluginDaemonSet> {
        let sets = self.daemon_sets().iter();
        sets.filter(|set| set.role == PluginRole::Plugin)
    }

    pub(super) fn plugin_pods(&self) -> &[PluginPod] {
        self.setup.plugin_pods.read().map_or(&[], Vec::as_slice)
    }

    /// Pods of the plugin on a node that have not ended.
    pub(super) fn pods_on(&self, node: &str) -> impl Iterator<Item = &PluginPod> {
        let places = self.pods_on.get(node).into_iter().flatten();
        let pods = self.plugin_pods();
        places.filter_map(move |&place| pods.get(place))
    }

    /// Nodes that have such pods.
    pub(super) fn nodes_with_pods(&self) -> impl Iterator<Item = &str> {
        self.pods_on.keys().map(String::as_str)
    }

    pub(super) fn daemon_set_of(&self, pod: &PluginPod) -> Option<&PluginDaemonSet> {
        let name = pod.daemon_set.as_deref()?;
        let mut sets = self.daemon_sets().iter();
        sets.find(|set| set.name == name && set.namespace == pod.namespace)
    }

    /// Whether the operator made this pod. Without rights to read DaemonSets, where it would be.
    pub(super) fn of_operator(&self, pod: &PluginPod) -> bool {
        self.daemon_set_of(pod).map_or_else(
            || self.policy().is_some() && pod.namespace == self.operator_namespace(),
            |set| set.of_operator,
        )
    }

    /// The Helm release of the stand-alone plugin in a namespace.
    pub(super) fn release_in(&self, namespace: &str) -> Option<Release<'_>> {
        let mut sets = self.plugins().filter(|set| set.namespace == namespace);
        sets.find_map(|set| {
            Some(Release {
                name: named(set.release.as_deref())?,
                version: set.image.as_deref().and_then(chart_version),
            })
        })
    }

    /// Names of ConfigMaps that a policy, a DaemonSet or a pod of the plugin names, by namespace.
    pub(super) fn wired(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut wired: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let by_policy = self.policy().and_then(|policy| {
            let name = policy.config_name.as_deref();
            Some((self.operator_namespace(), named(name)?))
        });
        let by_sets = self.daemon_sets().iter().filter_map(|set| {
            let name = named(set.wiring.config_map.as_deref())?;
            Some((set.namespace.as_str(), name))
        });
        let by_pods = self.plugin_pods().iter().filter_map(|pod| {
            let name = named(pod.wiring.config_map.as_deref())?;
            Some((pod.namespace.as_str(), name))
        });
        for (namespace, name) in by_policy.into_iter().chain(by_sets).chain(by_pods) {
            wired.entry(namespace).or_default().insert(name);
        }
        wired
    }

    /// Commands after which the pods that read this ConfigMap read it anew: on one node where they
    /// roll only by hand, else everywhere.
    pub(super) fn reload(&self, namespace: &str, map: &str, node: Option<&str>) -> Vec<String> {
        let reads = |name: Option<&str>| name == Some(map);
        let sets: Vec<_> = self
            .daemon_sets()
            .iter()
            .filter(|set| set.namespace == namespace)
            .filter(|set| reads(set.wiring.config_map.as_deref()))
            .collect();
        let mut commands = Vec::new();
        let mut rolling = sets
            .iter()
            .filter(|set| !set.waits_for_deletion())
            .peekable();
        if rolling.peek().is_some() {
            let names = rolling.map(|set| set.name.as_str());
            commands.push(mend::restart(namespace, names));
        }
        let by_hand = |pod: &&PluginPod| match self.daemon_set_of(pod) {
            Some(set) => set.waits_for_deletion(),
            None => true,
        };
        let pods: Vec<_> = node
            .into_iter()
            .flat_map(|node| self.pods_on(node))
            .filter(|pod| pod.namespace == namespace && reads(pod.wiring.config_map.as_deref()))
            .filter(by_hand)
            .map(|pod| pod.name.as_str())
            .collect();
        if !pods.is_empty() {
            commands.push(mend::delete(namespace, "pod", pods));
        }
        commands
    }
}

impl PluginDaemonSet {
    /// Whether a changed template reaches only pods that somebody deletes.
    pub(super) fn waits_for_deletion(&self) -> bool {
        self.update_strategy.as_deref() == Some("OnDelete")
    }

    pub(super) fn object(&self) -> ObjectRef {
        super::found::object("DaemonSet", Some(&self.namespace), &self.name)
    }
}

impl PluginPod {
    pub(super) fn object(&self) -> ObjectRef {
        super::found::object("Pod", Some(&self.namespace), &self.name)
    }

    /// The container that reads the profile, and not the one that chooses it.
    pub(super) fn main(&self) -> Option<&PluginContainer> {
        let chooses = |name: &str| name == "config-manager" || name.ends_with("-sidecar");
        let mut containers = self.containers.iter();
        containers.find(|it| !it.init && !chooses(&it.name))
    }
}
