//! The task that follows the API server.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use kube::core::Request;
use kube::core::params::{GetParams, ListParams, WatchParams};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::api::{Api, Lines, StatusObject};
use super::error::{Call, ClusterError};
use super::index::PodIndex;
use super::items::{Items, ListObject};
use super::node::NodeObject;
use super::pod::{Pod, PodObject};
use super::tell::Teller;
use super::{ClusterSettings, MAX_OBJECT_BYTES, State};
use crate::collect::clock::Clock;
use crate::collect::host::is_subdomain;

const PODS: &str = "/api/v1/pods";
const NODES: &str = "/api/v1/nodes";
/// After a watch that ended sooner, the next one waits as long.
const SHORTEST_WATCH: Duration = Duration::from_secs(1);
/// The server is asked to end a watch after 290 s; one that goes on is of a dead connection.
const LONGEST_WATCH: Duration = Duration::from_secs(330);

/// Follows for ever; ends when it is aborted, or at once where the node's name is not known: the
/// pods of all nodes are none of the agent's business.
pub(super) async fn run(settings: ClusterSettings, state: watch::Sender<State>) {
    let mut teller = Teller::new(state);
    let node = match &settings.node {
        Some(node) if is_subdomain(node) => Arc::clone(node),
        Some(node) => {
            return teller.pods_failed(ClusterError::NodeNameInvalid { node: node.clone() });
        }
        None => return teller.pods_failed(ClusterError::NodeNameMissing),
    };
    let mut follower = Follower {
        node,
        teller,
        clock: Clock::new(),
        index: PodIndex::new(),
        refused: 0,
        resume: None,
        settings,
    };
    let mut backoff = follower.settings.first_backoff;
    loop {
        let began = Instant::now();
        let Err(error) = follower.session().await;
        if error.is_of_one_call() {
            // An event that is not understood would come again; a list is behind it.
            follower.resume = None;
        }
        follower.teller.pods_failed(error);
        if began.elapsed() > follower.settings.max_backoff {
            backoff = follower.settings.first_backoff;
        }
        sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(follower.settings.max_backoff);
    }
}

struct Follower {
    settings: ClusterSettings,
    node: Arc<str>,
    teller: Teller,
    clock: Clock,
    index: PodIndex,
    /// By the index, as last told.
    refused: u64,
    /// Where the watch goes on; `None`: the pods must be listed.
    resume: Option<String>,
}

/// How a watch ended without a failure.
enum Ended {
    /// The server ends one every few minutes.
    InTime,
    /// The version it went on from is too old.
    Expired,
}

impl Follower {
    /// One set of credentials and connections, until something fails.
    async fn session(&mut self) -> Result<Infallible, ClusterError> {
        let api = Api::open(&self.settings.access, None, self.settings.call_timeout).await?;
        self.read_node(&api).await?;
        loop {
            let version = self.resume.take();
            let is_fresh = version.is_none();
            let version = match version {
                Some(version) => version,
                None => self.list(&api).await?,
            };
            self.resume = Some(version.clone());
            let began = Instant::now();
            match self.watch(&api, &version).await? {
                Ended::InTime if began.elapsed() < SHORTEST_WATCH => sleep(SHORTEST_WATCH).await,
                Ended::InTime => {}
                Ended::Expired => {
                    self.resume = None;
                    if is_fresh && began.elapsed() < SHORTEST_WATCH {
                        return Err(ClusterError::Expired {
                            call: Call::WATCH,
                            token: None,
                        });
                    }
                }
            }
        }
    }

    /// Reads the node. What concerns the node alone does not end the session.
    async fn read_node(&mut self, api: &Api) -> Result<(), ClusterError> {
        let facts = async {
            let request = Request::new(NODES).get(&self.node, &GetParams::default());
            let body = api
                .send(Call::NODE, request)
                .await?
                .whole(MAX_OBJECT_BYTES)
                .await?;
            let node: NodeObject = serde_json::from_slice(&body)
                .map_err(|error| ClusterError::of_json(&api.server, Call::NODE, &error))?;
            Ok(node.facts(&self.settings.resources))
        };
        match facts.await {
            Ok(facts) => self.teller.node(facts),
            Err(ClusterError::Rejected { status: 404, .. }) => {
                self.teller.node_failed(ClusterError::NodeUnknown {
                    node: Arc::clone(&self.node),
                });
            }
            Err(error) if error.is_of_one_call() => self.teller.node_failed(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Lists the pods; gives the version to watch from.
    async fn list(&mut self, api: &Api) -> Result<String, ClusterError> {
        let began = Instant::now();
        let limit = self.settings.list_timeout;
        let version = api.timed(limit, self.read_list(api)).await??;
        self.index.reset(self.clock.now());
        self.teller.listed(began.elapsed(), self.index.len());
        self.tell_names();
        Ok(version)
    }

    async fn read_list(&mut self, api: &Api) -> Result<String, ClusterError> {
        // Version 0 is whatever the API server has in its cache, by node: any other list of one
        // node's pods is one of the whole cluster's to etcd. The list goes in pages only where the
        // server wants it to; taken apart as it comes, it needs none.
        let mut params = ListParams::default().fields(&self.selector()).match_any();
        self.index.begin();
        loop {
            let malformed =
                |error: &serde_json::Error| ClusterError::of_json(&api.server, Call::LIST, error);
            let mut answer = api
                .send(Call::LIST, Request::new(PODS).list(&params))
                .await?;
            let mut items = Items::new(MAX_OBJECT_BYTES);
            while let Some(bytes) = answer.next().await? {
                let now = self.clock.now();
                items.push(&bytes, |item| {
                    let object: PodObject =
                        serde_json::from_slice(item).map_err(|e| malformed(&e))?;
                    if let Some(pod) = Pod::of(&object) {
                        self.index.apply(pod, now);
                    }
                    Ok::<(), ClusterError>(())
                })?;
            }
            let list: ListObject =
                serde_json::from_slice(items.rest()).map_err(|e| malformed(&e))?;
            match (list.metadata.token, list.metadata.resource_version) {
                (Some(token), _) if !token.is_empty() => params.continue_token = Some(token),
                (_, Some(version)) if !version.is_empty() => return Ok(version),
                _ => {
                    return Err(ClusterError::Malformed {
                        server: api.server.clone(),
                        call: Call::LIST,
                        words: "a list without a resourceVersion".to_owned(),
                    });
                }
            }
        }
    }

    /// Takes in changes until the watch ends.
    async fn watch(&mut self, api: &Api, version: &str) -> Result<Ended, ClusterError> {
        let params = WatchParams::default().fields(&self.selector());
        let request = Request::new(PODS).watch(&params, version);
        let answer = match api.send(Call::WATCH, request).await {
            Err(ClusterError::Expired { .. }) => return Ok(Ended::Expired),
            answer => answer?,
        };
        self.teller.followed();
        let mut lines = Lines::new(answer, MAX_OBJECT_BYTES);
        let dead = Instant::now() + LONGEST_WATCH;
        let mut node_due = Instant::now() + jittered(self.settings.node_period);
        loop {
            tokio::select! {
                line = lines.next() => match line? {
                    None => return Ok(Ended::InTime),
                    Some(line) => match self.event(api, &line) {
                        Err(ClusterError::Expired { .. }) => return Ok(Ended::Expired),
                        other => other?,
                    },
                },
                () = sleep_until(node_due) => {
                    node_due = Instant::now() + jittered(self.settings.node_period);
                    self.index.expire(self.clock.now());
                    self.tell_names();
                    self.read_node(api).await?;
                }
                () = sleep_until(dead) => return Ok(Ended::InTime),
            }
        }
    }

    /// Takes in one line of a watch.
    fn event(&mut self, api: &Api, line: &[u8]) -> Result<(), ClusterError> {
        let malformed =
            |error: serde_json::Error| ClusterError::of_json(&api.server, Call::WATCH, &error);
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let kind: EventKind<'_> = serde_json::from_slice(line).map_err(malformed)?;
        if kind.word == "ERROR" {
            let Event { object }: Event<StatusObject> =
                serde_json::from_slice(line).map_err(malformed)?;
            let words = object.message.unwrap_or_default();
            let code = object.code.unwrap_or(500);
            return Err(ClusterError::of_status(
                &api.server,
                Call::WATCH,
                code,
                &words,
            ));
        }
        let Event { object }: Event<PodObject> = serde_json::from_slice(line).map_err(malformed)?;
        if let Some(version) = object.resource_version() {
            self.resume = Some(version.to_owned());
        }
        // A bookmark is a version and no pod.
        if let Some(pod) = Pod::of(&object) {
            let now = self.clock.now();
            let uid = pod.uid.clone();
            // The last words on a deleted pod may have ids that were not heard of.
            self.index.apply(pod, now);
            if kind.word == "DELETED" {
                self.index.delete(&uid, now);
            }
        }
        self.tell_names();
        Ok(())
    }

    fn tell_names(&mut self) {
        let refused = self.index.refused();
        if refused > self.refused {
            self.teller.refused(refused - self.refused);
            self.refused = refused;
        }
        self.teller.names(self.index.names());
    }

    fn selector(&self) -> String {
        format!("spec.nodeName={}", self.node)
    }
}

#[derive(Debug, Deserialize)]
struct EventKind<'line> {
    #[serde(rename = "type", borrow)]
    word: Cow<'line, str>,
}

#[derive(Debug, Deserialize)]
struct Event<T> {
    object: T,
}

/// A quarter more or less, so that the agents of a cluster do not come all at once.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) as f64 / u64::MAX as f64;
    wait.mul_f64(0.75 + random / 2.0)
}
