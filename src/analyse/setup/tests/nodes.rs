use super::fixture::{NOW, STARTED, amounts, at, gpu_node};
use super::*;
use crate::analyse::setup::told::CONFIG_LABEL;
use crate::model::setup::PluginRole::{FeatureDiscovery, Plugin};

fn edit(it: &mut World) {
    it.map().data_changed = at(STARTED + 60);
}

fn unlabelled(it: &mut World) {
    it.policy().config_default = None;
    it.wire(|wiring| wiring.default_config = Some(String::new()));
    it.offer("nvidia.com/gpu", 2);
    it.label("nvidia.com/gpu.replicas", "1");
    it.label("nvidia.com/gpu.product", "Tesla-T4");
    it.label("nvidia.com/gpu.sharing-strategy", "none");
}

fn crash(it: &mut World, role: PluginRole) {
    let pod = it.pod_of(role);
    pod.ready = false;
    let container = pod.containers.last_mut().unwrap();
    container.ready = false;
    container.started = None;
    container.restarts = 3;
    container.waiting = Some("CrashLoopBackOff".into());
    container.message = Some("back-off 5m0s".into());
}

#[test]
fn keys_and_numbers() {
    try_all(
        operator,
        &[
            (
                "edited, and the new number is not offered",
                |it| {
                    edit(it);
                    it.profile("replicas: 4", "replicas: 8");
                },
                &["config_edited_not_rolled_out"],
            ),
            (
                "edited, and nothing to see",
                edit,
                &["config_edited_not_rolled_out"],
            ),
            (
                "edited, and the container restarted since",
                |it| {
                    edit(it);
                    for pod in it.pods_of_plugin() {
                        pod.containers[0].started = at(STARTED + 61);
                    }
                },
                &[],
            ),
            (
                "edited, and only config-manager restarted, which does not help",
                |it| {
                    edit(it);
                    for pod in it.pods_of_plugin() {
                        pod.containers[1].started = at(STARTED + 61);
                    }
                },
                &["config_edited_not_rolled_out"],
            ),
            (
                "the time of the edit is not known",
                |it| it.map().data_changed = None,
                &[],
            ),
            (
                "another number without an edit",
                |it| it.offer("nvidia.com/gpu", 2),
                &["labels_out_of_date", "sharing_not_in_force"],
            ),
            (
                "the plugin started a moment ago",
                |it| {
                    it.offer("nvidia.com/gpu", 2);
                    for pod in it.pods_of_plugin() {
                        pod.containers[0].started = at(NOW - 30);
                    }
                },
                &[],
            ),
            (
                "no default, no label",
                unlabelled,
                &["sharing_not_in_force"],
            ),
            (
                "a profile without sharing, chosen by label",
                |it| {
                    unlabelled(it);
                    it.label(CONFIG_LABEL, "whole");
                },
                &[],
            ),
            (
                "a label that names no key",
                |it| it.label(CONFIG_LABEL, "gone"),
                &["node_label_names_missing_key"],
            ),
            (
                "an empty label is none",
                |it| it.label(CONFIG_LABEL, ""),
                &[],
            ),
            (
                "labels of before",
                |it| it.label("nvidia.com/gpu.replicas", "2"),
                &["labels_out_of_date"],
            ),
            (
                "no suffix",
                |it| it.label("nvidia.com/gpu.product", "Tesla-T4"),
                &["labels_out_of_date"],
            ),
            (
                "the other strategy",
                |it| it.label("nvidia.com/gpu.sharing-strategy", "mps"),
                &["labels_out_of_date"],
            ),
            (
                "feature discovery has a minute",
                |it| {
                    it.label("nvidia.com/gpu.replicas", "2");
                    for pod in it.pods_of_plugin() {
                        if pod.role == FeatureDiscovery {
                            pod.containers[0].started = at(NOW - 30);
                        }
                    }
                },
                &[],
            ),
            (
                "renamed, and all is as it should be",
                |it| {
                    it.profile("renameByDefault: false", "renameByDefault: true");
                    it.offer("nvidia.com/gpu.shared", 8);
                    it.label("nvidia.com/gpu.product", "Tesla-T4");
                    it.pods.clear();
                },
                &[],
            ),
            (
                "renamed in the profile alone",
                |it| it.profile("renameByDefault: false", "renameByDefault: true"),
                &["sharing_not_in_force"],
            ),
            (
                "a GPU that is ill lowers allocatable, and is no fault of the set-up",
                |it| it.node(0).allocatable = amounts("nvidia.com/gpu", 4),
                &[],
            ),
            (
                "without feature discovery, and no multiple",
                |it| {
                    for node in &mut it.nodes {
                        node.labels.remove("nvidia.com/gpu.count");
                    }
                    it.offer("nvidia.com/gpu", 2);
                },
                &["sharing_not_in_force"],
            ),
            (
                "without feature discovery, and a multiple",
                |it| {
                    for node in &mut it.nodes {
                        node.labels.clear();
                    }
                },
                &[],
            ),
            (
                "a node that is down says nothing",
                |it| {
                    it.node(0).ready = Some(false);
                    it.node(0).allocatable.clear();
                    it.node(0).capacity.clear();
                    crash(it, Plugin);
                },
                &[],
            ),
        ],
    );
}

#[test]
fn the_edit_says_both_times_and_restarts_both() {
    let change = |it: &mut World| {
        edit(it);
        it.profile("replicas: 4", "replicas: 8");
    };
    let found = of_code(operator(), change, "config_edited_not_rolled_out");
    let told: Vec<_> = found
        .iter()
        .map(|it| (it.severity, it.node.as_deref(), it.object.name.as_str()))
        .collect();
    let (discovery, plugin) = ("gpu-feature-discovery", "nvidia-device-plugin-daemonset");
    assert_eq!(
        told,
        [
            (
                Severity::Error,
                Some("gpu-1"),
                format!("{discovery}-gpu-1").as_str()
            ),
            (
                Severity::Error,
                Some("gpu-2"),
                format!("{discovery}-gpu-2").as_str()
            ),
            (
                Severity::Error,
                Some("gpu-1"),
                format!("{plugin}-gpu-1").as_str()
            ),
            (
                Severity::Error,
                Some("gpu-2"),
                format!("{plugin}-gpu-2").as_str()
            ),
        ]
    );
    let plugin = &found[2];
    assert_eq!(
        plugin.expected.as_deref(),
        Some("after 2026-09-21T14:24:20Z")
    );
    assert_eq!(plugin.found.as_deref(), Some("2026-09-21T14:23:20Z"));
    assert!(
        plugin.words.contains("by kubectl-client-side-apply"),
        "{}",
        plugin.words
    );
    let restart = "kubectl -n gpu-operator rollout restart \
                   daemonset/nvidia-device-plugin-daemonset daemonset/gpu-feature-discovery";
    assert_eq!(plugin.mend, [restart]);

    // Where the numbers agree, it may have been read since.
    let found = of_code(operator(), edit, "config_edited_not_rolled_out");
    assert!(
        found.iter().all(|it| it.severity == Severity::Warning),
        "{found:#?}"
    );

    // A DaemonSet that rolls by hand is not restarted.
    let by_hand = |it: &mut World| {
        change(it);
        for set in it.sets() {
            set.update_strategy = Some("OnDelete".into());
        }
    };
    let found = of_code(operator(), by_hand, "config_edited_not_rolled_out");
    assert_eq!(
        found[0].mend,
        [
            "kubectl -n gpu-operator delete pod nvidia-device-plugin-daemonset-gpu-1 \
          gpu-feature-discovery-gpu-1"
        ]
    );
}

#[test]
fn no_default_is_mended_by_one() {
    let found = of_code(operator(), unlabelled, "sharing_not_in_force");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].severity, Severity::Error);
    assert_eq!(
        found[0].mend,
        [
            "kubectl patch clusterpolicies.nvidia.com/cluster-policy --type merge -p \
          '{\"spec\":{\"devicePlugin\":{\"config\":{\"default\":\"any\"}}}}'"
        ]
    );
    assert_eq!(
        found[0].found.as_deref(),
        Some("neither; allocatable nvidia.com/gpu is 2, GPUs 2")
    );

    // Where others chose by label, this one may be meant to be whole.
    let chosen = |it: &mut World| {
        unlabelled(it);
        *it.node(1) = gpu_node("gpu-2");
        it.node(1).labels.insert(CONFIG_LABEL.into(), "any".into());
    };
    let it = the_one(operator(), chosen, "sharing_not_in_force");
    assert_eq!(
        (it.severity, it.node.as_deref()),
        (Severity::Warning, Some("gpu-1"))
    );
    assert_eq!(
        it.mend,
        ["kubectl label node gpu-1 nvidia.com/device-plugin.config=any --overwrite"]
    );
}

#[test]
fn a_wrong_label_is_taken_off_and_its_pods_are_spared_the_wait() {
    let running = |it: &mut World| {
        it.node(0).labels.insert(CONFIG_LABEL.into(), "gone".into());
    };
    let it = the_one(operator(), running, "node_label_names_missing_key");
    assert_eq!(
        it.mend,
        ["kubectl label node gpu-1 nvidia.com/device-plugin.config-"]
    );
    assert_eq!(it.found.as_deref(), Some("gone"));
    let failing = |it: &mut World| {
        running(it);
        crash(it, Plugin);
    };
    let it = the_one(operator(), failing, "node_label_names_missing_key");
    assert_eq!(
        it.mend,
        [
            "kubectl label node gpu-1 nvidia.com/device-plugin.config-",
            "kubectl -n gpu-operator delete pod nvidia-device-plugin-daemonset-gpu-1",
        ]
    );
    // The cause is found, and not its consequence.
    assert_eq!(of_code(operator(), failing, "plugin_pod_not_ready"), []);
    let without_default = |it: &mut World| {
        running(it);
        it.wire(|wiring| wiring.default_config = None);
    };
    let it = the_one(operator(), without_default, "node_label_names_missing_key");
    assert_eq!(
        it.mend,
        ["kubectl label node gpu-1 nvidia.com/device-plugin.config=any --overwrite"]
    );
}

#[test]
fn pods_of_the_plugin_that_are_not_ready() {
    let it = the_one(operator(), |it| crash(it, Plugin), "plugin_pod_not_ready");
    assert_eq!(it.found.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(
        it.mend,
        [
            "kubectl -n gpu-operator logs nvidia-device-plugin-daemonset-gpu-1 -c config-manager --previous"
        ]
    );
    assert_eq!(
        of_code(
            operator(),
            |it| crash(it, FeatureDiscovery),
            "plugin_pod_not_ready"
        )
        .len(),
        1
    );
    let starting = |since: u64| {
        move |it: &mut World| {
            let pod = it.pod_of(Plugin);
            pod.ready = false;
            pod.not_ready_since = at(since);
            pod.containers[0].ready = false;
            pod.containers[0].started = None;
            pod.containers[0].waiting = Some("ContainerCreating".into());
        }
    };
    assert_eq!(
        of_code(operator(), starting(NOW - 60), "plugin_pod_not_ready"),
        []
    );
    let it = the_one(operator(), starting(NOW - 600), "plugin_pod_not_ready");
    assert_eq!(
        it.mend,
        ["kubectl -n gpu-operator describe pod nvidia-device-plugin-daemonset-gpu-1"]
    );
}
