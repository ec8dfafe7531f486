//! Kubernetes Events on pods, where they are asked for: the only thing that the agent writes.
//!
//! A task takes what is to be told from a bounded queue and makes an object of `events.k8s.io/v1` in
//! the pod's namespace. Nothing waits for it. What begins again within the hour is counted, and told
//! as the same Event's series when the hour is over. The rights are create and patch on
//! `events.k8s.io/events`.

mod book;
mod object;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube::core::Request;
use kube::core::params::{Patch, PatchParams, PostParams};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use self::book::{Book, Pace, Step};
use super::api::Api;
use super::error::{Call, ClusterError};
use super::{Access, MAX_OBJECT_BYTES};
use crate::collect::host::{is_label, is_subdomain};
use crate::model::{Cause, PodEvent, Reading, Source, SourceHealth};

/// What waits to be told.
const QUEUE: usize = 64;
/// Tries of one Event.
const TRIES: u32 = 3;
const CREATE: Call = Call {
    verb: "create",
    resource: "events",
};
const PATCH: Call = Call {
    verb: "patch",
    resource: "events",
};

/// How Events are made.
#[derive(Debug, Clone)]
pub struct EventsSettings {
    pub access: Access,
    /// This node's name, which an Event says who made it by.
    pub node: Option<Arc<str>>,
    /// How long an answer may take.
    pub call_timeout: Duration,
    /// One Event at most of a pod and a code in this time.
    pub again_after: Duration,
    /// So many of all in `minute`.
    pub most: usize,
    pub minute: Duration,
    /// Wait after a first failure; it doubles with each further one.
    pub backoff: Duration,
}

impl EventsSettings {
    /// With these credentials.
    pub fn new(access: Access, node: Option<Arc<str>>) -> Self {
        Self {
            access,
            node,
            call_timeout: Duration::from_secs(5),
            again_after: Duration::from_secs(3600),
            most: 10,
            minute: Duration::from_secs(60),
            backoff: Duration::from_secs(2),
        }
    }
}

/// Why an Event was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum EventError {
    /// 403.
    #[error(
        "the API server does not let the agent {verb} events of events.k8s.io in namespace \
         {namespace} ({words}): bind its service account to a ClusterRole with the verbs create and \
         patch on events of the API group events.k8s.io, or take --events away"
    )]
    Forbidden {
        verb: &'static str,
        namespace: Arc<str>,
        words: String,
    },
    /// 404 of an Event that was made: Events are kept for an hour or so.
    #[error("the Event is there no more")]
    Gone,
    #[error(transparent)]
    Server(#[from] ClusterError),
}

impl EventError {
    fn of(error: ClusterError, namespace: &Arc<str>) -> Self {
        match error {
            // A namespace that ends takes nothing more, which is no lack of rights.
            ClusterError::Forbidden { call, words } if words.contains("being terminated") => {
                Self::Server(ClusterError::Rejected {
                    call,
                    status: 403,
                    words,
                })
            }
            ClusterError::Forbidden { call, words } => Self::Forbidden {
                verb: call.verb,
                namespace: Arc::clone(namespace),
                words,
            },
            ClusterError::Rejected {
                status: 404, call, ..
            } if call == PATCH => Self::Gone,
            other => Self::Server(other),
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "forbidden",
            Self::Gone => "gone",
            Self::Server(error) => error.reason(),
        }
    }

    const fn cause(&self) -> Cause {
        match self {
            Self::Forbidden { .. } => Cause::PermissionDenied,
            Self::Gone => Cause::NotFound,
            Self::Server(error) => error.cause(),
        }
    }

    /// Whether another try may do.
    const fn may_pass(&self) -> bool {
        match self {
            Self::Forbidden { .. } | Self::Gone => false,
            Self::Server(error) => match error {
                ClusterError::Rejected { status, .. } => *status >= 500 || *status == 429,
                error => !error.is_of_one_call(),
            },
        }
    }
}

/// The running task; it ends when this is dropped.
pub struct EventsHandle {
    queue: mpsc::Sender<PodEvent>,
    health: watch::Sender<SourceHealth>,
    task: AbortHandle,
}

/// Starts to take Events, on the current tokio runtime.
///
/// # Panics
/// Outside a tokio runtime, or on one without timers and I/O.
pub fn start(settings: EventsSettings) -> EventsHandle {
    let (queue, waiting) = mpsc::channel(QUEUE);
    // Until one is made nothing is known to be wrong.
    let (health, _) = watch::channel(health(Reading::Value(()), ""));
    let task = tokio::spawn(run(settings, waiting, health.clone()));
    EventsHandle {
        queue,
        health,
        task: task.abort_handle(),
    }
}

impl EventsHandle {
    /// Has it told, without waiting: where too many wait already it is counted as `queue_full`.
    pub fn tell(&self, event: PodEvent) {
        if self.queue.try_send(event).is_err() {
            count(&self.health, "queue_full");
        }
    }

    /// How that goes: down while the API server refuses Events or does not answer.
    pub fn health(&self) -> SourceHealth {
        self.health.borrow().clone()
    }
}

impl Drop for EventsHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Of a machine that has no API server to make Events at.
pub fn absent(why: &str) -> SourceHealth {
    health(
        Reading::Failed(Cause::NotFound),
        &format!("no Events can be made, as --events asks for: {why}"),
    )
}

fn health(up: Reading<()>, detail: &str) -> SourceHealth {
    SourceHealth {
        source: Source::Events,
        up,
        detail: detail.into(),
        errors: BTreeMap::new(),
        duration: None,
        last_success: None,
    }
}

fn count(health: &watch::Sender<SourceHealth>, reason: &str) {
    health.send_modify(|health| *health.errors.entry(reason.into()).or_insert(0) += 1);
}

async fn run(
    settings: EventsSettings,
    mut waiting: mpsc::Receiver<PodEvent>,
    health: watch::Sender<SourceHealth>,
) {
    let EventsSettings {
        again_after,
        most,
        minute,
        ..
    } = settings;
    let mut writer = Writer {
        settings,
        api: None,
        health,
    };
    let mut book = Book::new(again_after);
    let mut pace = Pace::new(most, minute);
    while let Some(event) = waiting.recv().await {
        if !is_label(&event.namespace) || !is_subdomain(&event.pod) {
            count(&writer.health, "bad_name");
            continue;
        }
        let step = book.begins(&event, Instant::now());
        let mut written = match &step {
            Step::Wait => continue,
            Step::Create => None,
            Step::Again { name, count } => {
                sleep_until(pace.next(Instant::now())).await;
                let patch = object::series(*count, SystemTime::now());
                match writer.patch(&event, name, &patch).await {
                    Err(EventError::Gone) => None,
                    done => Some(done.map(|()| name.clone())),
                }
            }
        };
        if written.is_none() {
            sleep_until(pace.next(Instant::now())).await;
            written = Some(writer.create(&event).await);
        }
        if let Some(Ok(name)) = written {
            book.written(&event, name, Instant::now());
        }
    }
}

/// The connection to the API server.
struct Writer {
    settings: EventsSettings,
    api: Option<Api>,
    health: watch::Sender<SourceHealth>,
}

impl Writer {
    /// Makes an Event; gives its name.
    async fn create(&mut self, event: &PodEvent) -> Result<String, EventError> {
        let node = self.settings.node.clone();
        let now = SystemTime::now();
        let name = object::name(event, now, self.settings.again_after);
        let body = object::event(event, &name, node.as_deref(), now);
        let made = self
            .told(event, CREATE, || {
                let path = path(&event.namespace);
                Request::new(path).create(&PostParams::default(), body.clone())
            })
            .await;
        match made {
            // Made before, in this hour: by the agent before a restart.
            Err(EventError::Server(ClusterError::Rejected { status: 409, .. })) => Ok(name),
            other => other.map(|()| name),
        }
    }

    async fn patch(
        &mut self,
        event: &PodEvent,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), EventError> {
        let patch = Patch::Merge(patch);
        self.told(event, PATCH, || {
            let path = path(&event.namespace);
            Request::new(path).patch(name, &PatchParams::default(), &patch)
        })
        .await
    }

    /// Asks, and again where that may help; health has what came of it.
    async fn told(
        &mut self,
        event: &PodEvent,
        call: Call,
        request: impl Fn() -> Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(), EventError> {
        let mut backoff = self.settings.backoff;
        for tries in 1.. {
            let error = match self.ask(call, request()).await {
                Ok(()) => {
                    self.succeeded();
                    return Ok(());
                }
                Err(error) => EventError::of(error, &event.namespace),
            };
            let was_made = matches!(
                error,
                EventError::Server(ClusterError::Rejected { status: 409, .. })
            );
            if was_made || error == EventError::Gone {
                self.succeeded();
                return Err(error);
            }
            self.failed(&error);
            if tries >= TRIES || !error.may_pass() {
                return Err(error);
            }
            sleep(backoff).await;
            backoff *= 2;
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        call: Call,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<(), ClusterError> {
        let api = match self.api.take() {
            Some(api) => api,
            None => {
                let EventsSettings {
                    access,
                    call_timeout,
                    ..
                } = &self.settings;
                Api::open(access, None, *call_timeout).await?
            }
        };
        let said = async {
            let mut answer = api.send(call, request).await?;
            answer.whole(MAX_OBJECT_BYTES).await
        };
        let said = said.await;
        // Credentials and connection are of no use any more where more than this call failed.
        if said.as_ref().err().is_none_or(ClusterError::is_of_one_call) {
            self.api = Some(api);
        }
        said.map(drop)
    }

    fn succeeded(&self) {
        self.health.send_modify(|health| {
            if health.up.value().is_none() {
                tracing::info!("events: the API server takes Events");
            }
            health.up = Reading::Value(());
            health.detail = "".into();
            health.last_success = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        });
    }

    fn failed(&self, error: &EventError) {
        count(&self.health, error.reason());
        self.health.send_modify(|health| {
            let up = Reading::Failed(error.cause());
            if health.up != up {
                tracing::warn!(reason = error.reason(), "events: {error}");
            }
            health.up = up;
            health.detail = error.to_string().into();
        });
    }
}

fn path(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}
