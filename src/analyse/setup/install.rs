//! How the plugin is installed: the operator, the plugin alone, both, half of it, none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::cluster::Cluster;
use super::found::{Found, finding, object, some_of};
use super::mend::{self, Release, quoted};
use super::profiles::Sought;
use super::told::named;
use super::version::{self, Version};
use crate::analyse::plugin_config::Sharing;
use crate::model::Severity;
use crate::model::setup::{OperatorDeployment, PluginDaemonSet, PluginPod, PluginRole};

/// `gpu_nodes` are those known to have GPUs, `bare` those of them that offer none.
pub(super) fn rules(cluster: &Cluster, gpu_nodes: &[&str], bare: &[&str], found: &mut Found) {
    operator(cluster, gpu_nodes, found);
    missing(cluster, bare, found);
    two_plugins(cluster, found);
    for set in cluster.daemon_sets() {
        waits_for_deletion(cluster, set, found);
        broken_version(cluster, set, found);
    }
}

fn operator(cluster: &Cluster, gpu_nodes: &[&str], found: &mut Found) {
    let policies = cluster.policies();
    for policy in policies {
        if policy.state.as_deref() == Some("ignored") {
            let it = finding(
                "operator_incomplete",
                Severity::Error,
                object("ClusterPolicy", None, &policy.name),
                "The operator follows one ClusterPolicy and ignores this one: nothing that is \
                 set here has an effect. Deleting an ignored one ends nothing.",
            );
            let target = quoted(&policy.name);
            found.add(
                it.field("status.state")
                    .expected("ready")
                    .found("ignored")
                    .mend([format!(
                        "kubectl delete clusterpolicies.nvidia.com {target}"
                    )]),
            );
        }
    }
    let Some(operators) = cluster.setup.operators.read() else {
        return;
    };
    let namespace = cluster.operator_namespace();
    let Some(policy) = cluster.policy() else {
        let asked = cluster.setup.policies.read().is_some();
        if let (true, true, Some(operator)) = (asked, policies.is_empty(), operators.first()) {
            let it = finding(
                "operator_incomplete",
                Severity::Error,
                object("Deployment", Some(&operator.namespace), &operator.name),
                "The operator runs and there is no ClusterPolicy, so it installs nothing. Its chart \
                 makes one; the command names the release as NVIDIA's documentation does.",
            );
            found.add(
                it.field("clusterpolicies.nvidia.com")
                    .expected("one ClusterPolicy")
                    .found("none")
                    .mend([reinstall(operator)]),
            );
        }
        return;
    };
    let of_policy = object("ClusterPolicy", None, &policy.name);
    if operators.is_empty() {
        let it = finding(
            "operator_incomplete",
            Severity::Error,
            of_policy,
            "There is a ClusterPolicy and no operator that follows it: a change of it has no \
             effect, and what the operator made is not kept up. Install the operator again, with \
             the values that it had.",
        );
        found.add(
            it.field("Deployment of the operator")
                .expected("one that is ready")
                .found("none"),
        );
        return;
    }
    if let Some(operator) = operators
        .first()
        .filter(|_| operators.iter().all(|it| it.ready == 0))
    {
        let stopped = operator.replicas == Some(0);
        let it = finding(
            "operator_incomplete",
            Severity::Error,
            object("Deployment", Some(&operator.namespace), &operator.name),
            match stopped {
                true => {
                    "The operator is scaled to none: a change of the ClusterPolicy has no effect."
                }
                false => "The operator is not ready: a change of the ClusterPolicy has no effect.",
            },
        );
        let (space, name) = (quoted(&operator.namespace), &operator.name);
        let target = quoted(&format!("deployment/{name}")).into_owned();
        found.add(
            it.field("status.readyReplicas")
                .expected("1")
                .found("0")
                .mend([match stopped {
                    true => format!("kubectl -n {space} scale {target} --replicas=1"),
                    false => format!("kubectl -n {space} rollout restart {target}"),
                }]),
        );
        return;
    }
    if cluster.setup.daemon_sets.read().is_none() || gpu_nodes.is_empty() {
        return;
    }
    for (enabled, role, name) in [
        (policy.plugin_enabled, PluginRole::Plugin, "device plugin"),
        (
            policy.discovery_enabled,
            PluginRole::FeatureDiscovery,
            "GPU feature discovery",
        ),
    ] {
        let mut sets = cluster.daemon_sets().iter();
        if enabled == Some(false) || sets.any(|set| set.role == role && set.of_operator) {
            continue;
        }
        let trouble = policy.trouble.as_deref().unwrap_or("it does not say why");
        let operator = operators
            .first()
            .map_or("gpu-operator", |it| it.name.as_str());
        let space = operators
            .first()
            .map_or(namespace, |it| it.namespace.as_str());
        found.add(
            finding(
                "operator_incomplete",
                Severity::Error,
                object("ClusterPolicy", None, &policy.name),
                format!(
                    "The operator should have made the DaemonSet of the {name} for {}, and there is \
                     none. Of the ClusterPolicy: {trouble}.",
                    some_of(gpu_nodes.iter().copied())
                ),
            )
            .field(format!("DaemonSet of the {name}"))
            .expected("one")
            .found(format!("none, state {}", policy.state.as_deref().unwrap_or("unknown")))
            .mend([format!(
                "kubectl -n {} rollout restart {}",
                quoted(space),
                quoted(&format!("deployment/{operator}"))
            )]),
        );
    }
}

/// The operator's chart once more, of the version that runs.
fn reinstall(operator: &OperatorDeployment) -> String {
    let version = operator
        .image
        .as_deref()
        .and_then(|image| image.rsplit_once(":v"));
    let version = version.map_or(String::new(), |(_, version)| {
        format!(" --version v{}", quoted(version))
    });
    format!(
        "helm upgrade gpu-operator nvidia/gpu-operator -n {} --reuse-values{version}",
        quoted(&operator.namespace)
    )
}

/// No plugin at all, on nodes that have GPUs.
fn missing(cluster: &Cluster, bare: &[&str], found: &mut Found) {
    let read =
        cluster.setup.daemon_sets.read().is_some() && cluster.setup.plugin_pods.read().is_some();
    let by_operator = cluster
        .policy()
        .is_some_and(|policy| policy.plugin_enabled != Some(false));
    let there = cluster.plugins().next().is_some() || !cluster.plugin_pods().is_empty();
    if !read || there || bare.is_empty() || by_operator {
        return;
    }
    let off = cluster.policy();
    let mend = match off {
        Some(policy) => vec![mend::patch_policy(
            &policy.name,
            &json!({"spec": {"devicePlugin": {"enabled": true}}}),
        )],
        None => vec![
            "helm repo add nvdp https://nvidia.github.io/k8s-device-plugin".to_owned(),
            "helm upgrade --install nvidia-device-plugin nvdp/nvidia-device-plugin \
             -n nvidia-device-plugin --create-namespace --set gfd.enabled=true"
                .to_owned(),
        ],
    };
    found.add(
        finding(
            "plugin_missing",
            Severity::Error,
            object("DaemonSet", None, ""),
            format!(
                "There is no device plugin, so GPUs are not offered on {}.",
                some_of(bare.iter().copied())
            ),
        )
        .field("DaemonSet of the device plugin")
        .expected("one")
        .found(match off {
            Some(_) => "none: the ClusterPolicy has devicePlugin.enabled: false",
            None => "none",
        })
        .mend(mend),
    );
}

/// Two plugins of one node register the same resource, and the kubelet takes the last.
fn two_plugins(cluster: &Cluster, found: &mut Found) {
    let mut rivals: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for node in cluster.nodes_with_pods() {
        let serving = |pod: &&PluginPod| pod.role == PluginRole::Plugin;
        let of: BTreeSet<(&str, &str)> = cluster
            .pods_on(node)
            .filter(serving)
            .filter_map(|pod| Some((pod.namespace.as_str(), pod.daemon_set.as_deref()?)))
            .collect();
        if of.len() < 2 {
            continue;
        }
        let keep = keeper(cluster, &of);
        for other in of.into_iter().filter(|it| Some(*it) != keep) {
            rivals.entry(other).or_default().insert(node);
        }
    }
    for ((namespace, name), nodes) in rivals {
        let set = cluster
            .daemon_sets()
            .iter()
            .find(|set| set.namespace == namespace && set.name == name);
        let release = set.and_then(|set| named(set.release.as_deref()));
        let mend = match release {
            Some(release) => format!(
                "helm uninstall {} -n {}",
                quoted(release),
                quoted(namespace)
            ),
            None => mend::delete(namespace, "daemonset", [name]),
        };
        let single = (nodes.len() == 1).then(|| nodes.first().copied()).flatten();
        let mut it = finding(
            "two_plugins",
            Severity::Error,
            object("DaemonSet", Some(namespace), name),
            format!(
                "A second device plugin serves {}: the kubelet believes whichever registered last, \
                 and two pods can be given one GPU that neither shares.",
                some_of(nodes.iter().copied())
            ),
        );
        it.node = single.map(str::to_owned);
        found.add(
            it.field("device plugins of the node")
                .expected("1")
                .found("2 or more")
                .mend([mend]),
        );
    }
}

/// The operator's, else the one that has a profile, else the first by name.
fn keeper<'n>(cluster: &Cluster, of: &BTreeSet<(&'n str, &'n str)>) -> Option<(&'n str, &'n str)> {
    let rank = |&(namespace, name): &(&str, &str)| {
        let mut sets = cluster.daemon_sets().iter();
        let set = sets.find(|set| set.namespace == namespace && set.name == name);
        let of_operator = set.is_some_and(|set| set.of_operator);
        let wired = set.is_some_and(|set| named(set.wiring.config_map.as_deref()).is_some());
        (!of_operator, !wired)
    };
    of.iter().min_by_key(|it| rank(it)).copied()
}

/// `OnDelete`, and pods of an old template.
fn waits_for_deletion(cluster: &Cluster, set: &PluginDaemonSet, found: &mut Found) {
    if !set.waits_for_deletion() {
        return;
    }
    let mine = |pod: &&PluginPod| {
        pod.namespace == set.namespace && pod.daemon_set.as_deref() == Some(set.name.as_str())
    };
    let old = |pod: &&PluginPod| match (pod.template_generation, set.template_generation) {
        (Some(of_pod), Some(of_set)) => of_pod < of_set,
        _ => false,
    };
    let pods: Vec<_> = cluster
        .plugin_pods()
        .iter()
        .filter(mine)
        .filter(old)
        .collect();
    let waiting = match pods.len() {
        // Of pods that could not be read, the DaemonSet's own count.
        0 if cluster.setup.plugin_pods.read().is_none() => {
            usize::try_from(set.desired.saturating_sub(set.updated)).unwrap_or(usize::MAX)
        }
        known => known,
    };
    if waiting == 0 {
        return;
    }
    let revisions: BTreeSet<&str> = pods
        .iter()
        .filter_map(|pod| pod.revision.as_deref())
        .collect();
    let mend = match (revisions.is_empty(), pods.is_empty()) {
        (false, _) => {
            let revisions: Vec<_> = revisions.into_iter().collect();
            let selector = format!("controller-revision-hash in ({})", revisions.join(","));
            Some(format!(
                "kubectl -n {} delete pods -l {}",
                quoted(&set.namespace),
                quoted(&selector)
            ))
        }
        (true, false) => {
            let names = pods.iter().map(|pod| pod.name.as_str());
            Some(mend::delete(&set.namespace, "pod", names))
        }
        (true, true) => None,
    };
    let on = pods.iter().filter_map(|pod| pod.node.as_deref());
    let on: BTreeSet<&str> = on.collect();
    found.add(
        finding(
            "rollout_waits_for_deletion",
            Severity::Warning,
            set.object(),
            format!(
                "Its updateStrategy is OnDelete: {waiting} of its pods keep the old template, and \
                 its old wiring, until somebody deletes them ({}).",
                some_of(on)
            ),
        )
        .field("status.updatedNumberScheduled")
        .expected(set.desired)
        .found(set.updated)
        .mend(mend),
    );
}

/// A version that does not do what the profiles ask of it.
fn broken_version(cluster: &Cluster, set: &PluginDaemonSet, found: &mut Found) {
    let map = named(set.wiring.config_map.as_deref());
    let (Some(map), Some(image)) = (map, set.image.as_deref()) else {
        return;
    };
    let (Sought::There(map), Some(version)) = (
        cluster.profiles.sought(&set.namespace, map),
        Version::of_plugin(image),
    ) else {
        return;
    };
    if set.role != PluginRole::Plugin {
        return;
    }
    let strategies: Vec<Sharing> = map
        .profiles
        .values()
        .filter_map(|profile| Some(profile.config.as_ref()?.sharing()))
        .collect();
    let Some(fault) = version::fault(version, &strategies) else {
        return;
    };
    let good = version::GOOD;
    let mend = match (
        cluster.policy().filter(|_| set.of_operator),
        named(set.release.as_deref()),
    ) {
        (Some(policy), _) => Some(mend::patch_policy(
            &policy.name,
            &json!({"spec": {"devicePlugin": {"version": format!("v{good}")}}}),
        )),
        (None, Some(name)) => {
            let release = Release {
                name,
                version: Some(good),
            };
            Some(mend::helm(release, &set.namespace, &[]))
        }
        (None, None) => Some(format!(
            "kubectl -n {} set image {} {}",
            quoted(&set.namespace),
            quoted(&format!("daemonset/{}", set.name)),
            quoted(&format!("*=nvcr.io/nvidia/k8s-device-plugin:v{good}"))
        )),
    };
    found.add(
        finding(
            "plugin_version_broken",
            Severity::Warning,
            set.object(),
            format!("Version {version} of the device plugin {}.", fault.words),
        )
        .field("image")
        .expected(format!("v{} or later", fault.mended))
        .found(image)
        .mend(mend),
    );
}
