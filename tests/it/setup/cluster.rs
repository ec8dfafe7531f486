//! Clusters of the operator, with troubles on some of their nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use slicewatch::model::setup::*;

pub(super) const NOW: u64 = 1_790_086_400;
const STARTED: u64 = 1_790_000_600;
const PROFILE: &str = "version: v1\nsharing:\n  timeSlicing:\n    failRequestsGreaterThanOne: true\n    \
                       resources:\n    - name: nvidia.com/gpu\n      replicas: 4\n";
const GPU: &str = "nvidia.com/gpu";
const SPACE: &str = "gpu-operator";

/// What is wrong with one node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Troubles {
    pub(super) wrong_label: bool,
    pub(super) whole: bool,
    /// Of the others the containers have restarted since the edit.
    pub(super) edited: bool,
    pub(super) crashing: bool,
    pub(super) old_labels: bool,
    pub(super) not_in_force: bool,
    pub(super) no_pod: bool,
    pub(super) second: bool,
}

impl Arbitrary for Troubles {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        any::<u32>().prop_map(Self::some).boxed()
    }
}

impl Troubles {
    /// One at most, and on about half of all nodes none.
    pub(super) fn some(seed: u32) -> Self {
        let bits = seed.wrapping_mul(2_654_435_761) >> 8;
        let one = |place: u32| bits.is_multiple_of(2) && (bits >> 1) % 8 == place;
        Self {
            wrong_label: one(0),
            whole: one(1),
            edited: one(2),
            crashing: one(3),
            old_labels: one(4),
            not_in_force: one(5),
            no_pod: one(6),
            second: one(7),
        }
    }
}

fn name(node: usize) -> String {
    format!("gpu-{node:05}")
}

fn wiring() -> PluginWiring {
    PluginWiring {
        config_map: Some("time-slicing-config".into()),
        default_config: Some("any".into()),
        fallbacks: Some("empty".into()),
        config_manager: true,
        mig_strategy: None,
    }
}

fn amounts(count: u64) -> BTreeMap<String, u64> {
    [(GPU.to_owned(), count)].into()
}

/// A cluster with a node for each of these.
pub(super) fn cluster(troubles: &[Troubles]) -> (Setup, Vec<NodeRead>) {
    let roles = [
        (PluginRole::Plugin, "nvidia-device-plugin-daemonset"),
        (PluginRole::FeatureDiscovery, "gpu-feature-discovery"),
    ];
    let mut sets: Vec<_> = roles
        .iter()
        .map(|(role, name)| set(*role, SPACE, name))
        .collect();
    sets.push(set(
        PluginRole::Plugin,
        "kube-system",
        "nvidia-device-plugin",
    ));
    let mut pods = Vec::new();
    let mut nodes = Vec::new();
    for (number, trouble) in troubles.iter().enumerate() {
        nodes.push(node(number, trouble));
        for (role, set) in roles {
            if !(trouble.no_pod && role == PluginRole::Plugin) {
                pods.push(plugin_pod(number, role, SPACE, set, trouble));
            }
        }
        if trouble.second {
            let set = "nvidia-device-plugin";
            pods.push(plugin_pod(
                number,
                PluginRole::Plugin,
                "kube-system",
                set,
                trouble,
            ));
        }
    }
    let map = ConfigMapRead {
        namespace: SPACE.into(),
        name: "time-slicing-config".into(),
        data: [
            ("any".into(), PROFILE.into()),
            ("whole".into(), "version: v1\n".into()),
        ]
        .into(),
        data_changed: Some(Duration::from_secs(STARTED + 60)),
        ..ConfigMapRead::default()
    };
    let setup = Setup {
        operator_namespace: Some(SPACE.into()),
        policies: Asked::Read(vec![ClusterPolicy {
            name: "cluster-policy".into(),
            state: Some("ready".into()),
            config_name: Some("time-slicing-config".into()),
            config_default: Some("any".into()),
            ..ClusterPolicy::default()
        }]),
        operators: Asked::Read(vec![OperatorDeployment {
            namespace: SPACE.into(),
            name: SPACE.into(),
            image: None,
            replicas: Some(1),
            ready: 1,
        }]),
        daemon_sets: Asked::Read(sets),
        plugin_pods: Asked::Read(pods),
        config_maps: [(SPACE.to_owned(), Asked::Read(vec![map]))].into(),
        ..Setup::default()
    };
    (setup, nodes)
}

fn set(role: PluginRole, namespace: &str, name: &str) -> PluginDaemonSet {
    let of_operator = namespace == SPACE;
    PluginDaemonSet {
        namespace: namespace.into(),
        name: name.into(),
        role,
        of_operator,
        wiring: if of_operator {
            wiring()
        } else {
            PluginWiring::default()
        },
        ..PluginDaemonSet::default()
    }
}

fn plugin_pod(
    node: usize,
    role: PluginRole,
    namespace: &str,
    set: &str,
    trouble: &Troubles,
) -> PluginPod {
    let started = if trouble.edited {
        STARTED
    } else {
        STARTED + 120
    };
    let crashes = trouble.crashing && role == PluginRole::Plugin;
    PluginPod {
        namespace: namespace.into(),
        name: format!("{set}-{node:05}"),
        node: Some(name(node)),
        role,
        daemon_set: Some(set.into()),
        wiring: if namespace == SPACE {
            wiring()
        } else {
            PluginWiring::default()
        },
        phase: "Running".into(),
        ready: !crashes,
        containers: vec![PluginContainer {
            name: "main".into(),
            image: "nvcr.io/nvidia/k8s-device-plugin:v0.20.0".into(),
            ready: !crashes,
            started: (!crashes).then(|| Duration::from_secs(started)),
            waiting: crashes.then(|| "CrashLoopBackOff".into()),
            ..PluginContainer::default()
        }],
        ..PluginPod::default()
    }
}

fn node(number: usize, trouble: &Troubles) -> NodeRead {
    let shared = !trouble.whole;
    let mut labels: BTreeMap<String, String> = [
        ("nvidia.com/gpu.present", "true"),
        ("nvidia.com/gpu.count", "2"),
        (
            "nvidia.com/gpu.replicas",
            if shared && !trouble.old_labels {
                "4"
            } else {
                "1"
            },
        ),
        (
            "nvidia.com/gpu.product",
            if shared {
                "Tesla-T4-SHARED"
            } else {
                "Tesla-T4"
            },
        ),
        (
            "nvidia.com/gpu.sharing-strategy",
            if shared { "time-slicing" } else { "none" },
        ),
    ]
    .map(|(label, value)| (label.to_owned(), value.to_owned()))
    .into();
    let key = match (trouble.wrong_label, trouble.whole) {
        (true, _) => Some("gone"),
        (_, true) => Some("whole"),
        _ => None,
    };
    if let Some(key) = key {
        labels.insert("nvidia.com/device-plugin.config".into(), key.into());
    }
    let offered = match (trouble.no_pod, trouble.whole || trouble.not_in_force) {
        (true, _) => BTreeMap::new(),
        (_, true) => amounts(2),
        _ => amounts(8),
    };
    NodeRead {
        name: name(number),
        labels,
        capacity: offered.clone(),
        allocatable: offered,
        ready: Some(true),
        ..NodeRead::default()
    }
}

/// A pod of some kind: mostly one that is as it should be.
pub(super) fn pod(number: usize, node: usize, kind: u8, owner: u8) -> PodRead {
    let mut pod = PodRead {
        namespace: "team".into(),
        name: format!("pod-{number:05}"),
        node: Some(name(node)),
        phase: "Running".into(),
        containers: vec![PodContainer {
            name: "main".into(),
            limits: amounts(1),
            ..PodContainer::default()
        }],
        controller: (owner > 0).then(|| ControllerRef {
            kind: "ReplicaSet".into(),
            name: format!("web-{owner}-7d4b9c8f6d"),
        }),
        template_hash: (owner > 0).then(|| "7d4b9c8f6d".into()),
        ..PodRead::default()
    };
    let shared = format!("{GPU}.shared");
    match kind {
        0 => pod.containers[0].limits = amounts(2),
        1 => {
            let second = pod.containers[0].clone();
            pod.containers.push(PodContainer { index: 1, ..second });
        }
        2 => {
            pod.node = None;
            pod.phase = "Pending".into();
            pod.containers[0].limits = [(shared.clone(), 1)].into();
            pod.unscheduled = Some(format!("0/9 nodes are available: 9 Insufficient {shared}."));
        }
        3 => {
            pod.phase = "Failed".into();
            pod.reason = Some("UnexpectedAdmissionError".into());
            pod.containers[0].limits = amounts(2);
            pod.message = Some("maximum request size for shared resources is 1".into());
        }
        4 => pod.runtime_class = Some("nvidia".into()),
        _ => {}
    }
    pod
}
