//! What was read of a cluster's time-slicing set-up, and what was found in it.
//!
//! Only what the rules need. What there is one of, or few, is a [`Setup`]; nodes and pods come one
//! by one and are dropped. Instants are since 1970-01-01 UTC.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::snapshot::Severity;
use super::time::seconds;

/// What came of asking the API server for an object or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked<T> {
    /// Read whole.
    Read(T),
    /// The API server knows no such kind: its CRD is not installed.
    Absent,
    /// Rights are missing.
    Refused(Refused),
    /// No answer that could be used.
    Failed(Failed),
}

impl<T> Asked<T> {
    /// What was read.
    pub const fn read(&self) -> Option<&T> {
        match self {
            Self::Read(value) => Some(value),
            Self::Absent | Self::Refused(_) | Self::Failed(_) => None,
        }
    }

    /// The same, of what was read another thing.
    pub fn map<U>(self, read: impl FnOnce(T) -> U) -> Asked<U> {
        match self {
            Self::Read(value) => Asked::Read(read(value)),
            Self::Absent => Asked::Absent,
            Self::Refused(refused) => Asked::Refused(refused),
            Self::Failed(failed) => Asked::Failed(failed),
        }
    }
}

impl<T: Default> Default for Asked<T> {
    fn default() -> Self {
        Self::Read(T::default())
    }
}

/// A right that is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Refused {
    /// `get` or `list`.
    pub verb: String,
    /// Of the API; empty for the core group.
    pub group: String,
    /// Plural, as RBAC writes it: `daemonsets`.
    pub resource: String,
    /// Where; absent for all namespaces and for what has none.
    pub namespace: Option<String>,
    /// The API server's own, which name who asked.
    pub words: String,
}

/// A question without an answer that could be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Failed {
    /// Of the API; empty for the core group.
    pub group: String,
    /// Plural, as RBAC writes it: `daemonsets`.
    pub resource: String,
    /// Where; absent for all namespaces and for what has none.
    pub namespace: Option<String>,
    /// What happened, and what to do about it.
    pub words: String,
}

/// What there is one of in a cluster, or few.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Where the operator and its operands are; absent without one.
    pub operator_namespace: Option<String>,
    /// The nodes that are asked about: then nodes and pods of others need not be read, and rules
    /// that need all of them are not applied. Empty for all nodes.
    pub only_nodes: Vec<String>,
    /// All of the cluster; absent without the operator's CRD.
    pub policies: Asked<Vec<ClusterPolicy>>,
    /// Deployments of the operator itself, in all namespaces.
    pub operators: Asked<Vec<OperatorDeployment>>,
    /// Those of the plugin, of GPU feature discovery and of the MPS control daemon, in all
    /// namespaces.
    pub daemon_sets: Asked<Vec<PluginDaemonSet>>,
    /// Their pods, on all nodes.
    pub plugin_pods: Asked<Vec<PluginPod>>,
    /// By namespace, of all namespaces in which one of `daemon_sets` is: those that a policy or a
    /// DaemonSet names, and those with a key whose text has `timeSlicing:` or `mps:`.
    pub config_maps: BTreeMap<String, Asked<Vec<ConfigMapRead>>>,
    pub runtime_classes: Asked<Vec<RuntimeClassRead>>,
}

/// The operator's ClusterPolicy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClusterPolicy {
    pub name: String,
    /// `status.state`: `ready`, `notReady`, `ignored`, `disabled`.
    pub state: Option<String>,
    /// `status.namespace`: where the operands are.
    pub namespace: Option<String>,
    /// Of the newest condition that is not as it should be: reason and message.
    pub trouble: Option<String>,
    /// `spec.devicePlugin.enabled`; absent is true.
    pub plugin_enabled: Option<bool>,
    /// `spec.gfd.enabled`; absent is true.
    pub discovery_enabled: Option<bool>,
    /// `spec.devicePlugin.config.name`, of a ConfigMap in the operator's namespace; empty is none.
    pub config_name: Option<String>,
    /// `spec.devicePlugin.config.default`, a key of it; empty is none.
    pub config_default: Option<String>,
    /// `spec.mig.strategy`.
    pub mig_strategy: Option<String>,
    /// `spec.daemonsets.updateStrategy`.
    pub update_strategy: Option<String>,
    /// `spec.operator.runtimeClass`; absent is `nvidia`.
    pub runtime_class: Option<String>,
    /// `spec.cdi.nriPluginEnabled`: the operator then deletes its RuntimeClass.
    pub nri_plugin: Option<bool>,
}

/// The Deployment of the operator itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OperatorDeployment {
    pub namespace: String,
    pub name: String,
    /// Of its first container.
    pub image: Option<String>,
    /// `spec.replicas`.
    pub replicas: Option<u32>,
    /// `status.readyReplicas`.
    pub ready: u32,
}

/// What a DaemonSet or its pod is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginRole {
    /// The device plugin, which offers the resources.
    #[default]
    Plugin,
    /// GPU feature discovery, which labels the node.
    FeatureDiscovery,
    /// The MPS control daemon.
    MpsControl,
}

/// How a pod of the plugin gets its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PluginWiring {
    /// The ConfigMap that is mounted at `/available-configs`, or whose key is `CONFIG_FILE`.
    pub config_map: Option<String>,
    /// `DEFAULT_CONFIG` of the config-manager, which may be empty; without one the key that
    /// `CONFIG_FILE` or `--config-file` ends in.
    pub default_config: Option<String>,
    /// `FALLBACK_STRATEGIES` of it, such as `named,single` or `empty`.
    pub fallbacks: Option<String>,
    /// Whether a config-manager is there, which follows the node's label.
    pub config_manager: bool,
    /// `MIG_STRATEGY` or `--mig-strategy` of the main container, which win over the file.
    pub mig_strategy: Option<String>,
}

/// A DaemonSet of the plugin, of feature discovery or of the MPS control daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PluginDaemonSet {
    pub namespace: String,
    pub name: String,
    pub role: PluginRole,
    /// Whether a ClusterPolicy is its controller.
    pub of_operator: bool,
    /// The Helm release that it is of: annotation `meta.helm.sh/release-name`.
    pub release: Option<String>,
    /// Of the main container.
    pub image: Option<String>,
    pub wiring: PluginWiring,
    /// `spec.updateStrategy.type`.
    pub update_strategy: Option<String>,
    /// The annotation `deprecated.daemonset.template.generation`, which every DaemonSet has.
    pub template_generation: Option<i64>,
    /// `status.desiredNumberScheduled`.
    pub desired: u32,
    /// `status.updatedNumberScheduled`.
    pub updated: u32,
    /// `spec.template.spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.template.spec.runtimeClassName`.
    pub runtime_class: Option<String>,
}

/// A pod of such a DaemonSet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PluginPod {
    pub namespace: String,
    pub name: String,
    pub node: Option<String>,
    pub role: PluginRole,
    /// Name of the DaemonSet that made it.
    pub daemon_set: Option<String>,
    /// As the pod has it, which may be older than the DaemonSet's.
    pub wiring: PluginWiring,
    /// `status.phase`.
    pub phase: String,
    /// `status.startTime`: when the kubelet took it up.
    #[serde(rename = "started_unix_seconds", with = "seconds::option")]
    pub started: Option<Duration>,
    /// Its condition `Ready`.
    pub ready: bool,
    /// Since when it is not ready; absent where it is.
    #[serde(rename = "not_ready_since_unix_seconds", with = "seconds::option")]
    pub not_ready_since: Option<Duration>,
    /// Message of `PodScheduled` where it is false, or `status.message`.
    pub message: Option<String>,
    /// Label `pod-template-generation`.
    pub template_generation: Option<i64>,
    /// Label `controller-revision-hash`.
    pub revision: Option<String>,
    pub containers: Vec<PluginContainer>,
}

/// A container of such a pod, init containers too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PluginContainer {
    pub name: String,
    /// Among `initContainers`.
    pub init: bool,
    pub image: String,
    pub ready: bool,
    pub restarts: u32,
    /// Start of the run that is running; absent while none is.
    #[serde(rename = "started_unix_seconds", with = "seconds::option")]
    pub started: Option<Duration>,
    /// End of an init container that has done its work; absent before.
    #[serde(rename = "done_unix_seconds", with = "seconds::option")]
    pub done: Option<Duration>,
    /// `state.waiting.reason`, such as `CrashLoopBackOff`.
    pub waiting: Option<String>,
    /// `state.waiting.message`, else the message of the last termination; cut to 512 bytes.
    pub message: Option<String>,
}

/// A ConfigMap that configures the plugin, or looks as if it should.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConfigMapRead {
    pub namespace: String,
    pub name: String,
    /// Whole: the API server allows 1 MiB for all of it.
    pub data: BTreeMap<String, String>,
    /// Latest time of those `managedFields` that own `f:data`; absent where there are none.
    #[serde(rename = "data_changed_unix_seconds", with = "seconds::option")]
    pub data_changed: Option<Duration>,
    /// `manager` of that entry.
    pub changed_by: Option<String>,
    pub immutable: bool,
}

/// A RuntimeClass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RuntimeClassRead {
    pub name: String,
    pub handler: String,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NodeRead {
    pub name: String,
    /// `nvidia.com/*` without `nvidia.com/gfd.timestamp`, and `node.kubernetes.io/instance-type`.
    pub labels: BTreeMap<String, String>,
    /// Of `nvidia.com/*`. They are quantities: `4k` is 4000.
    pub capacity: BTreeMap<String, u64>,
    /// The same.
    pub allocatable: BTreeMap<String, u64>,
    /// `key=value:effect`.
    pub taints: Vec<String>,
    /// Its condition `Ready`; absent where the node does not say.
    pub ready: Option<bool>,
    pub unschedulable: bool,
}

/// A pod that asks for `nvidia.com/*`, or names a RuntimeClass. Pods that ended well are not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PodRead {
    pub namespace: String,
    pub name: String,
    pub node: Option<String>,
    /// `status.phase`.
    pub phase: String,
    /// `status.reason`, such as `UnexpectedAdmissionError`.
    pub reason: Option<String>,
    /// `status.message`; cut to 512 bytes.
    pub message: Option<String>,
    /// Message of the condition `PodScheduled` where it is false; cut to 4 KiB.
    pub unscheduled: Option<String>,
    /// Those that ask for `nvidia.com/*`.
    pub containers: Vec<PodContainer>,
    /// Its controller, as the pod says: of a Deployment's pod this is the ReplicaSet.
    pub controller: Option<ControllerRef>,
    /// Label `pod-template-hash`.
    pub template_hash: Option<String>,
    pub runtime_class: Option<String>,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// Whether it has a required node affinity, which is not read.
    pub node_affinity: bool,
}

/// A container that asks for GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PodContainer {
    pub name: String,
    /// Its place in `containers`, or in `initContainers`.
    pub index: usize,
    /// Among `initContainers`.
    pub init: bool,
    /// Of `nvidia.com/*`. They are quantities: `4k` is 4000.
    pub limits: BTreeMap<String, u64>,
    /// The same; the API server fills them in from the limits.
    pub requests: BTreeMap<String, u64>,
}

/// What made a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ControllerRef {
    pub kind: String,
    pub name: String,
}

/// An object of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Such as `ConfigMap`.
    pub kind: String,
    /// Absent for what has none.
    pub namespace: Option<String>,
    /// Empty where it is about all of the kind.
    pub name: String,
}

/// Something in the set-up that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SetupFinding {
    /// Stable, `snake_case`; deploy/time-slicing/failure-modes.md has them all.
    pub code: &'static str,
    pub severity: Severity,
    pub object: ObjectRef,
    /// The node where it is so; absent where it is not of one node.
    pub node: Option<String>,
    /// Path within the object, or what of it is compared.
    pub field: Option<String>,
    /// What should be there.
    pub expected: Option<String>,
    /// What is there; absent where nothing is.
    pub found: Option<String>,
    /// What is so, and what follows: one or two sentences.
    pub words: String,
    /// Commands to paste, in this order.
    pub mend: Vec<String>,
}

/// Where the profile of a node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFrom {
    /// The node's label `nvidia.com/device-plugin.config`.
    Label,
    /// `devicePlugin.config.default`, or `DEFAULT_CONFIG`.
    Default,
    /// The stand-alone plugin's fallback: a key named `default`.
    Named,
    /// The stand-alone plugin's fallback: the only key there is.
    Single,
    /// The operator's fallback: an empty profile, without sharing.
    Empty,
    /// No ConfigMap is wired: the plugin's own defaults, without sharing.
    Unwired,
}

/// What is in force on a node, as far as can be told from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeInForce {
    pub node: String,
    /// `namespace/name`.
    pub config_map: Option<String>,
    /// The key that the plugin is told to take.
    pub key: Option<String>,
    /// Absent where it cannot be told: no plugin, two of them, rights missing.
    pub from: Option<KeyFrom>,
    /// `none`, `time-slicing` or `mps`, as the profile says.
    pub sharing: Option<&'static str>,
    /// Ready, as far as it says, and not cordoned.
    pub takes_pods: bool,
    /// As advertised, such as `nvidia.com/gpu.shared`.
    pub resource: Option<String>,
    /// GPUs, by the label `nvidia.com/gpu.count`.
    pub gpus: Option<u64>,
    /// Of each GPU, as the profile says.
    pub replicas: Option<u64>,
    /// GPUs times replicas.
    pub expected: Option<u64>,
    /// Of that resource.
    pub allocatable: Option<u64>,
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SetupReport {
    /// The worst first, then by code, object and node.
    pub findings: Vec<SetupFinding>,
    /// How many more there are of a code whose findings were too many to list.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Nodes with GPUs, by name.
    pub nodes: Vec<NodeInForce>,
    /// Nodes that were looked at.
    pub nodes_read: u64,
    /// Pods that were looked at.
    pub pods_read: u64,
}
