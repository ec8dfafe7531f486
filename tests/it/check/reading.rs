//! What the reading half makes of a cluster, and of one that does not answer.

use std::time::{Duration, Instant};

use serde_json::json;
use slicewatch::collect::setup::SetupReader;
use slicewatch::model::setup::{Asked, NodeRead, PluginRole, PodRead, Setup};

use super::gpu_cluster::{
    CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, NAMESPACE, NODES, PODS, POLICIES, config_map,
    time_sliced,
};
use super::{Cluster, Fault};

/// One pass, as the check makes it.
struct Pass {
    setup: Setup,
    nodes: Vec<NodeRead>,
    nodes_asked: Asked<()>,
    pods: Vec<PodRead>,
    pods_asked: Asked<()>,
}

impl Cluster {
    fn pass(&self) -> Pass {
        self.pass_on(&[], None)
    }

    fn pass_on(&self, nodes: &[&str], namespace: Option<&str>) -> Pass {
        let mut settings = self.settings();
        settings.nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        settings.namespace = namespace.map(str::to_owned);
        settings.timeout = Duration::from_secs(2);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let pass = runtime.block_on(async {
            let mut reader = SetupReader::open(&settings).await.unwrap();
            let setup = reader.setup().await;
            let (mut nodes, mut pods) = (Vec::new(), Vec::new());
            let nodes_asked = reader.nodes(|node| nodes.push(node)).await;
            let pods_asked = reader.pods(|pod| pods.push(pod)).await;
            Pass {
                setup,
                nodes,
                nodes_asked,
                pods,
                pods_asked,
            }
        });
        self.api.assert_read_only();
        pass
    }
}

fn failed<T: std::fmt::Debug>(asked: &Asked<T>) -> &str {
    match asked {
        Asked::Failed(failed) => &failed.words,
        other => panic!("not failed: {other:?}"),
    }
}

#[test]
fn everything_that_bears_on_sharing_is_read_and_nothing_else_is_kept() {
    let pass = Cluster::of(time_sliced(3, 4)).pass();
    let setup = &pass.setup;
    assert_eq!(setup.operator_namespace.as_deref(), Some(NAMESPACE));
    assert!(setup.only_nodes.is_empty());
    let policy = &setup.policies.read().unwrap()[0];
    assert_eq!(policy.name, "cluster-policy");
    assert_eq!(policy.state.as_deref(), Some("ready"));
    assert_eq!(policy.config_name.as_deref(), Some("time-slicing-config"));
    assert_eq!(policy.config_default.as_deref(), Some("any"));
    assert_eq!(policy.mig_strategy.as_deref(), Some("none"));
    let operators = setup.operators.read().unwrap();
    assert_eq!((operators.len(), operators[0].ready), (1, 1));
    let sets = setup.daemon_sets.read().unwrap();
    let roles: Vec<_> = sets.iter().map(|set| set.role).collect();
    assert_eq!(roles, [PluginRole::FeatureDiscovery, PluginRole::Plugin]);
    assert!(sets.iter().all(|set| set.of_operator && set.desired == 3));
    assert_eq!(sets[1].template_generation, Some(2));
    let pods = setup.plugin_pods.read().unwrap();
    assert_eq!(pods.len(), 6);
    assert!(pods.iter().all(|pod| pod.ready && pod.started.is_some()));
    assert!(pods.iter().all(|pod| pod.containers.len() == 3));
    assert_eq!(pods[0].wiring, sets[0].wiring);
    let maps = setup.config_maps[NAMESPACE].read().unwrap();
    assert_eq!(maps.len(), 1, "{maps:?}");
    assert!(maps[0].data["any"].contains("replicas: 4"));
    assert!(maps[0].data_changed < pods[0].started);
    assert_eq!(setup.runtime_classes.read().unwrap()[0].handler, "nvidia");
    assert_eq!(pass.nodes_asked, Asked::Read(()));
    assert_eq!(pass.nodes.len(), 3);
    let node = &pass.nodes[0];
    assert_eq!(node.allocatable["nvidia.com/gpu"], 4);
    assert_eq!(node.ready, Some(true));
    assert!(!node.labels.contains_key("nvidia.com/gfd.timestamp"));
    assert!(!node.labels.contains_key("kubernetes.io/hostname"));
    assert_eq!(pass.pods_asked, Asked::Read(()));
    assert_eq!(pass.pods.len(), 12);
    let pod = &pass.pods[0];
    assert_eq!(pod.containers[0].limits["nvidia.com/gpu"], 1);
    assert_eq!(pod.controller.as_ref().unwrap().name, "server-7c9d");
    let all = format!("{:?}{:?}{:?}", pass.setup, pass.nodes, pass.pods);
    assert!(!all.contains("s3cr3t"));
}

#[test]
fn lists_come_in_pages_and_one_that_was_forgotten_is_begun_anew_without_repeats() {
    // Either it says how to go on, or it says nothing.
    for (wholly, forget_every) in [(false, 3), (true, 9)] {
        let mut objects = time_sliced(1_100, 1);
        objects.forgets_wholly = wholly;
        objects.forget_every = Some(forget_every);
        let cluster = Cluster::of(objects);
        let pass = cluster.pass();
        assert_eq!(pass.nodes_asked, Asked::Read(()));
        assert_eq!(pass.nodes.len(), 1_100);
        assert_eq!(pass.pods_asked, Asked::Read(()));
        assert_eq!(pass.pods.len(), 1_100);
        assert_eq!(pass.setup.plugin_pods.read().unwrap().len(), 2_200);
        let asked = cluster.api.requests();
        let lists = asked.iter().filter(|it| it.contains("/api/v1/nodes"));
        assert!(lists.clone().count() >= 3, "{asked:?}");
        assert!(
            lists.clone().all(|it| it.contains("limit=500")),
            "{asked:?}"
        );
        let pages = asked.iter().filter(|it| it.contains("continue=")).count();
        assert!(pages > 12, "nothing was forgotten: {pages}");
    }
}

#[test]
fn a_list_that_is_forgotten_again_and_again_is_given_up() {
    let mut objects = time_sliced(1_100, 0);
    objects.forget_every = Some(1);
    objects.forgets_wholly = true;
    let cluster = Cluster::of(objects);
    let pass = cluster.pass();
    let words = failed(&pass.nodes_asked);
    assert!(words.contains("forgot each list of nodes"), "{words}");
    assert!(words.contains("--node"), "{words}");
    // What it may be of the one list does not end the others.
    assert_eq!(pass.setup.config_maps[NAMESPACE].read().unwrap().len(), 1);
}

#[test]
fn one_node_is_asked_for_by_name_and_its_pods_by_field() {
    let mut objects = time_sliced(3, 2);
    let mut pending = super::gpu_cluster::tenant_pod("", 9);
    pending["status"]["phase"] = json!("Pending");
    pending["spec"]["nodeName"] = json!(null);
    objects.add(PODS, &pending);
    let cluster = Cluster::of(objects);
    let pass = cluster.pass_on(&["gpu-00001"], None);
    assert_eq!(pass.nodes.len(), 1);
    assert_eq!(pass.setup.plugin_pods.read().unwrap().len(), 2);
    let mut on: Vec<_> = pass.pods.iter().map(|pod| pod.node.as_deref()).collect();
    on.sort_unstable();
    assert_eq!(on, [None, Some("gpu-00001"), Some("gpu-00001")]);
    let asked = cluster.api.requests();
    assert!(
        asked.iter().all(|it| !it.contains("/api/v1/nodes?")),
        "{asked:?}"
    );

    let pass = cluster.pass_on(&["gpu-00001", "gpu-00009"], None);
    let words = failed(&pass.nodes_asked);
    assert!(words.contains("no node \"gpu-00009\""), "{words}");
}

#[test]
fn a_namespace_that_is_given_is_the_only_one_that_is_asked() {
    let cluster = Cluster::of(time_sliced(1, 0));
    let pass = cluster.pass_on(&[], Some(NAMESPACE));
    assert_eq!(pass.setup.daemon_sets.read().unwrap().len(), 2);
    let asked = cluster.api.requests();
    let sets: Vec<_> = asked
        .iter()
        .filter(|it| it.contains("daemonsets"))
        .collect();
    assert_eq!(sets.len(), 1);
    assert!(sets[0].contains("/namespaces/gpu-operator/"), "{sets:?}");
}

#[test]
fn a_cluster_without_the_operator_has_no_such_kind() {
    let mut objects = time_sliced(1, 0);
    objects.forget_kind(POLICIES);
    objects.remove(DEPLOYMENTS, "gpu-operator/gpu-operator");
    for set in ["nvidia-device-plugin-daemonset", "gpu-feature-discovery"] {
        objects.change(DAEMON_SETS, &format!("gpu-operator/{set}"), |object| {
            object["metadata"]["ownerReferences"] = json!(null);
            object["metadata"]["annotations"]["meta.helm.sh/release-name"] = json!("nvdp");
        });
    }
    let setup = Cluster::of(objects).pass().setup;
    assert_eq!(setup.policies, Asked::Absent);
    assert_eq!(setup.operator_namespace, None);
    assert_eq!(setup.operators, Asked::Read(Vec::new()));
    let sets = setup.daemon_sets.read().unwrap();
    assert!(sets.iter().all(|set| !set.of_operator));
    assert_eq!(sets[0].release.as_deref(), Some("nvdp"));
    assert_eq!(setup.plugin_pods.read().unwrap().len(), 2);
    assert_eq!(setup.config_maps[NAMESPACE].read().unwrap().len(), 1);
}

#[test]
fn an_empty_cluster_is_read_to_its_end() {
    let mut objects = super::Objects::default();
    for list in [DAEMON_SETS, DEPLOYMENTS, CONFIG_MAPS, PODS, NODES] {
        objects.know(list);
    }
    objects.know(super::gpu_cluster::RUNTIME_CLASSES);
    let pass = Cluster::of(objects).pass();
    assert_eq!(pass.setup.policies, Asked::Absent);
    assert_eq!(pass.setup.plugin_pods, Asked::Read(Vec::new()));
    assert!(pass.setup.config_maps.is_empty());
    assert_eq!((pass.nodes.len(), pass.pods.len()), (0, 0));
}

#[test]
fn a_right_that_is_missing_is_named_and_keeps_nothing_else_from_being_read() {
    let cluster = Cluster::of(time_sliced(1, 1));
    cluster.fault("configmaps", 0, 9, Fault::Status(403));
    cluster.fault("runtimeclasses", 0, 9, Fault::Status(403));
    let pass = cluster.pass();
    let Asked::Refused(refused) = &pass.setup.config_maps[NAMESPACE] else {
        panic!("{:?}", pass.setup.config_maps);
    };
    assert_eq!(
        (refused.verb.as_str(), refused.resource.as_str()),
        ("list", "configmaps")
    );
    assert_eq!(refused.namespace.as_deref(), Some(NAMESPACE));
    assert!(refused.words.contains("slicewatch"), "{}", refused.words);
    let Asked::Refused(refused) = &pass.setup.runtime_classes else {
        panic!("{:?}", pass.setup.runtime_classes);
    };
    assert_eq!(refused.group, "node.k8s.io");
    assert_eq!(refused.namespace, None);
    assert_eq!((pass.nodes.len(), pass.pods.len()), (1, 1));
}

#[test]
fn a_server_that_is_gone_in_the_middle_is_not_asked_again() {
    let cluster = Cluster::of(time_sliced(1_100, 1));
    // The second page of the nodes, and everything after.
    cluster.fault("/nodes", 1, usize::MAX, Fault::Cut);
    let pass = cluster.pass();
    let words = failed(&pass.nodes_asked);
    assert!(
        words.contains("ended") && words.contains("try again"),
        "{words}"
    );
    assert_eq!(pass.nodes.len(), 500);
    assert_eq!(failed(&pass.pods_asked), words);
    let asked = cluster.api.requests();
    let pods = asked.iter().filter(|it| it.contains("/api/v1/pods"));
    assert_eq!(pods.count(), 0, "{asked:?}");
}

#[test]
fn a_failure_that_passes_is_waited_out() {
    let cluster = Cluster::of(time_sliced(600, 0));
    cluster.fault("/nodes", 0, 1, Fault::Status(429));
    cluster.fault("/nodes", 1, 1, Fault::Cut);
    cluster.fault("daemonsets", 0, 2, Fault::Status(503));
    let pass = cluster.pass();
    assert_eq!(pass.nodes_asked, Asked::Read(()));
    assert_eq!(pass.nodes.len(), 600);
    assert_eq!(pass.setup.daemon_sets.read().unwrap().len(), 2);
}

#[test]
fn a_server_that_is_too_slow_is_told_with_the_time_it_had() {
    for fault in [Fault::Hang, Fault::HangInBody] {
        let cluster = Cluster::of(time_sliced(1, 0));
        cluster.fault("/nodes", 0, 9, fault);
        let began = Instant::now();
        let pass = cluster.pass();
        let words = failed(&pass.nodes_asked);
        assert!(words.contains("within 2s: give --timeout more"), "{words}");
        assert!(began.elapsed() < Duration::from_secs(15), "{fault:?}");
    }
}

#[test]
fn answers_that_are_not_kubernetes_are_told_as_such() {
    for fault in [
        Fault::Garbage,
        Fault::OtherJson,
        Fault::Empty,
        Fault::Huge(5 << 20),
        Fault::Status(404),
        Fault::Status(418),
    ] {
        let cluster = Cluster::of(time_sliced(1, 1));
        cluster.fault("/nodes", 0, 9, fault);
        let pass = cluster.pass();
        assert!(!failed(&pass.nodes_asked).is_empty(), "{fault:?}");
        // It may be of the one kind: a proxy that breaks large answers.
        assert_eq!(pass.pods.len(), 1, "{fault:?}");
    }
}

#[test]
fn configmaps_that_nothing_names_are_kept_where_they_have_sharing() {
    let mut objects = time_sliced(1, 0);
    objects.add(CONFIG_MAPS, &config_map("unwired", "sharing: {mps: {}}"));
    objects.add(CONFIG_MAPS, &config_map("other", "timestamps: []"));
    let setup = Cluster::of(objects).pass().setup;
    let maps = setup.config_maps[NAMESPACE].read().unwrap();
    let names: Vec<_> = maps.iter().map(|map| map.name.as_str()).collect();
    assert_eq!(names, ["time-slicing-config", "unwired"]);
}

#[test]
fn pods_of_the_plugin_are_known_without_the_right_to_read_its_daemonsets() {
    let cluster = Cluster::of(time_sliced(2, 0));
    cluster.fault("daemonsets", 0, usize::MAX, Fault::Status(403));
    let setup = cluster.pass().setup;
    assert!(matches!(setup.daemon_sets, Asked::Refused(_)));
    assert_eq!(setup.operator_namespace.as_deref(), Some(NAMESPACE));
    let pods = setup.plugin_pods.read().unwrap();
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| pod.wiring.config_manager));
    assert_eq!(setup.config_maps[NAMESPACE].read().unwrap().len(), 1);

    // Nor is it known where they are: then nothing is said to be none.
    cluster.fault("clusterpolicies", 0, usize::MAX, Fault::Status(403));
    cluster.fault("deployments", 0, usize::MAX, Fault::Status(403));
    let setup = cluster.pass().setup;
    assert!(matches!(setup.plugin_pods, Asked::Refused(_)));
    assert!(setup.config_maps.is_empty());
}
