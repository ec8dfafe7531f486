//! The API server's part in `check --functional`: the only place that makes and deletes something.

mod object;

use std::time::Duration;

use kube::core::Request;
use kube::core::params::{DeleteParams, GetParams, ListParams, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use self::object::PodObject;
use super::SetupSettings;
use super::error::SetupError;
use crate::collect::cluster::{Api, Call, ClusterError, MAX_OBJECT_BYTES};
use crate::collect::host::is_subdomain;
use crate::model::Snapshot;
use crate::model::trial::Witness;

/// Bytes of a snapshot at the most: 8 GPUs with 64 pods come to 0.6 MiB.
const MAX_SNAPSHOT: usize = 16 << 20;
/// Bytes of a witness' log.
const MAX_LOG: usize = 64 << 10;
/// Pods that are labelled as agents, of which one is looked for.
const MAX_AGENTS: u32 = 100;
/// Bytes of their list.
const MAX_LIST: usize = 16 << 20;

/// A right that the trial needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    pub verb: &'static str,
    pub resource: &'static str,
    /// Empty for none.
    pub subresource: &'static str,
}

impl Right {
    const fn of(verb: &'static str, resource: &'static str, subresource: &'static str) -> Self {
        Self {
            verb,
            resource,
            subresource,
        }
    }

    /// Without one of these there is no trial.
    pub const NEEDED: [Self; 4] = [
        Self::of("create", "pods", ""),
        Self::of("get", "pods", ""),
        Self::of("delete", "pods", ""),
        Self::of("get", "pods", "log"),
    ];

    /// `create pods`, `get pods/log`.
    pub fn words(&self) -> String {
        match self.subresource {
            "" => format!("{} {}", self.verb, self.resource),
            sub => format!("{} {}/{sub}", self.verb, self.resource),
        }
    }
}

/// What became of a question or a wish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrialError {
    /// 403: rights, a quota, or a policy of the namespace; the words say which.
    #[error("{words}")]
    Forbidden { words: String },
    /// 404.
    #[error("{words}")]
    NotFound { words: String },
    /// 4xx: an admission webhook, or an object that this server does not take.
    #[error("{words}")]
    Rejected { words: String },
    #[error(transparent)]
    Server(#[from] SetupError),
}

/// How a pod of the trial is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodState {
    pub phase: String,
    /// Its container runs.
    pub running: bool,
    /// Why it does not: the scheduler's, the kubelet's or the container runtime's words.
    pub why: Option<String>,
}

/// Reasons for which a container waits that no time mends.
const HOPELESS: [&str; 3] = [
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
];

impl PodState {
    /// Whether it will never run.
    pub fn is_hopeless(&self) -> bool {
        let why = self.why.as_deref().unwrap_or_default();
        matches!(self.phase.as_str(), "Failed" | "Succeeded")
            || HOPELESS.iter().any(|reason| why.starts_with(reason))
    }
}

/// A running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPod {
    pub namespace: String,
    pub name: String,
    pub node: String,
    pub image: String,
    /// Of its container port `metrics`.
    pub port: u16,
    /// Whether it is probed by HTTPS, and so speaks it.
    pub tls: bool,
}

/// Makes, watches and deletes pods in one namespace.
pub struct Trial {
    api: Api,
    namespace: String,
    timeout: Duration,
}

impl Trial {
    /// Reads configuration and credentials; nothing is asked yet.
    ///
    /// # Errors
    /// A kubeconfig or credentials that cannot be used, or a namespace that is no name.
    pub async fn open(settings: &SetupSettings, namespace: &str) -> Result<Self, SetupError> {
        if !is_subdomain(namespace) {
            return Err(SetupError::Name {
                flag: "--functional-namespace",
                name: namespace.to_owned(),
            });
        }
        let SetupSettings {
            access,
            context,
            timeout,
            ..
        } = settings;
        let api = Api::open(access, context.as_deref(), *timeout)
            .await
            .map_err(|error| SetupError::of(error, *timeout))?;
        Ok(Self {
            api,
            namespace: namespace.to_owned(),
            timeout: *timeout,
        })
    }

    fn pods(&self) -> String {
        format!("/api/v1/namespaces/{}/pods", self.namespace)
    }

    async fn ask(
        &self,
        verb: &'static str,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
        limit: usize,
    ) -> Result<Vec<u8>, TrialError> {
        let resource = "pods";
        let call = Call { verb, resource };
        let answered = async { self.api.send(call, request).await?.whole(limit).await };
        answered.await.map_err(|error| self.error(error))
    }

    fn error(&self, error: ClusterError) -> TrialError {
        match error {
            ClusterError::Forbidden { words, .. } => TrialError::Forbidden { words },
            ClusterError::Rejected {
                status: 404, words, ..
            } => TrialError::NotFound { words },
            ClusterError::Rejected {
                status: 400..500,
                words,
                ..
            } => TrialError::Rejected { words },
            error => SetupError::of(error, self.timeout).into(),
        }
    }

    fn read<T: for<'de> Deserialize<'de>>(
        &self,
        verb: &'static str,
        body: &[u8],
    ) -> Result<T, TrialError> {
        let call = Call {
            verb,
            resource: "pods",
        };
        serde_json::from_slice(body)
            .map_err(|error| self.error(ClusterError::of_json(&self.api.server, call, &error)))
    }

    /// Whether the person may do it; `None` where the server does not say.
    pub async fn may(&self, right: &Right) -> Option<bool> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": self.namespace, "verb": right.verb, "resource": right.resource,
                "subresource": right.subresource,
            }},
        });
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            allowed: bool,
        }
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let request =
            Request::new(path).create(&PostParams::default(), review.to_string().into_bytes());
        let body = self.ask("create", request, MAX_OBJECT_BYTES).await.ok()?;
        let review: Review = self.read("create", &body).ok()?;
        Some(review.status.allowed)
    }

    /// Makes a pod.
    ///
    /// # Errors
    /// [`TrialError`] with the server's own words.
    pub async fn create(&self, pod: &Value) -> Result<(), TrialError> {
        let body = pod.to_string().into_bytes();
        let request = Request::new(self.pods()).create(&PostParams::default(), body);
        self.ask("create", request, MAX_OBJECT_BYTES)
            .await
            .map(|_| ())
    }

    /// How a pod is doing.
    ///
    /// # Errors
    /// [`TrialError::NotFound`] where it is gone.
    pub async fn state(&self, name: &str) -> Result<PodState, TrialError> {
        let request = Request::new(self.pods()).get(name, &GetParams::default());
        let body = self.ask("get", request, MAX_OBJECT_BYTES).await?;
        self.read("get", &body).map(PodObject::state)
    }

    /// What it has said; `None` where it has not yet.
    ///
    /// # Errors
    /// [`TrialError`]; a log that is not there yet is none.
    pub async fn witness(&self, name: &str) -> Result<Option<Witness>, TrialError> {
        let pod = format!("{}/{name}", self.pods());
        let request = Request::new(pod).get("log", &GetParams::default());
        let log = match self.ask("get", request, MAX_LOG).await {
            Ok(log) => log,
            Err(TrialError::NotFound { .. } | TrialError::Rejected { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lines = log.split(|byte| *byte == b'\n');
        Ok(lines.find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// Asks for a pod's end; one that is gone is none to end.
    ///
    /// # Errors
    /// [`TrialError`] of any other kind.
    pub async fn delete(&self, name: &str) -> Result<(), TrialError> {
        let params = DeleteParams {
            grace_period_seconds: Some(1),
            ..DeleteParams::default()
        };
        let request = Request::new(self.pods()).delete(name, &params);
        match self.ask("delete", request, MAX_OBJECT_BYTES).await {
            Ok(_) | Err(TrialError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Running agents: the one of a node, or some of them all.
    ///
    /// # Errors
    /// [`TrialError`]: rights to list pods of all namespaces are no part of [`Right::NEEDED`].
    pub async fn agents(&self, node: Option<&str>) -> Result<Vec<AgentPod>, TrialError> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<PodObject>,
        }
        let on = node.map_or(String::new(), |node| format!(",spec.nodeName={node}"));
        let params = ListParams {
            limit: Some(MAX_AGENTS),
            ..ListParams::default()
        }
        // Not its name, which the chart's values can change.
        .labels("app.kubernetes.io/component=agent")
        .fields(&format!("status.phase=Running{on}"));
        let request = Request::new("/api/v1/pods").list(&params);
        let body = self.ask("list", request, MAX_LIST).await?;
        let list: List = self.read("list", &body)?;
        Ok(list
            .items
            .into_iter()
            .filter_map(PodObject::agent)
            .collect())
    }

    /// What an agent says, asked through the API server.
    ///
    /// # Errors
    /// [`TrialError`]: the right to `get pods/proxy`, or an agent that wants a password.
    pub async fn snapshot(&self, agent: &AgentPod) -> Result<Snapshot, TrialError> {
        let AgentPod {
            namespace,
            name,
            port,
            tls,
            ..
        } = agent;
        let scheme = if *tls { "https:" } else { "" };
        let path =
            format!("/api/v1/namespaces/{namespace}/pods/{scheme}{name}:{port}/proxy/api/v1");
        let request = Request::new(path).get("snapshot", &GetParams::default());
        let body = self.ask("get", request, MAX_SNAPSHOT).await?;
        self.read("get", &body)
    }
}
