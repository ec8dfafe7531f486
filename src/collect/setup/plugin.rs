//! DaemonSets of the plugin, of GPU feature discovery and of the MPS control daemon, and their pods.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::shape::{Condition, Metadata, Owner, Shape, Strings, condition, cut, instant, said};
use super::spec::{PodSpec, PodTemplate};
use crate::model::setup::{PluginContainer, PluginDaemonSet, PluginPod, PluginRole};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const RELEASE: &str = "meta.helm.sh/release-name";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DaemonSetObject {
    metadata: SetMetadata,
    spec: SetSpec,
    status: SetStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SetMetadata {
    name: String,
    namespace: String,
    annotations: Strings,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SetSpec {
    selector: Selector,
    template: PodTemplate,
    update_strategy: UpdateStrategy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: Strings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SetStatus {
    desired_number_scheduled: u32,
    updated_number_scheduled: u32,
}

impl Shape for DaemonSetObject {
    fn key(&self) -> (Option<&str>, &str) {
        (Some(&self.metadata.namespace), &self.metadata.name)
    }
}

/// The DaemonSets that were found, as far as their pods are found by them.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// By namespace and name.
    roles: BTreeMap<(String, String), PluginRole>,
    /// Namespaces with label selectors.
    selectors: BTreeSet<(String, String)>,
    /// Whether there may be more.
    unread: bool,
}

impl Sets {
    /// `None` where it is no DaemonSet of the plugin.
    pub(super) fn take(&mut self, object: DaemonSetObject) -> Option<PluginDaemonSet> {
        let DaemonSetObject {
            metadata,
            spec,
            status,
        } = object;
        let pod = spec.template.spec;
        let (main, role) = pod.main()?;
        let key = (metadata.namespace.clone(), metadata.name.clone());
        self.roles.insert(key, role);
        let labels = spec.selector.match_labels.into_iter().flatten();
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let selector = (metadata.namespace.clone(), labels.join(","));
        self.selectors.insert(selector);

        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name);
        let mut owners = metadata.owner_references.iter().flatten();
        Some(PluginDaemonSet {
            role,
            of_operator: owners.any(|owner| owner.kind == "ClusterPolicy"),
            release: annotation(RELEASE).cloned(),
            image: main.image.clone(),
            wiring: pod.wiring(),
            update_strategy: spec.update_strategy.kind,
            template_generation: annotation(TEMPLATE_GENERATION)
                .and_then(|generation| generation.parse().ok()),
            desired: status.desired_number_scheduled,
            updated: status.updated_number_scheduled,
            node_selector: pod.node_selector.unwrap_or_default(),
            runtime_class: pod.runtime_class_name,
            namespace: metadata.namespace,
            name: metadata.name,
        })
    }

    /// Where DaemonSets cannot be read: pods are known by what they run, in this namespace.
    pub(super) fn unread(namespace: &str) -> Self {
        Self {
            unread: true,
            selectors: BTreeSet::from([(namespace.to_owned(), String::new())]),
            ..Self::default()
        }
    }

    /// Where the pods are: namespaces with label selectors, each once.
    pub(super) fn selectors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.selectors
            .iter()
            .map(|(namespace, labels)| (namespace.as_str(), labels.as_str()))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PluginPodObject {
    metadata: Metadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    message: Option<String>,
    start_time: Option<String>,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    image: String,
    ready: bool,
    restart_count: u32,
    state: State,
    last_state: State,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Running {
    started_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    finished_at: Option<String>,
    message: Option<String>,
}

impl Shape for PluginPodObject {
    fn key(&self) -> (Option<&str>, &str) {
        self.metadata.key()
    }
}

impl PluginPodObject {
    /// `None` where it is of no DaemonSet that is known: a selector may choose more.
    pub(super) fn read(self, sets: &Sets) -> Option<PluginPod> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let owner = metadata.controller().filter(|it| it.kind == "DaemonSet")?;
        let key = (metadata.namespace(), owner.name.clone());
        let role = match sets.roles.get(&key) {
            Some(role) => *role,
            None if sets.unread => spec.main()?.1,
            None => return None,
        };
        let ready = condition(status.conditions.as_ref(), "Ready");
        let is_ready = ready.is_some_and(|ready| ready.status == "True");
        let since = ready.and_then(|ready| instant(ready.last_transition_time.as_ref()));
        let unscheduled = condition(status.conditions.as_ref(), "PodScheduled")
            .filter(|scheduled| scheduled.status == "False")
            .and_then(|scheduled| said(scheduled.message.as_ref()));
        let init = containers(status.init_container_statuses, true);
        Some(PluginPod {
            node: spec.node_name.clone().filter(|node| !node.is_empty()),
            role,
            daemon_set: Some(owner.name.clone()),
            wiring: spec.wiring(),
            started: instant(status.start_time.as_ref()),
            ready: is_ready,
            not_ready_since: since.filter(|_| !is_ready),
            message: unscheduled.or_else(|| said(status.message.as_ref())),
            phase: status.phase,
            template_generation: metadata
                .label("pod-template-generation")
                .and_then(|generation| generation.parse().ok()),
            revision: metadata.label("controller-revision-hash").cloned(),
            containers: containers(status.container_statuses, false)
                .chain(init)
                .collect(),
            namespace: key.0,
            name: metadata.name,
        })
    }
}

fn containers(
    statuses: Option<Vec<ContainerStatus>>,
    init: bool,
) -> impl Iterator<Item = PluginContainer> {
    statuses.into_iter().flatten().map(move |status| {
        let ContainerStatus {
            name,
            image,
            ready,
            restart_count,
            state,
            last_state,
        } = status;
        let waiting = state.waiting.unwrap_or_default();
        let done = state
            .terminated
            .as_ref()
            .filter(|it| init && it.exit_code == 0);
        let done = done.and_then(|it| instant(it.finished_at.as_ref()));
        let ended = [&state.terminated, &last_state.terminated].into_iter();
        let mut ended = ended.flatten().filter_map(|it| said(it.message.as_ref()));
        PluginContainer {
            name,
            init,
            image,
            ready,
            restarts: restart_count,
            started: state.running.and_then(|it| instant(it.started_at.as_ref())),
            done,
            message: said(waiting.message.as_ref()).or_else(|| ended.next()),
            waiting: waiting.reason.map(|reason| cut(&reason)),
        }
    })
}
