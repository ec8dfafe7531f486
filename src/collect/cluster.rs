//! The API server: the pods of this node with their containers' ids and owners, and the node itself.
//!
//! A task lists and watches `pods` with the field selector `spec.nodeName=NODE` and reads
//! `nodes/NODE` once a minute. It makes no other request: list and watch on pods and get on nodes
//! are all the rights that the agent needs, but for those of [`events`] where they are asked for. Readers never wait; what was learnt stays when the API
//! server goes away, and the health says so.
//!
//! What is kept of a pod are its names, UID, quality of service, controller and container ids.
//! Everything else is dropped while it is read, object by object: several MiB of JSON never stand
//! in memory together.

mod api;
mod error;
pub mod events;
mod follow;
mod index;
mod items;
mod node;
mod pod;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::collect::kubelet::ResourceFilter;
use crate::model::{Cause, NodeFacts, PodNames, Reading, Source, SourceHealth};

pub use api::Access;
pub(in crate::collect) use api::Api;
pub use error::{Call, ClusterError};
pub use index::{KEPT, MAX_CONTAINERS, MAX_PODS, PodIndex};
pub(in crate::collect) use items::{Items, ListObject};
pub(in crate::collect) use node::whole;
pub use pod::{Pod, PodObject};

/// Largest object that is read: etcd holds none over 1.5 MiB, and JSON may say it longer.
pub const MAX_OBJECT_BYTES: usize = 4 << 20;

/// How the API server is asked.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    pub access: Access,
    /// `metadata.name` of this node. Without it nothing is asked.
    pub node: Option<Arc<str>>,
    /// Which of the node's resources are GPUs.
    pub resources: ResourceFilter,
    /// Between two reads of the node, a quarter more or less.
    pub node_period: Duration,
    /// How long the head of an answer, or all of a small one, may take.
    pub call_timeout: Duration,
    /// How long a list of the pods may take.
    pub list_timeout: Duration,
    /// Wait after a first failure, a quarter more or less; it doubles with each further one …
    pub first_backoff: Duration,
    /// … up to this.
    pub max_backoff: Duration,
}

impl ClusterSettings {
    /// Asks with these credentials for this node.
    pub fn new(access: Access, node: Option<Arc<str>>) -> Self {
        Self {
            access,
            node,
            resources: ResourceFilter::default(),
            node_period: Duration::from_secs(60),
            call_timeout: Duration::from_secs(5),
            list_timeout: Duration::from_secs(30),
            first_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
        }
    }
}

/// What the API server has told until now, and its health.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// All that is known, also of pods deleted lately. The same `Arc` while nothing changed.
    pub names: Arc<PodNames>,
    pub node: Reading<Arc<NodeFacts>>,
    pub health: SourceHealth,
}

impl ClusterView {
    /// Of a machine that has no API server to ask.
    pub fn absent(why: &str) -> Self {
        Self {
            names: Arc::default(),
            node: Reading::Unsupported,
            health: health(Reading::Unsupported, why),
        }
    }
}

/// What the task tells.
type State = ClusterView;

fn health(up: Reading<()>, detail: &str) -> SourceHealth {
    SourceHealth {
        source: Source::Cluster,
        up,
        detail: detail.into(),
        errors: BTreeMap::new(),
        duration: None,
        last_success: None,
    }
}

/// The running task; it ends when this is dropped.
pub struct ClusterHandle {
    state: watch::Receiver<State>,
    task: AbortHandle,
}

/// Starts following, on the current tokio runtime. Nothing is waited for.
///
/// # Panics
/// Outside a tokio runtime, or on one without timers and I/O.
pub fn start(settings: ClusterSettings) -> ClusterHandle {
    let not_yet = Reading::Failed(Cause::NotYet);
    let (sender, state) = watch::channel(State {
        names: Arc::default(),
        node: Reading::Failed(Cause::NotYet),
        health: health(not_yet, "the API server was not asked yet"),
    });
    let task = tokio::spawn(follow::run(settings, sender));
    ClusterHandle {
        state,
        task: task.abort_handle(),
    }
}

impl ClusterHandle {
    /// What is known now, without waiting. `errors` count by [`ClusterError::reason`], and pods
    /// left out because there are too many as `too_many_pods`.
    pub fn current(&self) -> ClusterView {
        self.state.borrow().clone()
    }
}

impl Drop for ClusterHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
