//! Requests to the API server.
//!
//! kube gives the configuration, credentials and TLS. Its `watcher` is not used: it keeps whole
//! pages as text and logs them when they are not understood (a pod's text has secrets in its
//! environment), and it does not tell when a watch stands again after a failure.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{DATE, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use kube::client::{AuthError, Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde::Deserialize;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

use super::error::{Call, ClusterError};
use super::items::ListMetadata;
use crate::collect::kubelet::words_of;

/// Most bytes of an answer that tells of an error.
const MAX_STATUS_BYTES: usize = 16 << 10;
const AGENT: &str = concat!("slicewatch/", env!("CARGO_PKG_VERSION"));

/// How the API server is found, and with which credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Those that Kubernetes gives every pod.
    ServiceAccount,
    Kubeconfig(PathBuf),
    /// The files that the variable `KUBECONFIG` names.
    KubeconfigVariable,
}

impl Access {
    /// What the environment offers: `KUBECONFIG`, or else the service account of a pod. `None`
    /// outside a cluster.
    pub fn of_environment() -> Option<Self> {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if is_set("KUBECONFIG") {
            Some(Self::KubeconfigVariable)
        } else if is_set("KUBERNETES_SERVICE_HOST") {
            Some(Self::ServiceAccount)
        } else {
            None
        }
    }

    fn refused(&self, words: String) -> ClusterError {
        match self {
            Self::ServiceAccount => ClusterError::NoServiceAccount { words },
            Self::Kubeconfig(path) => ClusterError::Kubeconfig {
                path: path.clone(),
                words,
            },
            Self::KubeconfigVariable => ClusterError::Kubeconfig {
                path: std::env::var_os("KUBECONFIG").unwrap_or_default().into(),
                words,
            },
        }
    }

    /// `context` is one of a kubeconfig; where absent it is the current one.
    async fn config(&self, context: Option<&str>) -> Result<Config, ClusterError> {
        let kubeconfig = match self {
            Self::ServiceAccount if context.is_some() => {
                return Err(self.refused("it is no kubeconfig and has no contexts".to_owned()));
            }
            Self::ServiceAccount => {
                return Config::incluster().map_err(|error| self.refused(words_of(&error)));
            }
            Self::Kubeconfig(path) => Kubeconfig::read_from(path),
            Self::KubeconfigVariable => Kubeconfig::from_env().map(Option::unwrap_or_default),
        };
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let mut contexts = String::new();
        let config = match kubeconfig {
            Ok(kubeconfig) => {
                contexts = names_of_contexts(&kubeconfig);
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            Err(error) => Err(error),
        };
        let config = config.map_err(|error| {
            self.refused(match &error {
                // Its words show the lines around, which may hold a token.
                KubeconfigError::Parse(_) => "it is not YAML of a kubeconfig".to_owned(),
                KubeconfigError::LoadContext(name) => {
                    format!("it has no context {name:?}, but {contexts}")
                }
                KubeconfigError::CurrentContextNotSet => {
                    format!("it has no current-context, but {contexts}")
                }
                error => words_of(error),
            })
        })?;
        if config.proxy_url.is_some() {
            return Err(self.refused(
                "its proxy-url, or HTTPS_PROXY in the environment, asks for a proxy, which is not \
                 supported"
                    .to_owned(),
            ));
        }
        Ok(config)
    }
}

/// The contexts that one may choose from, a few of them.
fn names_of_contexts(kubeconfig: &Kubeconfig) -> String {
    const MOST: usize = 8;
    let contexts = &kubeconfig.contexts;
    let names: Vec<_> = contexts.iter().take(MOST).map(|it| &it.name).collect();
    match contexts.len() {
        0 => "no context at all".to_owned(),
        count if count > MOST => format!("{names:?} and {} more", count - MOST),
        _ => format!("{names:?}"),
    }
}

/// One set of credentials and connections.
pub(in crate::collect) struct Api {
    client: Client,
    pub(in crate::collect) server: String,
    timeout: Duration,
}

impl Api {
    /// Reads configuration and credentials anew; connects with the first request.
    pub(in crate::collect) async fn open(
        access: &Access,
        context: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, ClusterError> {
        let mut config = access.config(context).await?;
        let server = config.cluster_url.to_string();
        config
            .headers
            .push((USER_AGENT, HeaderValue::from_static(AGENT)));
        // A kubeconfig may have a program run for its token.
        let client = tokio::task::spawn_blocking(move || client(&config)).await;
        let client = match client {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(access.refused(credential_words(&error))),
            Err(error) => return Err(access.refused(error.to_string())),
        };
        Ok(Self {
            client,
            server,
            timeout,
        })
    }

    /// The answer to a request, its head within the time allowed for a call.
    pub(in crate::collect) async fn send(
        &self,
        call: Call,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Answer<'_>, ClusterError> {
        let malformed = |words: String| ClusterError::Malformed {
            server: self.server.clone(),
            call,
            words,
        };
        let request = request.map_err(|error| malformed(error.to_string()))?;
        let response = self
            .timed(self.timeout, self.client.send(request.map(Body::from)))
            .await?
            .map_err(|error| ClusterError::of_transport(&self.server, &error))?;
        let status = response.status();
        let date = response.headers().get(DATE);
        let mut answer = Answer {
            api: self,
            date: date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok()),
            body: Response::into_body(response),
        };
        if status.is_success() {
            return Ok(answer);
        }
        // The server's own words, where it has some.
        let body = answer.whole(MAX_STATUS_BYTES).await.unwrap_or_default();
        let said: StatusObject = serde_json::from_slice(&body).unwrap_or_default();
        if status.as_u16() == 410 {
            let token = said.metadata.and_then(|metadata| metadata.token);
            return Err(ClusterError::Expired { call, token });
        }
        let words = said
            .message
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no words").to_owned());
        Err(ClusterError::of_status(
            &self.server,
            call,
            status.as_u16(),
            &words,
        ))
    }

    pub(in crate::collect) async fn timed<T>(
        &self,
        after: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, ClusterError> {
        timeout(after, call)
            .await
            .map_err(|_| ClusterError::Timeout {
                server: self.server.clone(),
                after,
            })
    }
}

/// kube's own stack, without its retries and its log lines a request.
fn client(config: &Config) -> kube::Result<Client> {
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_max_idle_per_host(1)
        .build::<_, Body>(config.rustls_https_connector()?);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// In words that never hold what a credential program wrote.
fn credential_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, .. }) => {
            format!("the credential program {cmd} failed")
        }
        kube::Error::Auth(AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_)) => {
            "the credential program's answer is not understood".to_owned()
        }
        kube::Error::Auth(AuthError::ReadTokenFile(error, path)) => {
            format!("token file {}: {error}", path.display())
        }
        error => words_of(error),
    }
}

/// A `Status` object: what the server says of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StatusObject {
    pub(super) code: Option<u16>,
    pub(super) message: Option<String>,
    metadata: Option<ListMetadata>,
}

/// An answer whose body is still to come.
pub(in crate::collect) struct Answer<'api> {
    api: &'api Api,
    /// By the server's clock, where it says.
    pub(in crate::collect) date: Option<SystemTime>,
    body: Body,
}

impl Answer<'_> {
    /// The next bytes, `None` at the end. May be dropped while it waits.
    pub(in crate::collect) async fn next(&mut self) -> Result<Option<Bytes>, ClusterError> {
        while let Some(frame) = self.body.frame().await {
            let frame =
                frame.map_err(|error| ClusterError::of_transport(&self.api.server, &error))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// All of it, in the time allowed for a call.
    pub(in crate::collect) async fn whole(
        &mut self,
        limit: usize,
    ) -> Result<Vec<u8>, ClusterError> {
        let api = self.api;
        api.timed(api.timeout, async {
            let mut whole = Vec::new();
            while let Some(bytes) = self.next().await? {
                if whole.len() + bytes.len() > limit {
                    return Err(ClusterError::TooLarge);
                }
                whole.extend_from_slice(&bytes);
            }
            Ok(whole)
        })
        .await?
    }
}

/// The lines of an answer.
pub(super) struct Lines<'api> {
    answer: Answer<'api>,
    buffer: Vec<u8>,
    limit: usize,
}

impl<'api> Lines<'api> {
    pub(super) fn new(answer: Answer<'api>, limit: usize) -> Self {
        Self {
            answer,
            buffer: Vec::new(),
            limit,
        }
    }

    /// The next line, `None` at the end; what stands there without an end is dropped. May be
    /// dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, ClusterError> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(seen + at + 1);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            seen = self.buffer.len();
            if seen > self.limit {
                return Err(ClusterError::TooLarge);
            }
            match self.answer.next().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}
