//! Clean set-ups, to be broken.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::analyse::setup::{Check, SETTLING};
use crate::model::setup::*;

/// When the clean set-ups were made, and when they are looked at.
const MADE: u64 = 1_790_000_000;
pub(super) const STARTED: u64 = MADE + 600;
pub(super) const NOW: u64 = MADE + 86_400;

pub(super) const PROFILE: &str = "version: v1
flags:
  migStrategy: none
sharing:
  timeSlicing:
    renameByDefault: false
    failRequestsGreaterThanOne: true
    resources:
    - name: nvidia.com/gpu
      replicas: 4
";
const WHOLE: &str = "version: v1\nflags:\n  migStrategy: none\n";

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) nodes: Vec<NodeRead>,
    pub(super) pods: Vec<PodRead>,
    pub(super) nodes_asked: Asked<()>,
    pub(super) pods_asked: Asked<()>,
}

pub(super) fn at(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn read<T>(asked: &mut Asked<T>) -> &mut T {
    match asked {
        Asked::Read(value) => value,
        _ => panic!("it was read"),
    }
}

impl World {
    pub(super) fn report(&self) -> SetupReport {
        let mut check = Check::new(self.setup.clone(), Duration::from_secs(NOW), SETTLING);
        for node in &self.nodes {
            check.node(node);
        }
        let mut check = check.pods(&self.nodes_asked);
        for pod in &self.pods {
            check.pod(pod);
        }
        check.finish(&self.pods_asked)
    }

    pub(super) fn policy(&mut self) -> &mut ClusterPolicy {
        &mut read(&mut self.setup.policies)[0]
    }

    pub(super) fn map(&mut self) -> &mut ConfigMapRead {
        let maps = self.setup.config_maps.values_mut().next();
        &mut read(maps.expect("a namespace"))[0]
    }

    pub(super) fn maps(&mut self) -> &mut Vec<ConfigMapRead> {
        let maps = self.setup.config_maps.values_mut().next();
        read(maps.expect("a namespace"))
    }

    pub(super) fn profile(&mut self, from: &str, to: &str) {
        let text = self.map().data.get_mut("any").expect("the profile");
        assert!(text.contains(from), "{from} is not in {text}");
        *text = text.replacen(from, to, 1);
    }

    pub(super) fn sets(&mut self) -> &mut Vec<PluginDaemonSet> {
        read(&mut self.setup.daemon_sets)
    }

    pub(super) fn operators(&mut self) -> &mut Vec<OperatorDeployment> {
        read(&mut self.setup.operators)
    }

    pub(super) fn classes(&mut self) -> &mut Vec<RuntimeClassRead> {
        read(&mut self.setup.runtime_classes)
    }

    pub(super) fn pods_of_plugin(&mut self) -> &mut Vec<PluginPod> {
        read(&mut self.setup.plugin_pods)
    }

    /// Pods of a role, the first node's first.
    pub(super) fn pod_of(&mut self, role: PluginRole) -> &mut PluginPod {
        let mut pods = self.pods_of_plugin().iter_mut();
        pods.find(|pod| pod.role == role).expect("a pod")
    }

    pub(super) fn node(&mut self, place: usize) -> &mut NodeRead {
        &mut self.nodes[place]
    }

    /// Both ways in which a wiring is written down: in the DaemonSets and in their pods.
    pub(super) fn wire(&mut self, change: impl Fn(&mut PluginWiring)) {
        for set in self.sets() {
            change(&mut set.wiring);
        }
        for pod in self.pods_of_plugin() {
            change(&mut pod.wiring);
        }
    }

    /// The nodes offer so many, under this name.
    pub(super) fn offer(&mut self, resource: &str, count: u64) {
        for node in &mut self.nodes {
            node.capacity = amounts(resource, count);
            node.allocatable = amounts(resource, count);
        }
    }

    pub(super) fn label(&mut self, label: &str, value: &str) {
        for node in &mut self.nodes {
            node.labels.insert(label.to_owned(), value.to_owned());
        }
    }
}

pub(super) fn amounts(resource: &str, count: u64) -> BTreeMap<String, u64> {
    [(resource.to_owned(), count)].into()
}

/// The operator's, with two nodes of two GPUs that share each four times.
pub(super) fn operator() -> World {
    let wiring = PluginWiring {
        config_map: Some("time-slicing-config".into()),
        default_config: Some("any".into()),
        fallbacks: Some("empty".into()),
        config_manager: true,
        mig_strategy: Some("single".into()),
    };
    let names = ["nvidia-device-plugin-daemonset", "gpu-feature-discovery"];
    let mut world = world("gpu-operator", names, &wiring, true);
    world.setup.operator_namespace = Some("gpu-operator".into());
    world.setup.policies = Asked::Read(vec![ClusterPolicy {
        name: "cluster-policy".into(),
        state: Some("ready".into()),
        namespace: Some("gpu-operator".into()),
        config_name: wiring.config_map.clone(),
        config_default: wiring.default_config.clone(),
        mig_strategy: Some("single".into()),
        ..ClusterPolicy::default()
    }]);
    world.setup.operators = Asked::Read(vec![OperatorDeployment {
        namespace: "gpu-operator".into(),
        name: "gpu-operator".into(),
        image: None,
        replicas: Some(1),
        ready: 1,
    }]);
    world
}

/// NVIDIA's plugin without the operator.
pub(super) fn alone() -> World {
    let wiring = PluginWiring {
        config_map: Some("nvidia-device-plugin-configs".into()),
        default_config: Some("any".into()),
        fallbacks: Some("named,single".into()),
        config_manager: true,
        mig_strategy: None,
    };
    let names = [
        "nvidia-device-plugin",
        "nvidia-device-plugin-gpu-feature-discovery",
    ];
    let mut world = world("nvidia-device-plugin", names, &wiring, false);
    world.setup.policies = Asked::Absent;
    for set in world.sets() {
        set.release = Some("nvdp".into());
        set.node_selector.clear();
    }
    world
}

fn world(namespace: &str, names: [&str; 2], wiring: &PluginWiring, of_operator: bool) -> World {
    let roles = [PluginRole::Plugin, PluginRole::FeatureDiscovery];
    let image = "nvcr.io/nvidia/k8s-device-plugin:v0.20.0";
    let containers = match of_operator {
        true => [
            ["nvidia-device-plugin", "config-manager"],
            ["gpu-feature-discovery", "config-manager"],
        ],
        false => [
            ["nvidia-device-plugin-ctr", "nvidia-device-plugin-sidecar"],
            ["gpu-feature-discovery-ctr", "gpu-feature-discovery-sidecar"],
        ],
    };
    let mut sets = Vec::new();
    let mut pods = Vec::new();
    for (place, role) in roles.into_iter().enumerate() {
        let name = names[place];
        sets.push(PluginDaemonSet {
            namespace: namespace.into(),
            name: name.into(),
            role,
            of_operator,
            image: Some(image.into()),
            wiring: wiring.clone(),
            update_strategy: Some("RollingUpdate".into()),
            template_generation: Some(3),
            desired: 2,
            updated: 2,
            node_selector: [("nvidia.com/gpu.deploy.device-plugin".into(), "true".into())].into(),
            runtime_class: Some("nvidia".into()),
            ..PluginDaemonSet::default()
        });
        for node in ["gpu-1", "gpu-2"] {
            pods.push(PluginPod {
                namespace: namespace.into(),
                name: format!("{name}-{node}"),
                node: Some(node.into()),
                role,
                daemon_set: Some(name.into()),
                wiring: wiring.clone(),
                phase: "Running".into(),
                started: at(STARTED),
                ready: true,
                template_generation: Some(3),
                revision: Some("5d8f".into()),
                containers: containers[place]
                    .iter()
                    .map(|name| container(name, image))
                    .collect(),
                ..PluginPod::default()
            });
        }
    }
    let map = ConfigMapRead {
        namespace: namespace.into(),
        name: wiring.config_map.clone().expect("wired"),
        data: [
            ("any".into(), PROFILE.into()),
            ("whole".into(), WHOLE.into()),
        ]
        .into(),
        data_changed: at(MADE),
        changed_by: Some("kubectl-client-side-apply".into()),
        ..ConfigMapRead::default()
    };
    World {
        setup: Setup {
            daemon_sets: Asked::Read(sets),
            plugin_pods: Asked::Read(pods),
            config_maps: [(namespace.to_owned(), Asked::Read(vec![map]))].into(),
            runtime_classes: Asked::Read(vec![RuntimeClassRead {
                name: "nvidia".into(),
                handler: "nvidia".into(),
            }]),
            ..Setup::default()
        },
        nodes: ["gpu-1", "gpu-2"].map(gpu_node).into(),
        pods: vec![asking("web", "gpu-1", "nvidia.com/gpu", 1)],
        nodes_asked: Asked::Read(()),
        pods_asked: Asked::Read(()),
    }
}

fn container(name: &str, image: &str) -> PluginContainer {
    PluginContainer {
        name: name.into(),
        image: image.into(),
        ready: true,
        started: at(STARTED),
        ..PluginContainer::default()
    }
}

/// Two GPUs, each four times.
pub(super) fn gpu_node(name: &str) -> NodeRead {
    let labels = [
        ("nvidia.com/gpu.present", "true"),
        ("nvidia.com/gpu.deploy.device-plugin", "true"),
        ("nvidia.com/gpu.count", "2"),
        ("nvidia.com/gpu.replicas", "4"),
        ("nvidia.com/gpu.product", "Tesla-T4-SHARED"),
        ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
        ("nvidia.com/mig.capable", "false"),
    ];
    NodeRead {
        name: name.into(),
        labels: labels
            .map(|(label, value)| (label.into(), value.into()))
            .into(),
        capacity: amounts("nvidia.com/gpu", 8),
        allocatable: amounts("nvidia.com/gpu", 8),
        taints: vec!["nvidia.com/gpu=present:NoSchedule".into()],
        ready: Some(true),
        unschedulable: false,
    }
}

/// A pod of a Deployment that runs.
pub(super) fn asking(workload: &str, node: &str, resource: &str, count: u64) -> PodRead {
    PodRead {
        namespace: "team".into(),
        name: format!("{workload}-7d4b9c8f6d-x2x9p"),
        node: Some(node.into()),
        phase: "Running".into(),
        containers: vec![PodContainer {
            name: "main".into(),
            limits: amounts(resource, count),
            requests: amounts(resource, count),
            ..PodContainer::default()
        }],
        controller: Some(ControllerRef {
            kind: "ReplicaSet".into(),
            name: format!("{workload}-7d4b9c8f6d"),
        }),
        template_hash: Some("7d4b9c8f6d".into()),
        runtime_class: Some("nvidia".into()),
        ..PodRead::default()
    }
}

/// The same, waiting.
pub(super) fn pending(workload: &str, resource: &str) -> PodRead {
    PodRead {
        node: None,
        phase: "Pending".into(),
        unscheduled: Some(format!(
            "0/2 nodes are available: 2 Insufficient {resource}. preemption: 0/2 nodes are available"
        )),
        ..asking(workload, "", resource, 1)
    }
}

/// The same, refused at admission.
pub(super) fn refused(workload: &str, count: u64) -> PodRead {
    PodRead {
        phase: "Failed".into(),
        reason: Some("UnexpectedAdmissionError".into()),
        message: Some(format!(
            "Allocate failed due to rpc error: code = Unknown desc = request for 'nvidia.com/gpu: \
             {count}' too large: maximum request size for shared resources is 1, which is unexpected"
        )),
        ..asking(workload, "gpu-1", "nvidia.com/gpu", count)
    }
}
