//! The operator: its ClusterPolicy, its Deployment, and the RuntimeClasses it makes.

use serde::Deserialize;

use super::shape::{Condition, Metadata, Shape, cut, instant, said};
use super::spec::PodTemplate;
use crate::model::setup::{ClusterPolicy, OperatorDeployment, RuntimeClassRead};

/// The label that the operator's Deployment has from its chart.
pub(super) const LABEL: &str = "app.kubernetes.io/component=gpu-operator";
/// The name of its container.
const CONTAINER: &str = "gpu-operator";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PolicyObject {
    metadata: Metadata,
    spec: PolicySpec,
    status: PolicyStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicySpec {
    #[serde(rename = "devicePlugin")]
    device_plugin: Option<DevicePlugin>,
    gfd: Option<Discovery>,
    mig: Option<Mig>,
    daemonsets: Option<DaemonSets>,
    operator: Option<Operator>,
    cdi: Option<Cdi>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DevicePlugin {
    enabled: Option<bool>,
    config: Option<PluginConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PluginConfig {
    name: Option<String>,
    default: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Discovery {
    enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mig {
    strategy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DaemonSets {
    update_strategy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Operator {
    runtime_class: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cdi {
    nri_plugin_enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PolicyStatus {
    state: Option<String>,
    namespace: Option<String>,
    conditions: Option<Vec<Condition>>,
}

impl Shape for PolicyObject {
    fn key(&self) -> (Option<&str>, &str) {
        self.metadata.key()
    }
}

impl PolicyObject {
    pub(super) fn read(self) -> Option<ClusterPolicy> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let plugin = spec.device_plugin.unwrap_or_default();
        let config = plugin.config.unwrap_or_default();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        Some(ClusterPolicy {
            name: metadata.name,
            state: filled(status.state),
            namespace: filled(status.namespace),
            trouble: status.conditions.as_deref().and_then(trouble),
            plugin_enabled: plugin.enabled,
            discovery_enabled: spec.gfd.and_then(|gfd| gfd.enabled),
            config_name: filled(config.name),
            config_default: filled(config.default),
            mig_strategy: spec.mig.and_then(|mig| filled(mig.strategy)),
            update_strategy: spec.daemonsets.and_then(|it| filled(it.update_strategy)),
            runtime_class: spec.operator.and_then(|it| filled(it.runtime_class)),
            nri_plugin: spec.cdi.and_then(|cdi| cdi.nri_plugin_enabled),
        })
    }
}

/// The newest condition that is not as it should be: `Ready` is not, or `Error` is.
fn trouble(conditions: &[Condition]) -> Option<String> {
    let is_bad = |condition: &&Condition| match condition.kind.as_str() {
        "Ready" => condition.status == "False",
        "Error" => condition.status == "True",
        _ => false,
    };
    let newest = conditions
        .iter()
        .filter(is_bad)
        .max_by_key(|condition| instant(condition.last_transition_time.as_ref()))?;
    let parts = [&newest.reason, &newest.message];
    let words: Vec<String> = parts
        .iter()
        .filter_map(|part| said(part.as_ref()))
        .collect();
    Some(cut(&words.join(": "))).filter(|words| !words.is_empty())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeploymentObject {
    metadata: Metadata,
    spec: DeploymentSpec,
    status: DeploymentStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeploymentSpec {
    replicas: Option<u32>,
    template: PodTemplate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeploymentStatus {
    ready_replicas: Option<u32>,
}

impl Shape for DeploymentObject {
    fn key(&self) -> (Option<&str>, &str) {
        self.metadata.key()
    }
}

impl DeploymentObject {
    /// `None` where it is not the operator's.
    pub(super) fn read(self) -> Option<OperatorDeployment> {
        let containers = &self.spec.template.spec.containers;
        containers.iter().find(|it| it.name == CONTAINER)?;
        Some(OperatorDeployment {
            namespace: self.metadata.namespace(),
            image: containers.first().and_then(|first| first.image.clone()),
            name: self.metadata.name,
            replicas: self.spec.replicas,
            ready: self.status.ready_replicas.unwrap_or_default(),
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RuntimeClassObject {
    metadata: Metadata,
    handler: String,
}

impl Shape for RuntimeClassObject {
    fn key(&self) -> (Option<&str>, &str) {
        self.metadata.key()
    }
}

impl RuntimeClassObject {
    pub(super) fn read(self) -> RuntimeClassRead {
        RuntimeClassRead {
            name: self.metadata.name,
            handler: self.handler,
        }
    }
}
