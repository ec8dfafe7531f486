use super::*;
use crate::model::setup::{ClusterPolicy, NodeRead, PluginDaemonSet};

/// The plugin and all of its pods are gone, and the GPUs with them.
fn uninstalled(it: &mut World) {
    it.sets().clear();
    it.pods_of_plugin().clear();
    it.pods.clear();
    for node in &mut it.nodes {
        node.capacity.clear();
        node.allocatable.clear();
    }
}

/// A second plugin, on the first node.
fn second(it: &mut World) {
    let mut set = it.sets()[0].clone();
    set.namespace = "kube-system".into();
    set.name = "nvidia-device-plugin-daemonset".into();
    set.of_operator = false;
    set.release = None;
    set.wiring.config_map = None;
    it.sets().push(set);
    let mut pod = it.pods_of_plugin()[0].clone();
    pod.namespace = "kube-system".into();
    pod.name = "second".into();
    pod.daemon_set = Some("nvidia-device-plugin-daemonset".into());
    pod.wiring.config_map = None;
    it.pods_of_plugin().push(pod);
}

fn by_hand(set: &mut PluginDaemonSet) {
    set.update_strategy = Some("OnDelete".into());
    set.template_generation = Some(4);
    set.updated = 0;
}

#[test]
fn the_operator_whole_and_in_part() {
    try_all(
        operator,
        &[
            (
                "no ClusterPolicy",
                |it| {
                    it.setup.policies = Asked::Read(Vec::new());
                    uninstalled(it);
                },
                &["operator_incomplete", "plugin_missing"],
            ),
            (
                "no operator",
                |it| it.operators().clear(),
                &["operator_incomplete"],
            ),
            (
                "an operator that is not ready",
                |it| it.operators()[0].ready = 0,
                &["operator_incomplete"],
            ),
            (
                "a second ClusterPolicy",
                |it| {
                    let ignored = ClusterPolicy {
                        name: "another".into(),
                        state: Some("ignored".into()),
                        ..ClusterPolicy::default()
                    };
                    if let Asked::Read(policies) = &mut it.setup.policies {
                        policies.push(ignored);
                    }
                },
                &["operator_incomplete"],
            ),
            (
                "DaemonSets that it should have",
                uninstalled,
                &["operator_incomplete"],
            ),
            (
                "and no GPUs to have them for",
                |it| {
                    uninstalled(it);
                    it.nodes.clear();
                },
                &[],
            ),
            (
                "feature discovery is turned off",
                |it| {
                    it.policy().discovery_enabled = Some(false);
                    it.sets().remove(1);
                    it.pods_of_plugin()
                        .retain(|pod| pod.role == PluginRole::Plugin);
                },
                &[],
            ),
            (
                "the plugin is turned off",
                |it| {
                    uninstalled(it);
                    it.policy().plugin_enabled = Some(false);
                    it.policy().discovery_enabled = Some(false);
                    it.maps().clear();
                },
                &["plugin_missing"],
            ),
            ("two plugins", second, &["two_plugins"]),
        ],
    );
}

#[test]
fn a_cluster_without_gpus_has_no_findings() {
    let mut world = operator();
    world.setup = Default::default();
    world.nodes.clear();
    world.pods.clear();
    assert_eq!(world.report().findings, []);
}

#[test]
fn no_plugin() {
    try_all(
        alone,
        &[
            ("no plugin", uninstalled, &["plugin_missing"]),
            (
                "GPUs that somebody else's plugin offers",
                |it| {
                    it.sets().clear();
                    it.pods_of_plugin().clear();
                    it.maps().clear();
                },
                &[],
            ),
            (
                "none on a node that the selector leaves out",
                |it| {
                    it.sets()[0].node_selector =
                        [("nvidia.com/gpu.deploy.device-plugin".into(), "true".into())].into();
                    it.nodes.push(NodeRead {
                        name: "gpu-3".into(),
                        labels: [("nvidia.com/gpu.present".into(), "true".into())].into(),
                        ..NodeRead::default()
                    });
                },
                &["plugin_missing"],
            ),
            (
                "none on a node where it is turned off",
                |it| {
                    it.nodes.push(NodeRead {
                        name: "gpu-3".into(),
                        labels: [
                            ("nvidia.com/gpu.present".into(), "true".into()),
                            ("nvidia.com/gpu.deploy.device-plugin".into(), "false".into()),
                        ]
                        .into(),
                        ..NodeRead::default()
                    });
                },
                &[],
            ),
            (
                "a node without GPUs, where the plugin idles",
                |it| {
                    it.nodes.push(NodeRead {
                        name: "cpu-1".into(),
                        ..NodeRead::default()
                    });
                    let mut pod = it.pods_of_plugin()[0].clone();
                    pod.name = "idle".into();
                    pod.node = Some("cpu-1".into());
                    it.pods_of_plugin().push(pod);
                },
                &[],
            ),
        ],
    );
    let it = the_one(alone(), uninstalled, "plugin_missing");
    assert_eq!(it.mend.len(), 2);
    let tainted = |it: &mut World| {
        it.pods_of_plugin()
            .retain(|pod| pod.node.as_deref() == Some("gpu-2"));
        let node = it.node(0);
        node.capacity.clear();
        node.allocatable.clear();
        node.taints.push("team=ml:NoSchedule".into());
    };
    let it = the_one(operator(), tainted, "plugin_missing");
    assert_eq!(it.node.as_deref(), Some("gpu-1"));
    assert_eq!(
        it.mend,
        [
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type json -p \
          '[{\"op\":\"add\",\"path\":\"/spec/daemonsets/tolerations/-\",\"value\":{\"key\":\"team\",\"operator\":\"Exists\"}}]'"
        ]
    );
}

#[test]
fn of_two_plugins_the_operators_stays() {
    let it = the_one(operator(), second, "two_plugins");
    assert_eq!(
        (it.node.as_deref(), it.object.namespace.as_deref()),
        (Some("gpu-1"), Some("kube-system"))
    );
    assert_eq!(
        it.mend,
        ["kubectl -n kube-system delete daemonset nvidia-device-plugin-daemonset"]
    );
    // Without the operator it is the one that has a profile.
    let it = the_one(alone(), second, "two_plugins");
    assert_eq!(it.object.namespace.as_deref(), Some("kube-system"));
}

#[test]
fn pods_of_an_old_template() {
    try_all(
        operator,
        &[
            (
                "by hand, and old pods",
                |it| it.sets().iter_mut().for_each(by_hand),
                &["rollout_waits_for_deletion"],
            ),
            (
                "by hand, and all are new",
                |it| it.sets()[0].update_strategy = Some("OnDelete".into()),
                &[],
            ),
            (
                "rolling by itself",
                |it| it.sets()[0].template_generation = Some(4),
                &[],
            ),
        ],
    );
    let it = of_code(
        operator(),
        |it| by_hand(&mut it.sets()[0]),
        "rollout_waits_for_deletion",
    );
    assert_eq!(
        it[0].mend,
        ["kubectl -n gpu-operator delete pods -l 'controller-revision-hash in (5d8f)'"]
    );
    assert!(it[0].words.contains("2 of its pods"), "{}", it[0].words);
}

#[test]
fn versions_that_do_not_do_it() {
    fn image(it: &mut World, tag: &str) {
        it.sets()[0].image = Some(format!("nvcr.io/nvidia/k8s-device-plugin:{tag}"));
    }
    try_all(
        alone,
        &[
            (
                "before time-slicing",
                |it| image(it, "v0.11.0"),
                &["plugin_version_broken"],
            ),
            (
                "before replicas were spread",
                |it| image(it, "v0.12.3"),
                &["plugin_version_broken"],
            ),
            ("good enough", |it| image(it, "v0.13.0"), &[]),
            ("no version", |it| image(it, "latest"), &[]),
        ],
    );
    let it = the_one(alone(), |it| image(it, "v0.11.0"), "plugin_version_broken");
    assert_eq!(
        it.mend,
        [
            "helm upgrade nvdp nvdp/nvidia-device-plugin -n nvidia-device-plugin --reuse-values --version 0.20.0"
        ]
    );
}

#[test]
fn the_runtime_class() {
    try_all(
        operator,
        &[
            (
                "it is gone",
                |it| it.classes().clear(),
                &["runtime_class_missing"],
            ),
            (
                "nobody wants it",
                |it| {
                    it.classes().clear();
                    it.sets()
                        .iter_mut()
                        .for_each(|set| set.runtime_class = None);
                    it.pods.iter_mut().for_each(|pod| pod.runtime_class = None);
                },
                &[],
            ),
            (
                "a pod without GPUs wants another one",
                |it| {
                    it.pods[0].containers.clear();
                    it.pods[0].runtime_class = Some("kata".into());
                },
                &[],
            ),
        ],
    );
    let gone = |it: &mut World| it.classes().clear();
    let it = the_one(operator(), gone, "runtime_class_missing");
    assert!(
        it.words.contains("pod team/web-7d4b9c8f6d-x2x9p"),
        "{}",
        it.words
    );
    assert_eq!(
        it.mend,
        [
            "printf %s '{\"apiVersion\":\"node.k8s.io/v1\",\"handler\":\"nvidia\",\"kind\":\"RuntimeClass\",\"metadata\":{\"name\":\"nvidia\"}}' | kubectl apply -f -"
        ]
    );
    let nri = |it: &mut World| {
        gone(it);
        it.policy().nri_plugin = Some(true);
    };
    let it = the_one(operator(), nri, "runtime_class_missing");
    assert!(it.mend[0].contains("nriPluginEnabled"), "{:?}", it.mend);
}
