//! The API server, asked as a person would ask it: everything that bears on how GPUs are shared.
//!
//! [`SetupReader`] makes one pass. It gets and lists, and nothing else: the operator's ClusterPolicy,
//! the DaemonSets of the plugin and its companions with their pods, the ConfigMaps beside them,
//! RuntimeClasses, nodes, and pods that ask for GPUs. A right that is missing keeps the rest from
//! nothing: it is told as what it is, [`Asked::Refused`]. A server that is gone is not asked again
//! in the same pass.
//!
//! Lists come in pages, and of a page no more than one object is held as text. Of nodes, and of pods
//! that ask for GPUs, nothing is kept at all: they go to whoever asked, one by one. Environment
//! variables of pods that are not the plugin's are never looked at.

mod config_map;
mod error;
mod list;
mod node;
mod operator;
mod plugin;
mod pod;
mod shape;
mod spec;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::collect::cluster::{Access, Api};
use crate::collect::host::is_subdomain;
use crate::model::setup::{
    Asked, ClusterPolicy, ConfigMapRead, NodeRead, OperatorDeployment, PluginDaemonSet, PluginPod,
    PodRead, RuntimeClassRead, Setup,
};

pub use error::SetupError;
pub use trial::{AgentPod, PodState, Right, Trial, TrialError};

use config_map::{ConfigMapObject, Wanted};
use list::{Kind, Lister, Scope};
use node::NodeObject;
use operator::{DeploymentObject, PolicyObject, RuntimeClassObject};
use plugin::{DaemonSetObject, PluginPodObject, Sets};
use pod::PodObject;

/// What is asked, and of whom.
#[derive(Debug, Clone)]
pub struct SetupSettings {
    pub access: Access,
    /// One of the kubeconfig's contexts; its current one where absent.
    pub context: Option<String>,
    /// Where the operator or the plugin is; found where absent, which needs the rights to list
    /// DaemonSets of all namespaces.
    pub namespace: Option<String>,
    /// The nodes that are looked at; all where empty.
    pub nodes: Vec<String>,
    /// How long the API server may take for one answer, which is a page of a list.
    pub timeout: Duration,
}

impl SetupSettings {
    /// All nodes, with these credentials.
    pub const fn new(access: Access) -> Self {
        Self {
            access,
            context: None,
            namespace: None,
            nodes: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// How a person asks: with the kubeconfig that was given, that of `KUBECONFIG`, the one in the home
/// folder, or as a pod does.
///
/// # Errors
/// Where there is none of these.
pub fn access(kubeconfig: Option<PathBuf>) -> Result<Access, SetupError> {
    if let Some(path) = kubeconfig {
        return Ok(Access::Kubeconfig(path));
    }
    let home = std::env::home_dir().map(|home| home.join(".kube").join("config"));
    match Access::of_environment() {
        Some(Access::KubeconfigVariable) => Ok(Access::KubeconfigVariable),
        of_pod => home
            .filter(|path| path.exists())
            .map(Access::Kubeconfig)
            .or(of_pod)
            .ok_or(SetupError::NoAccess),
    }
}

/// One pass over a cluster: [`setup`](Self::setup), then nodes, then pods.
pub struct SetupReader {
    lister: Lister,
    namespace: Option<String>,
    nodes: Vec<String>,
}

impl SetupReader {
    /// Reads configuration and credentials; nothing is asked yet.
    ///
    /// # Errors
    /// A kubeconfig or credentials that cannot be used, or a name that is none.
    pub async fn open(settings: &SetupSettings) -> Result<Self, SetupError> {
        let SetupSettings {
            access,
            context,
            namespace,
            nodes,
            timeout,
        } = settings;
        for (flag, name) in nodes
            .iter()
            .map(|node| ("--node", node))
            .chain(namespace.iter().map(|name| ("--namespace", name)))
        {
            if !is_subdomain(name) {
                return Err(SetupError::Name {
                    flag,
                    name: name.clone(),
                });
            }
        }
        let api = Api::open(access, context.as_deref(), *timeout)
            .await
            .map_err(|error| SetupError::of(error, *timeout))?;
        Ok(Self {
            lister: Lister::new(api, *timeout),
            namespace: namespace.clone(),
            nodes: nodes.clone(),
        })
    }

    /// The API server's address.
    pub fn server(&self) -> &str {
        self.lister.server()
    }

    /// Since 1970: by the API server's clock, by which all times in its objects are, or by this
    /// machine's where the server has not answered.
    pub fn now(&self) -> Duration {
        let now = self.lister.date().unwrap_or_else(SystemTime::now);
        now.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// What there is one of, or few.
    pub async fn setup(&mut self) -> Setup {
        let policies = self
            .lister
            .all(&Kind::POLICIES, Scope::ALL, PolicyObject::read)
            .await;
        let mut sets = Sets::default();
        let daemon_sets: Asked<Vec<PluginDaemonSet>> = {
            let scope = Scope::of(self.namespace.as_deref());
            let take = |object: DaemonSetObject| sets.take(object);
            self.lister.all(&Kind::DAEMON_SETS, scope, take).await
        };
        let operator_namespace = self.operator_namespace(&policies, &daemon_sets);
        let operators = self.operators(operator_namespace.as_deref()).await;
        let operator_namespace = operator_namespace.or_else(|| {
            let operator = operators.read()?.first()?;
            Some(operator.namespace.clone())
        });

        let mut namespaces: BTreeSet<String> = operator_namespace.iter().cloned().collect();
        namespaces.extend(self.namespace.clone());
        let found = daemon_sets.read().into_iter().flatten();
        namespaces.extend(found.map(|set| set.namespace.clone()));
        let usual = self.namespace.as_ref().or(operator_namespace.as_ref());
        let plugin_pods = match (&daemon_sets, usual) {
            (Asked::Read(_), _) => self.plugin_pods(&sets).await,
            (_, Some(namespace)) => self.plugin_pods(&Sets::unread(namespace)).await,
            // Not known to be none.
            (unread, None) => unread.clone().map(|_| Vec::new()),
        };
        let mut config_maps = BTreeMap::new();
        for namespace in namespaces {
            let wanted = Wanted::new(
                &namespace,
                operator_namespace.as_deref(),
                policies.read().map_or(&[], Vec::as_slice),
                daemon_sets.read().map_or(&[], Vec::as_slice),
                plugin_pods.read().map_or(&[], Vec::as_slice),
            );
            let maps = self.config_maps(&namespace, wanted).await;
            config_maps.insert(namespace, maps);
        }
        let runtime_classes: Asked<Vec<RuntimeClassRead>> = self
            .lister
            .all(
                &Kind::RUNTIME_CLASSES,
                Scope::ALL,
                |it: RuntimeClassObject| Some(it.read()),
            )
            .await;
        Setup {
            operator_namespace,
            only_nodes: self.nodes.clone(),
            policies,
            operators,
            daemon_sets,
            plugin_pods,
            config_maps,
            runtime_classes,
        }
    }

    /// Where the operator's operands are: as its policy says, or as its DaemonSets do. The namespace
    /// that was given may be that of a plugin without the operator.
    fn operator_namespace(
        &self,
        policies: &Asked<Vec<ClusterPolicy>>,
        daemon_sets: &Asked<Vec<PluginDaemonSet>>,
    ) -> Option<String> {
        let policies = policies.read().map_or(&[][..], Vec::as_slice);
        let sets = daemon_sets.read().map_or(&[][..], Vec::as_slice);
        let by_policy = policies.iter().find_map(|it| it.namespace.clone());
        let by_set = || sets.iter().find(|set| set.of_operator);
        by_policy
            .or_else(|| by_set().map(|set| set.namespace.clone()))
            .or_else(|| self.namespace.clone().filter(|_| !policies.is_empty()))
    }

    /// The operator runs where its operands do; where these are not known it is looked for by label.
    async fn operators(&mut self, namespace: Option<&str>) -> Asked<Vec<OperatorDeployment>> {
        let labels = match namespace {
            Some(_) => "",
            None => operator::LABEL,
        };
        let scope = Scope {
            namespace,
            labels,
            fields: "",
        };
        let take = |object: DeploymentObject| object.read();
        self.lister.all(&Kind::DEPLOYMENTS, scope, take).await
    }

    /// Pods of the DaemonSets, once a selector: the stand-alone chart's all have the same.
    async fn plugin_pods(&mut self, sets: &Sets) -> Asked<Vec<PluginPod>> {
        let mut pods = Vec::new();
        let fields: Vec<String> = match self.nodes.is_empty() {
            true => vec![String::new()],
            false => self.nodes.iter().map(|node| on(node)).collect(),
        };
        for (namespace, labels) in sets.selectors() {
            for fields in &fields {
                let scope = Scope {
                    namespace: Some(namespace),
                    labels,
                    fields,
                };
                let take = |object: PluginPodObject| pods.extend(object.read(sets));
                let asked = self.lister.each(&Kind::PODS, scope, take).await;
                if asked.read().is_none() {
                    return asked.map(|()| Vec::new());
                }
            }
        }
        Asked::Read(pods)
    }

    async fn config_maps(
        &mut self,
        namespace: &str,
        mut wanted: Wanted,
    ) -> Asked<Vec<ConfigMapRead>> {
        let scope = Scope::of(Some(namespace));
        let take = |object: ConfigMapObject| wanted.take(object);
        self.lister.all(&Kind::CONFIG_MAPS, scope, take).await
    }

    /// The nodes, one by one.
    pub async fn nodes(&mut self, mut each: impl FnMut(NodeRead)) -> Asked<()> {
        if self.nodes.is_empty() {
            let take = |object: NodeObject| each(object.read());
            return self.lister.each(&Kind::NODES, Scope::ALL, take).await;
        }
        // One that is not there keeps the others from nothing.
        let mut all = Asked::Read(());
        for name in self.nodes.clone() {
            let asked = self.lister.get(&Kind::NODES, &name).await;
            let asked = asked.map(|object: NodeObject| each(object.read()));
            if asked.read().is_none() && all.read().is_some() {
                all = asked;
            }
        }
        all
    }

    /// The pods that concern GPUs and have not ended well, one by one: those of the nodes that are
    /// looked at, and those that are of no node yet.
    pub async fn pods(&mut self, mut each: impl FnMut(PodRead)) -> Asked<()> {
        let mut take = |object: PodObject| {
            if let Some(pod) = object.read() {
                each(pod);
            }
        };
        let not_ended = "status.phase!=Succeeded";
        let fields: Vec<String> = match self.nodes.is_empty() {
            true => vec![not_ended.to_owned()],
            // An empty name is that of pods which wait for a node.
            false => (self.nodes.iter().map(String::as_str).chain([""]))
                .map(|node| format!("{},{not_ended}", on(node)))
                .collect(),
        };
        for fields in &fields {
            let scope = Scope {
                fields,
                ..Scope::ALL
            };
            let asked = self.lister.each(&Kind::PODS, scope, &mut take).await;
            if asked.read().is_none() {
                return asked;
            }
        }
        Asked::Read(())
    }
}

/// The field selector of a node's pods.
fn on(node: &str) -> String {
    format!("spec.nodeName={node}")
}
