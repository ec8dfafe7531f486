//! Lists in pages, and single objects.

use std::time::{Duration, SystemTime};

use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use tokio::time::sleep;

use super::error::SetupError;
use super::shape::Shape;
use crate::collect::cluster::{Api, Call, ClusterError, Items, ListObject, MAX_OBJECT_BYTES};
use crate::model::setup::{Asked, Failed, Refused};

/// How often a list is begun anew because its next page is forgotten (410).
const MAX_RESTARTS: u32 = 3;
/// How often one page is asked for where the failure may pass.
const MAX_TRIES: u32 = 3;
/// The wait before the second try; before the third it is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A kind of objects.
pub(super) struct Kind {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    /// Objects in a page.
    page: u32,
}

impl Kind {
    pub(super) const POLICIES: Self = Self::new("nvidia.com", "v1", "clusterpolicies");
    pub(super) const DAEMON_SETS: Self = Self::new("apps", "v1", "daemonsets");
    pub(super) const DEPLOYMENTS: Self = Self::new("apps", "v1", "deployments");
    pub(super) const RUNTIME_CLASSES: Self = Self::new("node.k8s.io", "v1", "runtimeclasses");
    pub(super) const NODES: Self = Self::new("", "v1", "nodes");
    pub(super) const PODS: Self = Self::new("", "v1", "pods");
    /// Each may be of 1 MiB.
    pub(super) const CONFIG_MAPS: Self = Self {
        page: 50,
        ..Self::new("", "v1", "configmaps")
    };

    const fn new(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self {
            group,
            version,
            resource,
            page: 500,
        }
    }

    const fn call(&self, verb: &'static str) -> Call {
        Call {
            verb,
            resource: self.resource,
        }
    }

    fn path(&self, namespace: Option<&str>) -> String {
        let Self {
            group,
            version,
            resource,
            ..
        } = self;
        let base = match *group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match namespace {
            Some(namespace) => format!("{base}/namespaces/{namespace}/{resource}"),
            None => format!("{base}/{resource}"),
        }
    }
}

/// Which objects of a kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s> {
    /// All of them where absent.
    pub(super) namespace: Option<&'s str>,
    /// A selector; empty for none.
    pub(super) labels: &'s str,
    /// The same.
    pub(super) fields: &'s str,
}

impl<'s> Scope<'s> {
    pub(super) const ALL: Self = Self::of(None);

    pub(super) const fn of(namespace: Option<&'s str>) -> Self {
        Self {
            namespace,
            labels: "",
            fields: "",
        }
    }
}

/// Asks, and knows when asking is of no use any more.
pub(super) struct Lister {
    api: Api,
    timeout: Duration,
    /// Why the server is asked no more.
    gone: Option<String>,
    /// By the server's clock, when it last answered a list.
    date: Option<SystemTime>,
}

impl Lister {
    pub(super) const fn new(api: Api, timeout: Duration) -> Self {
        Self {
            api,
            timeout,
            gone: None,
            date: None,
        }
    }

    pub(super) fn server(&self) -> &str {
        &self.api.server
    }

    /// When the server last answered a list, by its own clock.
    pub(super) const fn date(&self) -> Option<SystemTime> {
        self.date
    }

    /// What is taken of a list's objects.
    pub(super) async fn all<T: Shape, U>(
        &mut self,
        kind: &Kind,
        scope: Scope<'_>,
        mut take: impl FnMut(T) -> Option<U>,
    ) -> Asked<Vec<U>> {
        let mut taken = Vec::new();
        let asked = self
            .each(kind, scope, |object| taken.extend(take(object)))
            .await;
        asked.map(|()| taken)
    }

    /// Gives a list's objects, each once.
    pub(super) async fn each<T: Shape>(
        &mut self,
        kind: &Kind,
        scope: Scope<'_>,
        take: impl FnMut(T),
    ) -> Asked<()> {
        if let Some(words) = self.gone.clone() {
            return failed(kind, scope.namespace, words);
        }
        match self.pages(kind, scope, take).await {
            Ok(()) => Asked::Read(()),
            Err(error) => self.failure(kind.call("list"), kind, scope.namespace, error),
        }
    }

    /// One object of a kind without namespaces.
    pub(super) async fn get<T: Shape>(&mut self, kind: &Kind, name: &str) -> Asked<T> {
        if let Some(words) = self.gone.clone() {
            return failed(kind, None, words);
        }
        let call = kind.call("get");
        let read = async {
            let request = Request::new(kind.path(None)).get(name, &GetParams::default());
            let mut answer = self.api.send(call, request).await?;
            let body = answer.whole(MAX_OBJECT_BYTES).await?;
            serde_json::from_slice(&body)
                .map_err(|error| ClusterError::of_json(&self.api.server, call, &error))
        };
        match read.await {
            Ok(object) => Asked::Read(object),
            Err(ClusterError::Rejected { status: 404, .. }) => {
                let name = name.to_owned();
                failed(kind, None, SetupError::NodeUnknown { name }.to_string())
            }
            Err(error) => self.failure(call, kind, None, error),
        }
    }

    /// A list is one state of the cluster, whose pages the server forgets after some minutes. It then
    /// says how to go on with a newer state; where it does not, the list is begun anew, and goes on
    /// after the last key that was given: lists are in the order of their keys.
    async fn pages<T: Shape>(
        &mut self,
        kind: &Kind,
        scope: Scope<'_>,
        mut take: impl FnMut(T),
    ) -> Result<(), ClusterError> {
        let call = kind.call("list");
        let path = kind.path(scope.namespace);
        let fresh = ListParams {
            label_selector: Some(scope.labels.to_owned()).filter(|text| !text.is_empty()),
            field_selector: Some(scope.fields.to_owned()).filter(|text| !text.is_empty()),
            limit: Some(kind.page),
            ..ListParams::default()
        };
        let mut params = fresh.clone();
        let mut given: Option<String> = None;
        let (mut restarts, mut tries) = (0, 0);
        // Whether a page was read since the server last forgot one.
        let mut is_new = false;
        loop {
            let page = self.page(call, &path, &params, |object: T| {
                let key = match object.key() {
                    (Some(namespace), name) => format!("{namespace}/{name}"),
                    (None, name) => name.to_owned(),
                };
                if given.as_ref().is_none_or(|given| key > *given) {
                    given = Some(key);
                    take(object);
                }
            });
            let page = self.api.timed(self.timeout, page).await;
            let token = page.and_then(|page| page).map(|page| {
                self.date = page.date.or(self.date);
                page.token
            });
            match token {
                Ok(None) => return Ok(()),
                Ok(token) if token == params.continue_token => {
                    return Err(ClusterError::Malformed {
                        server: self.api.server.clone(),
                        call,
                        words: "a page that goes on with itself".to_owned(),
                    });
                }
                Ok(token) => {
                    params.continue_token = token;
                    (tries, is_new) = (0, true);
                }
                Err(ClusterError::Expired { token, .. }) if token.is_some() && is_new => {
                    params.continue_token = token;
                    is_new = false;
                }
                Err(ClusterError::Expired { .. }) if restarts < MAX_RESTARTS => {
                    restarts += 1;
                    params = fresh.clone();
                }
                Err(error) if may_pass(&error) && tries + 1 < MAX_TRIES => {
                    sleep(FIRST_WAIT * 2_u32.pow(tries)).await;
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads a page.
    async fn page<T: Shape>(
        &self,
        call: Call,
        path: &str,
        params: &ListParams,
        mut take: impl FnMut(T),
    ) -> Result<Page, ClusterError> {
        let malformed =
            |error: &serde_json::Error| ClusterError::of_json(&self.api.server, call, error);
        let request = Request::new(path).list(params);
        let mut answer = self.api.send(call, request).await?;
        let date = answer.date;
        let mut items = Items::new(MAX_OBJECT_BYTES);
        while let Some(bytes) = answer.next().await? {
            items.push(&bytes, |item| {
                take(serde_json::from_slice(item).map_err(|error| malformed(&error))?);
                Ok::<(), ClusterError>(())
            })?;
        }
        let list: ListObject =
            serde_json::from_slice(items.rest()).map_err(|error| malformed(&error))?;
        Ok(Page {
            date,
            token: list.metadata.token.filter(|token| !token.is_empty()),
        })
    }

    fn failure<T>(
        &mut self,
        call: Call,
        kind: &Kind,
        namespace: Option<&str>,
        error: ClusterError,
    ) -> Asked<T> {
        match error {
            ClusterError::Forbidden { words, .. } => Asked::Refused(Refused {
                verb: call.verb.to_owned(),
                group: kind.group.to_owned(),
                resource: kind.resource.to_owned(),
                namespace: namespace.map(str::to_owned),
                words,
            }),
            ClusterError::Rejected { status: 404, .. } if kind.group == "nvidia.com" => {
                Asked::Absent
            }
            error => {
                let ends_all = !error.is_of_one_call();
                let words = SetupError::of(error, self.timeout).to_string();
                if ends_all {
                    self.gone = Some(words.clone());
                }
                failed(kind, namespace, words)
            }
        }
    }
}

/// A page whose objects were given.
struct Page {
    /// By the server's clock.
    date: Option<SystemTime>,
    /// Of the next one.
    token: Option<String>,
}

/// Whether the same question may have an answer a moment later.
const fn may_pass(error: &ClusterError) -> bool {
    matches!(
        error,
        ClusterError::Lost { .. }
            | ClusterError::Rejected {
                status: 429 | 500..=599,
                ..
            }
    )
}

fn failed<T>(kind: &Kind, namespace: Option<&str>, words: String) -> Asked<T> {
    Asked::Failed(Failed {
        group: kind.group.to_owned(),
        resource: kind.resource.to_owned(),
        namespace: namespace.map(str::to_owned),
        words,
    })
}
