//! What can go wrong with the API server, by what the operator can do about it.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::items::TooLarge;
use crate::collect::kubelet::{chain, clean, words_of};
use crate::model::Cause;

/// The rights that the agent needs, all of them.
const RIGHTS: &str = "bind its service account to a ClusterRole with the verbs list and watch on \
                      pods and get on nodes";

/// What was asked of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub verb: &'static str,
    pub resource: &'static str,
}

impl Call {
    /// The pods of this node.
    pub const LIST: Self = Self {
        verb: "list",
        resource: "pods",
    };
    /// Changes of the same.
    pub const WATCH: Self = Self {
        verb: "watch",
        resource: "pods",
    };
    /// This node.
    pub const NODE: Self = Self {
        verb: "get",
        resource: "nodes",
    };
}

/// Why the API server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "the name of this node is not known, so the API server is not asked for its pods: set \
         SLICEWATCH_NODE_NAME from the pod's field spec.nodeName, or give --node-name"
    )]
    NodeNameMissing,
    #[error("--node-name {node:?} is not a name of a Kubernetes node: write its metadata.name")]
    NodeNameInvalid { node: Arc<str> },
    /// In a pod without a service account's token.
    #[error(
        "no service account to ask the API server with ({words}): set \
         automountServiceAccountToken: true on the agent's pod, or --kubeconfig none to do without"
    )]
    NoServiceAccount { words: String },
    #[error("the kubeconfig {path} cannot be used ({words}): give --kubeconfig another one", path = .path.display())]
    Kubeconfig { path: PathBuf, words: String },
    #[error(
        "the API server {server} cannot be reached ({words}): see whether it runs, and whether a \
         NetworkPolicy or firewall lets the agent's pod reach it"
    )]
    Unreachable { server: String, words: String },
    #[error(
        "no trusted TLS connection to the API server {server} ({words}): the certificate \
         authority of the service account or kubeconfig must be the one that signed the server's \
         certificate"
    )]
    Tls { server: String, words: String },
    #[error(
        "no answer of the API server {server} within {after:?}: see its load and the network \
         between"
    )]
    Timeout { server: String, after: Duration },
    /// 401.
    #[error(
        "the API server {server} does not accept the agent's credentials ({words}): the token is \
         expired or another cluster's; it is read anew at each try"
    )]
    Unauthorized { server: String, words: String },
    /// 403.
    #[error(
        "the API server does not let the agent {verb} {resource} ({words}): {RIGHTS}",
        verb = .call.verb, resource = .call.resource
    )]
    Forbidden { call: Call, words: String },
    #[error(
        "the API server has no node {node:?}: --node-name must be the node's metadata.name, which \
         may differ from the host's name"
    )]
    NodeUnknown { node: Arc<str> },
    /// 410: the version to watch from is too old.
    #[error("the API server forgot the version {} was to go on from", .call.resource)]
    Expired {
        call: Call,
        /// Where a list may go on all the same, with what is there by now.
        token: Option<String>,
    },
    /// Any other status.
    #[error(
        "the API server answered {status} to {verb} {resource} ({words}): see its log",
        verb = .call.verb, resource = .call.resource
    )]
    Rejected {
        call: Call,
        status: u16,
        words: String,
    },
    /// The connection ended in the middle of an answer.
    #[error("the connection to the API server {server} ended ({words}); it is made again")]
    Lost { server: String, words: String },
    #[error(
        "{server} answered {verb} {resource} with what is not Kubernetes' JSON ({words}): see \
         whether a proxy stands between",
        verb = .call.verb, resource = .call.resource
    )]
    Malformed {
        server: String,
        call: Call,
        words: String,
    },
    #[error(
        "an object in the API server's answer is larger than {limit} MiB, which etcd does not \
         hold: see whether a proxy stands between",
        limit = super::MAX_OBJECT_BYTES >> 20
    )]
    TooLarge,
}

impl ClusterError {
    /// What sending a request, or reading its answer, ran into.
    pub(super) fn of_transport(server: &str, error: &(dyn Error + 'static)) -> Self {
        let server = server.to_owned();
        let words = words_of(error);
        let kinds: Vec<io::ErrorKind> = io_kinds(error).collect();
        if kinds.contains(&io::ErrorKind::InvalidData) {
            // What tokio-rustls gives its errors as.
            return Self::Tls { server, words };
        }
        match kinds.last() {
            Some(
                io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::UnexpectedEof,
            )
            | None => Self::Lost { server, words },
            Some(_) => Self::Unreachable { server, words },
        }
    }

    /// What a status other than success means; `words` are the server's own.
    pub(super) fn of_status(server: &str, call: Call, status: u16, words: &str) -> Self {
        let words = clean(words);
        match status {
            401 => Self::Unauthorized {
                server: server.to_owned(),
                words,
            },
            403 => Self::Forbidden { call, words },
            410 => Self::Expired { call, token: None },
            status => Self::Rejected {
                call,
                status,
                words,
            },
        }
    }

    pub(in crate::collect) fn of_json(server: &str, call: Call, error: &serde_json::Error) -> Self {
        // serde's words name a place and what was expected, and repeat scalars that did not fit.
        Self::Malformed {
            server: server.to_owned(),
            call,
            words: match error.classify() {
                serde_json::error::Category::Data => "a field of another type".to_owned(),
                _ => format!("line {} column {}", error.line(), error.column()),
            },
        }
    }

    /// The label of error counters.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NodeNameMissing => "node_name_missing",
            Self::NodeNameInvalid { .. } => "node_name_invalid",
            Self::NoServiceAccount { .. } => "no_service_account",
            Self::Kubeconfig { .. } => "kubeconfig",
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NodeUnknown { .. } => "node_unknown",
            Self::Expired { .. } => "expired",
            Self::Rejected { .. } => "rejected",
            Self::Lost { .. } => "connection_lost",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge => "too_large",
        }
    }

    /// The reason of readings that could not be made.
    pub const fn cause(&self) -> Cause {
        match self {
            Self::NodeNameMissing
            | Self::NodeNameInvalid { .. }
            | Self::NoServiceAccount { .. }
            | Self::NodeUnknown { .. } => Cause::NotFound,
            Self::Unauthorized { .. } | Self::Forbidden { .. } => Cause::PermissionDenied,
            Self::Timeout { .. } => Cause::Timeout,
            Self::Kubeconfig { .. } | Self::Malformed { .. } | Self::TooLarge => Cause::Malformed,
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Expired { .. }
            | Self::Rejected { .. }
            | Self::Lost { .. } => Cause::Other,
        }
    }

    /// Whether it may be of this one object: else everything asked of the server would fail.
    pub(in crate::collect) const fn is_of_one_call(&self) -> bool {
        matches!(
            self,
            Self::Forbidden { .. }
                | Self::NodeUnknown { .. }
                | Self::Expired { .. }
                | Self::Rejected { .. }
                | Self::Malformed { .. }
                | Self::TooLarge
        )
    }
}

/// The kinds of all I/O errors in a chain, from without to within. One that wraps another skips it
/// as its source.
fn io_kinds<'error>(
    error: &'error (dyn Error + 'static),
) -> impl Iterator<Item = io::ErrorKind> + 'error {
    chain(error)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .flat_map(|io| {
            std::iter::successors(Some(io), |io| io.get_ref()?.downcast_ref::<io::Error>())
        })
        .map(io::Error::kind)
}

impl From<TooLarge> for ClusterError {
    fn from(TooLarge: TooLarge) -> Self {
        Self::TooLarge
    }
}
