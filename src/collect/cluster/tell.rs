//! What the task tells its readers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::State;
use super::error::ClusterError;
use crate::model::{NodeFacts, PodNames, Reading, SourceHealth};

/// Keeps the readers' state and its health: up while the pods are followed and the node can be
/// read. Nothing that was learnt is taken back by a failure.
pub(super) struct Teller {
    state: watch::Sender<State>,
    pods: Part,
    node: Part,
}

/// One half of what is asked.
#[derive(Default)]
struct Part {
    is_known: bool,
    failed: Option<ClusterError>,
}

impl Part {
    fn succeeded(&mut self) {
        self.is_known = true;
        self.failed = None;
    }

    /// Keeps the failure, and logs it where the one before was another.
    fn fail(&mut self, error: ClusterError) {
        let is_news = self
            .failed
            .as_ref()
            .is_none_or(|before| before.reason() != error.reason());
        if is_news {
            tracing::warn!(reason = error.reason(), "{error}");
        }
        self.failed = Some(error);
    }
}

impl Teller {
    pub(super) fn new(state: watch::Sender<State>) -> Self {
        Self {
            state,
            pods: Part::default(),
            node: Part::default(),
        }
    }

    /// A failure of the pods, or of everything.
    pub(super) fn pods_failed(&mut self, error: ClusterError) {
        self.count(error.reason(), 1);
        self.pods.fail(error);
        self.judge(false);
    }

    /// The node could not be read.
    pub(super) fn node_failed(&mut self, error: ClusterError) {
        self.count(error.reason(), 1);
        let cause = error.cause();
        self.node.fail(error);
        self.state.send_modify(|state| {
            if state.node.value().is_none() {
                state.node = Reading::Failed(cause);
            }
        });
        self.judge(false);
    }

    /// The node was read.
    pub(super) fn node(&mut self, facts: NodeFacts) {
        self.node.succeeded();
        self.state.send_modify(|state| {
            if state.node.value().is_none_or(|there| **there != facts) {
                state.node = Reading::Value(Arc::new(facts));
            }
        });
        self.judge(true);
    }

    /// The pods were listed.
    pub(super) fn listed(&mut self, took: Duration, pods: usize) {
        tracing::debug!(pods, "the API server listed the node's pods");
        self.state
            .send_modify(|state| state.health.duration = Some(took));
    }

    /// A watch of the pods stands.
    pub(super) fn followed(&mut self) {
        if !self.pods.is_known || self.pods.failed.is_some() {
            tracing::info!("the API server tells of the node's pods");
        }
        self.pods.succeeded();
        self.judge(true);
    }

    /// Live pods beyond the bound were left out.
    pub(super) fn refused(&mut self, times: u64) {
        self.count("too_many_pods", times);
    }

    /// The names that are known now.
    pub(super) fn names(&self, names: Arc<PodNames>) {
        self.state.send_if_modified(|state| {
            let is_new = !Arc::ptr_eq(&state.names, &names);
            state.names = names;
            is_new
        });
    }

    fn count(&self, reason: &str, times: u64) {
        self.state.send_modify(|state| {
            *state.health.errors.entry(reason.into()).or_insert(0) += times;
        });
    }

    fn judge(&self, succeeded: bool) {
        let failed = self.pods.failed.as_ref().or(self.node.failed.as_ref());
        self.state.send_modify(|State { health, .. }: &mut State| {
            judge(health, failed, self.pods.is_known && self.node.is_known);
            if succeeded {
                health.last_success = SystemTime::now().duration_since(UNIX_EPOCH).ok();
            }
        });
    }
}

fn judge(health: &mut SourceHealth, failed: Option<&ClusterError>, is_known: bool) {
    match failed {
        Some(error) => {
            health.up = Reading::Failed(error.cause());
            health.detail = error.to_string().into();
        }
        None if is_known => {
            health.up = Reading::Value(());
            health.detail = "".into();
        }
        // Half of it was never tried.
        None => {}
    }
}
