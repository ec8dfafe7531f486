//! The kubelet pod-resources API: which container was granted which device.
//!
//! A task asks over the kubelet's unix socket and keeps the last answer; readers never wait. The
//! API names pods without their UID and tells nothing of who uses a device: it is a fact of its
//! own beside what NVML and the host say.

mod convert;
mod device_id;
mod error;
mod poll;
pub mod proto;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::model::{Allocations, Cause, Reading, Source, SourceHealth};

pub use convert::{NVIDIA_PREFIX, ResourceFilter, allocatable, allocations};
pub use device_id::{DeviceId, parse_device_id};
pub use error::KubeletError;
pub(in crate::collect) use error::{chain, clean, words_of};

/// Where the kubelet serves the API.
pub const DEFAULT_SOCKET: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

/// Largest answer that is read: 16,384 replicas a GPU come to some MiB.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How the kubelet is asked.
#[derive(Debug, Clone)]
pub struct KubeletSettings {
    /// The unix socket, as the agent sees it. Its folder must be mounted, not the socket.
    pub socket: PathBuf,
    /// Between two `List` calls.
    pub period: Duration,
    /// Between two `GetAllocatableResources` calls; none allocatable is asked again each period.
    pub allocatable_period: Duration,
    /// Least time between a round and one that a nudge brings forward.
    pub nudge_period: Duration,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// How long an answer is shown after it came; never less than two periods and a timeout.
    pub stale_after: Duration,
    /// Wait after a first failure; it doubles with each further one …
    pub first_backoff: Duration,
    /// … up to this.
    pub max_backoff: Duration,
    /// Which resources are GPUs.
    pub resources: ResourceFilter,
}

impl Default for KubeletSettings {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            period: Duration::from_secs(10),
            allocatable_period: Duration::from_secs(60),
            nudge_period: Duration::from_secs(1),
            call_timeout: Duration::from_secs(5),
            stale_after: Duration::from_secs(30),
            first_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(15),
            resources: ResourceFilter::default(),
        }
    }
}

/// What the task last heard.
struct State {
    /// With the time it came.
    answer: Option<(Arc<Allocations>, Instant)>,
    health: SourceHealth,
}

/// The running task; it ends when this is dropped.
pub struct KubeletHandle {
    state: watch::Receiver<State>,
    nudge: Arc<Notify>,
    shown_for: Duration,
    task: AbortHandle,
}

/// Starts asking, on the current tokio runtime.
///
/// # Panics
/// Outside a tokio runtime, or on one without timers and I/O.
pub fn start(settings: KubeletSettings) -> KubeletHandle {
    let (sender, state) = watch::channel(State {
        answer: None,
        health: SourceHealth {
            source: Source::Kubelet,
            up: Reading::Failed(Cause::NotYet),
            detail: format!("{} was not asked yet", settings.socket.display()).into(),
            errors: BTreeMap::new(),
            duration: None,
            last_success: None,
        },
    });
    let nudge = Arc::new(Notify::new());
    let shown_for = poll::shown_for(&settings);
    let task = tokio::spawn(poll::run(Arc::new(settings), sender, Arc::clone(&nudge)));
    KubeletHandle {
        state,
        nudge,
        shown_for,
        task: task.abort_handle(),
    }
}

impl KubeletHandle {
    /// The last answer and the kubelet's health, without waiting.
    ///
    /// The same `Arc` comes back while nothing changed. `Failed(NotYet)` before the first round,
    /// the cause of the failure while there never was an answer, `Failed(Stale)` where the last
    /// one is older than [`KubeletSettings::stale_after`]; in the time up to that the answer
    /// stands and the health alone tells of failures. `errors` count by
    /// [`KubeletError::reason`], those of `GetAllocatableResources` with `allocatable_` before it:
    /// they leave the source up.
    pub fn current(&self) -> (Reading<Arc<Allocations>>, SourceHealth) {
        let state = self.state.borrow();
        let answer = match (&state.answer, state.health.up) {
            (Some((answer, at)), _) if at.elapsed() <= self.shown_for => {
                Reading::Value(Arc::clone(answer))
            }
            (Some(_), _) => Reading::Failed(Cause::Stale),
            (None, Reading::Failed(cause)) => Reading::Failed(cause),
            (None, Reading::Value(()) | Reading::Unsupported) => Reading::Failed(Cause::NotYet),
        };
        (answer, state.health.clone())
    }

    /// Asks for a round soon: a process was seen that no known container explains. Not more often
    /// than [`KubeletSettings::nudge_period`]; nudges in between become one.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }
}

impl Drop for KubeletHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
