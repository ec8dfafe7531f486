//! What can go wrong, in words for the person who runs the check.

use std::path::PathBuf;
use std::time::Duration;

use crate::collect::cluster::{Call, ClusterError};

/// Why the API server cannot be asked, or gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    #[error(
        "no cluster to ask: no --kubeconfig, no KUBECONFIG, no ~/.kube/config, and this is no pod; \
         give --kubeconfig"
    )]
    NoAccess,
    #[error("{flag} {name:?} is not a name of Kubernetes: write the object's metadata.name")]
    Name { flag: &'static str, name: String },
    #[error(
        "the kubeconfig {path} cannot be used ({words}): give --kubeconfig another one, or \
         --context the name of one of its contexts",
        path = .path.display()
    )]
    Kubeconfig { path: PathBuf, words: String },
    /// In a pod without a service account's token.
    #[error(
        "no service account to ask the API server with ({words}): set \
         automountServiceAccountToken: true on the pod, or give --kubeconfig"
    )]
    NoServiceAccount { words: String },
    #[error(
        "the API server {server} cannot be reached ({words}): see whether it runs and this machine \
         may reach it, and whether --kubeconfig and --context are of the right cluster"
    )]
    Unreachable { server: String, words: String },
    #[error(
        "no trusted TLS connection to the API server {server} ({words}): the kubeconfig's \
         certificate authority must be the one that signed the server's certificate"
    )]
    Tls { server: String, words: String },
    #[error("no answer of the API server {server} within {after:?}: give --timeout more")]
    Timeout { server: String, after: Duration },
    /// 401.
    #[error(
        "the API server {server} does not accept the credentials ({words}): log in again; the \
         token may be expired or another cluster's"
    )]
    Unauthorized { server: String, words: String },
    /// 410, again and again.
    #[error(
        "the API server forgot each list of {resource} before it was read to its end: see its load, \
         and ask for fewer nodes with --node"
    )]
    Expired { resource: &'static str },
    #[error("there is no node {name:?}: kubectl get nodes has them all")]
    NodeUnknown { name: String },
    /// Any other.
    #[error("{words}")]
    Other { words: String },
}

impl SetupError {
    /// The same, for a person; `after` is how long an answer may take.
    pub(super) fn of(error: ClusterError, after: Duration) -> Self {
        match error {
            ClusterError::Kubeconfig { path, words } => Self::Kubeconfig { path, words },
            ClusterError::NoServiceAccount { words } => Self::NoServiceAccount { words },
            ClusterError::Unreachable { server, words } => Self::Unreachable { server, words },
            ClusterError::Tls { server, words } => Self::Tls { server, words },
            ClusterError::Timeout { server, .. } => Self::Timeout { server, after },
            ClusterError::Unauthorized { server, words } => Self::Unauthorized { server, words },
            ClusterError::Expired {
                call: Call { resource, .. },
                ..
            } => Self::Expired { resource },
            ClusterError::Lost { server, words } => Self::Other {
                words: format!(
                    "the connection to the API server {server} ended ({words}): try again"
                ),
            },
            // Their words have a mend that is nobody's in particular.
            error => Self::Other {
                words: error.to_string(),
            },
        }
    }
}
