//! The task that asks the kubelet.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::convert;
use super::error::KubeletError;
use super::proto::pod_resources_lister_client::PodResourcesListerClient;
use super::proto::{AllocatableResourcesRequest, ListPodResourcesRequest};
use super::{KubeletSettings, MAX_ANSWER_BYTES, State};
use crate::model::{Allocations, DeviceRef, Grant, Reading, SourceHealth};

/// After so many periods without an answer the allocatable devices are forgotten.
const ALLOCATABLE_PERIODS_KEPT: u32 = 3;

/// Asks for ever; ends when it is aborted.
pub(super) async fn run(
    settings: Arc<KubeletSettings>,
    state: watch::Sender<State>,
    nudge: Arc<Notify>,
) {
    let mut poller = Poller {
        settings: Arc::clone(&settings),
        connection: None,
        allocatable: BTreeMap::new(),
        allocatable_heard: None,
        allocatable_asked: None,
        allocatable_failing: None,
    };
    let mut backoff = settings.first_backoff;
    loop {
        let round = poller.round(&state).await;
        let wait = match round {
            Ok(()) => {
                backoff = settings.first_backoff;
                settings.period
            }
            Err(_) => {
                let wait = backoff;
                backoff = backoff.saturating_mul(2).min(settings.max_backoff);
                wait
            }
        };
        let done = Instant::now();
        tokio::select! {
            () = sleep(wait) => {}
            () = nudge.notified() => {
                sleep(settings.nudge_period.saturating_sub(done.elapsed())).await;
            }
        }
    }
}

struct Poller {
    settings: Arc<KubeletSettings>,
    connection: Option<Connection>,
    allocatable: BTreeMap<DeviceRef, Grant>,
    allocatable_heard: Option<Instant>,
    /// On this connection; `None`: with the next round.
    allocatable_asked: Option<Instant>,
    /// The reason last logged.
    allocatable_failing: Option<&'static str>,
}

struct Connection {
    client: PodResourcesListerClient<Channel>,
    socket: SocketIdentity,
}

/// Device, inode and change time: a file system may give a new socket the old one's number.
type SocketIdentity = (u64, u64, i64, i64);

fn socket_identity(path: &Path) -> Option<SocketIdentity> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

impl Poller {
    /// One round, with its outcome in `state`.
    async fn round(&mut self, state: &watch::Sender<State>) -> Result<(), KubeletError> {
        let started = Instant::now();
        let (read, allocatable_error) = self.read().await;
        let duration = started.elapsed();
        if read.is_err() {
            self.connection = None;
        }
        if let Some(error) = &allocatable_error {
            self.log_allocatable(error);
        }
        log_change(state.borrow().health.up, &read);
        let (fresh, result) = match read {
            Ok(allocations) => (Some(allocations), Ok(())),
            Err(error) => (None, Err(error)),
        };
        state.send_modify(|State { answer, health }| {
            health.duration = Some(duration);
            if let Some(error) = &allocatable_error {
                count(health, &format!("allocatable_{}", error.reason()));
            }
            match &result {
                Ok(()) => {
                    health.up = Reading::Value(());
                    health.detail = Arc::from("");
                    health.last_success = SystemTime::now().duration_since(UNIX_EPOCH).ok();
                }
                Err(error) => {
                    health.up = Reading::Failed(error.cause());
                    health.detail = error.to_string().into();
                    count(health, error.reason());
                }
            }
            if let Some(fresh) = fresh {
                // The same value stays the same Arc, so that a reader can tell by its address.
                let there = answer.take().map(|(there, _)| there);
                let kept = there.filter(|there| **there == fresh);
                *answer = Some((kept.unwrap_or_else(|| Arc::new(fresh)), Instant::now()));
            }
        });
        result
    }

    /// The answer, and what went wrong with its lesser half.
    async fn read(&mut self) -> (Result<Allocations, KubeletError>, Option<KubeletError>) {
        let mut client = match self.client().await {
            Ok(client) => client,
            Err(error) => return (Err(error), None),
        };
        let mut other = client.clone();
        let settings = &self.settings;
        // Without any device there a plugin may just be about to register.
        let is_due = self.allocatable.is_empty()
            || self
                .allocatable_asked
                .is_none_or(|at| at.elapsed() >= settings.allocatable_period);
        let (list, allocatable) = tokio::join!(
            timed(settings, client.list(ListPodResourcesRequest {})),
            async {
                if !is_due {
                    return None;
                }
                let call = other.get_allocatable_resources(AllocatableResourcesRequest {});
                Some(timed(settings, call).await)
            },
        );
        let list = match list {
            Ok(list) => list,
            Err(error) => return (Err(error), None),
        };
        let now = Instant::now();
        let mut allocatable_error = None;
        if let Some(answer) = allocatable {
            self.allocatable_asked = Some(now);
            match answer {
                Ok(answer) => {
                    self.allocatable = convert::allocatable(&answer, &settings.resources);
                    self.allocatable_heard = Some(now);
                    self.allocatable_failing = None;
                }
                Err(error) => allocatable_error = Some(error),
            }
        }
        let kept_for = settings
            .allocatable_period
            .saturating_mul(ALLOCATABLE_PERIODS_KEPT);
        if self.allocatable_heard.is_some_and(|at| now - at > kept_for) {
            self.allocatable.clear();
        }
        let allocations =
            convert::allocations(&list, self.allocatable.clone(), &settings.resources);
        (Ok(allocations), allocatable_error)
    }

    /// The client of the connection, or of a new one where there is none or the socket at the
    /// path is another than the one it was made to.
    async fn client(&mut self) -> Result<PodResourcesListerClient<Channel>, KubeletError> {
        let path = &self.settings.socket;
        let socket = socket_identity(path);
        if let Some(connection) = &self.connection
            && Some(connection.socket) == socket
        {
            return Ok(connection.client.clone());
        }
        self.connection = None;
        self.allocatable_asked = None;
        let endpoint = Endpoint::from_shared(format!("unix://{}", path.display()))
            .map_err(|error| KubeletError::of_connect(path, &error))?;
        let channel = timeout(self.settings.call_timeout, endpoint.connect())
            .await
            .map_err(|_| timed_out(&self.settings))?
            .map_err(|error| KubeletError::of_connect(path, &error))?;
        let client =
            PodResourcesListerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        self.connection = socket.map(|socket| Connection {
            client: client.clone(),
            socket,
        });
        Ok(client)
    }

    fn log_allocatable(&mut self, error: &KubeletError) {
        if self.allocatable_failing.replace(error.reason()) != Some(error.reason()) {
            tracing::warn!(
                reason = error.reason(),
                "the kubelet does not say what is allocatable, so replicas of a device are not \
                 known: {error}"
            );
        }
    }
}

async fn timed<T>(
    settings: &KubeletSettings,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, KubeletError> {
    match timeout(settings.call_timeout, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(KubeletError::of_call(&settings.socket, &status)),
        Err(_) => Err(timed_out(settings)),
    }
}

fn timed_out(settings: &KubeletSettings) -> KubeletError {
    KubeletError::Timeout {
        socket: settings.socket.clone(),
        after: settings.call_timeout,
    }
}

fn count(health: &mut SourceHealth, reason: &str) {
    match health.errors.get_mut(reason) {
        Some(errors) => *errors += 1,
        None => {
            health.errors.insert(reason.into(), 1);
        }
    }
}

/// One line a change, not one a round.
fn log_change(before: Reading<()>, read: &Result<Allocations, KubeletError>) {
    match read {
        Ok(allocations) if before.value().is_none() => tracing::info!(
            containers = allocations.containers.len(),
            devices = allocations.allocatable.len(),
            "the kubelet answers"
        ),
        Err(error) if before != Reading::Failed(error.cause()) => {
            tracing::warn!(reason = error.reason(), "{error}");
        }
        Ok(_) | Err(_) => {}
    }
}

/// The longest an answer is shown.
pub(super) fn shown_for(settings: &KubeletSettings) -> Duration {
    let two_rounds = settings
        .period
        .saturating_mul(2)
        .saturating_add(settings.call_timeout);
    settings.stale_after.max(two_rounds)
}
