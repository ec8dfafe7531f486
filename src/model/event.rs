//! What is told of a pod in Kubernetes itself.

use std::sync::Arc;

use super::PodUid;

/// A finding about a pod has begun: what becomes a Kubernetes Event on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEvent {
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    pub uid: PodUid,
    /// The finding's.
    pub code: Arc<str>,
    /// What is so, and what mends it.
    pub note: String,
}
