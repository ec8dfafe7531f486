//! What can go wrong with the kubelet's socket, by what the operator can do about it.

use std::error::Error;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::{Code, Status};

use super::MAX_ANSWER_BYTES;
use crate::model::Cause;

/// Most characters of a peer's own words that are repeated.
const MAX_WORDS: usize = 200;

/// Why the kubelet gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeletError {
    /// Nothing is at the path.
    #[error(
        "no kubelet socket at {socket}: mount the host's folder {folder} into the agent \
         (the folder, as each kubelet start makes a new socket), or name the socket of this \
         kubelet",
        socket = .socket.display(), folder = folder_of(.socket)
    )]
    SocketMissing { socket: PathBuf },
    #[error(
        "no permission to open the kubelet socket {socket}: it is root's; run the agent as user 0 \
         and look for a SELinux or AppArmor denial",
        socket = .socket.display()
    )]
    PermissionDenied { socket: PathBuf },
    /// A file or folder is at the path.
    #[error(
        "{socket} is not a socket: name the kubelet's pod-resources socket, and mount the folder \
         it is in",
        socket = .socket.display()
    )]
    NotASocket { socket: PathBuf },
    /// The socket is there and nobody listens.
    #[error(
        "nobody listens on the kubelet socket {socket}: the kubelet is starting or stopped; see \
         `systemctl status kubelet` on the node",
        socket = .socket.display()
    )]
    Refused { socket: PathBuf },
    /// Somebody answers who does not speak this API.
    #[error(
        "{socket} does not speak the kubelet's pod-resources API v1 ({words}): name the kubelet's \
         own socket, pod-resources/kubelet.sock, of Kubernetes 1.20 or later",
        socket = .socket.display()
    )]
    WrongProtocol { socket: PathBuf, words: String },
    #[error(
        "no answer on the kubelet socket {socket} within {after:?}: see the kubelet's log on the \
         node for a hung device plugin or disk",
        socket = .socket.display()
    )]
    Timeout { socket: PathBuf, after: Duration },
    #[error(
        "the kubelet's answer on {socket} is larger than {limit} MiB: lower the replicas of the \
         device plugin's sharing configuration",
        socket = .socket.display(), limit = MAX_ANSWER_BYTES >> 20
    )]
    TooLarge { socket: PathBuf },
    /// The kubelet answered with an error of its own.
    #[error(
        "the kubelet on {socket} refused: {code:?}: {words}; see the kubelet's log on the node",
        socket = .socket.display()
    )]
    Rejected {
        socket: PathBuf,
        code: Code,
        words: String,
    },
    /// The connection ended in the middle of a call.
    #[error(
        "the connection to the kubelet on {socket} ended ({words}): the kubelet restarts, or this \
         is not the kubelet's pod-resources socket",
        socket = .socket.display()
    )]
    Lost { socket: PathBuf, words: String },
}

impl KubeletError {
    /// What `connect` ran into.
    pub(super) fn of_connect(socket: &Path, error: &tonic::transport::Error) -> Self {
        Self::of_io(socket, error).unwrap_or_else(|| Self::Lost {
            socket: socket.to_owned(),
            words: words_of(error),
        })
    }

    /// What a call ended with. Codes that tonic itself chose differ with its features, so a status
    /// with a source (made here) is told from one without (sent by the peer).
    pub(super) fn of_call(socket: &Path, status: &Status) -> Self {
        let socket = socket.to_owned();
        let words = clean(status.message());
        if status.source().is_some() {
            let words = words_of(status);
            return Self::of_io(&socket, status).unwrap_or(if is_foreign_speech(&words) {
                Self::WrongProtocol { socket, words }
            } else {
                Self::Lost { socket, words }
            });
        }
        match status.code() {
            Code::OutOfRange if status.message().contains("message length too large") => {
                Self::TooLarge { socket }
            }
            Code::Unimplemented => Self::WrongProtocol { socket, words },
            Code::Internal if status.message().contains("failed to decode Protobuf") => {
                Self::WrongProtocol { socket, words }
            }
            code => Self::Rejected {
                socket,
                code,
                words,
            },
        }
    }

    /// What an I/O error of opening the socket means, where the chain holds one.
    fn of_io(socket: &Path, error: &(dyn Error + 'static)) -> Option<Self> {
        let socket = socket.to_owned();
        match chain(error)
            .find_map(|e| e.downcast_ref::<io::Error>())?
            .kind()
        {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Some(Self::SocketMissing { socket })
            }
            io::ErrorKind::PermissionDenied => Some(Self::PermissionDenied { socket }),
            io::ErrorKind::ConnectionRefused => {
                let is_socket = std::fs::metadata(&socket).is_ok_and(|m| m.file_type().is_socket());
                Some(if is_socket {
                    Self::Refused { socket }
                } else {
                    Self::NotASocket { socket }
                })
            }
            _ => None,
        }
    }

    /// The label of error counters.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SocketMissing { .. } => "socket_missing",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::NotASocket { .. } => "not_a_socket",
            Self::Refused { .. } => "refused",
            Self::WrongProtocol { .. } => "wrong_protocol",
            Self::Timeout { .. } => "timeout",
            Self::TooLarge { .. } => "too_large",
            Self::Rejected { .. } => "rejected",
            Self::Lost { .. } => "connection_lost",
        }
    }

    /// The reason of readings that could not be made.
    pub const fn cause(&self) -> Cause {
        match self {
            Self::SocketMissing { .. } => Cause::NotFound,
            Self::PermissionDenied { .. } => Cause::PermissionDenied,
            Self::NotASocket { .. } | Self::WrongProtocol { .. } | Self::TooLarge { .. } => {
                Cause::Malformed
            }
            Self::Timeout { .. } => Cause::Timeout,
            Self::Refused { .. } | Self::Rejected { .. } | Self::Lost { .. } => Cause::Other,
        }
    }
}

fn folder_of(socket: &Path) -> String {
    socket
        .parent()
        .unwrap_or(Path::new("/"))
        .display()
        .to_string()
}

pub(in crate::collect) fn chain<'error>(
    error: &'error (dyn Error + 'static),
) -> impl Iterator<Item = &'error (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&e| e.source())
}

/// The last words of a chain of errors: the most exact ones.
pub(in crate::collect) fn words_of(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(|last| clean(&last.to_string()))
        .unwrap_or_default()
}

/// What HTTP/2 says when the peer speaks something else.
fn is_foreign_speech(words: &str) -> bool {
    [
        "frame with invalid size",
        "protocol error",
        "invalid preface",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

/// A peer's words on one line, and not many.
pub(in crate::collect) fn clean(words: &str) -> String {
    let mut clean: String = words
        .chars()
        .take(MAX_WORDS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if words.chars().nth(MAX_WORDS).is_some() {
        clean.push('…');
    }
    clean
}
