//! The agent's HTTP side: metrics, the snapshot, health and the live page. It reads the latest
//! snapshot from a channel, for the page those before it too, and nothing else: no request touches a
//! device or waits for one.

mod bodies;
mod landing;
mod negotiate;
mod page;
mod serve;
mod web;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::model::{Cause, Reading, Snapshot};

use bodies::{Cache, Kind};

pub use negotiate::{accepts_gzip, format};
pub use page::LivePage;
pub use serve::{serve, serve_pages};
pub use web::{WebConfig, WebError};

/// Requests answered at the same time; more are told to come back.
const MAX_REQUESTS: usize = 16;

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Someone else has the port.
    #[error(
        "cannot listen on {addr}: another program already does; end it, or give the agent another address"
    )]
    InUse { addr: SocketAddr, source: io::Error },
    /// The address is none of this host's.
    #[error(
        "cannot listen on {addr}: this host has no such address; give one it has, or 0.0.0.0 for all"
    )]
    NoSuchAddress { addr: SocketAddr, source: io::Error },
    /// Ports under 1024 need a right.
    #[error(
        "cannot listen on {addr}: permission denied; give a port of 1024 or more, or the agent CAP_NET_BIND_SERVICE"
    )]
    PermissionDenied { addr: SocketAddr, source: io::Error },
    /// Anything else.
    #[error("cannot listen on {addr}; check the address")]
    Other { addr: SocketAddr, source: io::Error },
}

/// Starts to listen on `addr`.
///
/// # Errors
/// [`HttpError`], which names the address and what to do.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => HttpError::InUse { addr, source },
            io::ErrorKind::AddrNotAvailable => HttpError::NoSuchAddress { addr, source },
            io::ErrorKind::PermissionDenied => HttpError::PermissionDenied { addr, source },
            _ => HttpError::Other { addr, source },
        })
}

/// What every request sees.
#[derive(Clone)]
pub struct HttpState {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    alive: Arc<dyn Fn() -> bool + Send + Sync>,
    cache: Arc<Cache>,
    slots: Arc<Semaphore>,
    web: Option<Arc<WebConfig>>,
    page: Option<LivePage>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").finish_non_exhaustive()
    }
}

impl HttpState {
    /// Serves the latest of `snapshots`; `alive` says whether the agent's loop still turns, and
    /// must not depend on a device or source.
    pub fn new(
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        alive: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            snapshots,
            alive: Arc::new(alive),
            cache: Arc::default(),
            slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
            web: None,
            page: None,
        }
    }

    /// Serves as this web configuration asks; without one it is plain HTTP, open to all.
    #[must_use]
    pub fn configured(mut self, web: Option<WebConfig>) -> Self {
        self.web = web.map(Arc::new);
        self
    }

    /// Serves the live page at `/`; without one there are links only. Whoever makes the snapshots
    /// tells the page of each.
    #[must_use]
    pub fn with_page(mut self, page: Option<LivePage>) -> Self {
        self.page = page;
        self
    }

    fn latest(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.borrow().clone()
    }
}

/// All paths.
pub fn router(state: HttpState) -> Router {
    let router = Router::new();
    let router = match &state.page {
        Some(page) => page::routes(router, page),
        None => router.route("/", get(landing_page)),
    };
    let router = router
        .route("/metrics", get(metrics))
        .route("/api/v1/snapshot", get(snapshot))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), limit));
    // Outermost: whoever may not ask takes no place from those who may.
    let router = match &state.web {
        Some(web) => router.layer(middleware::from_fn_with_state(Arc::clone(web), web::guard)),
        None => router,
    };
    router.with_state(state)
}

/// Answers 503 at once where too many requests are being answered. Health has its own door: a
/// crowd of scrapes must not get the agent restarted.
async fn limit(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let _slot = if request.uri().path().starts_with("/-/") {
        None
    } else if let Ok(slot) = state.slots.try_acquire() {
        Some(slot)
    } else {
        let mut busy = plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many requests at the same time: try again in a second.\n",
        );
        let headers = busy.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return busy;
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, kind, text.into()).into_response()
}

const NOT_YET: &str = "Not ready: no snapshot was taken yet.\n";

async fn metrics(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let format = format(headers.get_all(ACCEPT).iter().filter_map(text));
    body(&state, Kind::Metrics(format), &headers).await
}

async fn snapshot(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    body(&state, Kind::Json, &headers).await
}

/// A body of the latest snapshot.
async fn body(state: &HttpState, kind: Kind, headers: &HeaderMap) -> Response {
    match made(state, kind, headers).await {
        Ok((bytes, gzip)) => encoded(kind, gzip, bytes),
        Err(refusal) => refusal,
    }
}

/// Its bytes, made once for all who ask, and whether they are compressed; or the answer instead.
async fn made(
    state: &HttpState,
    kind: Kind,
    headers: &HeaderMap,
) -> Result<(Bytes, bool), Response> {
    let Some(snapshot) = state.latest() else {
        return Err(plain(StatusCode::SERVICE_UNAVAILABLE, NOT_YET));
    };
    let gzip = accepts_gzip(headers.get_all(ACCEPT_ENCODING).iter().filter_map(text));
    let bodies = state.cache.of(&snapshot);
    let made = match bodies.ready(kind, gzip) {
        Some(bytes) => bytes,
        // Milliseconds of work on a large node: not on the thread that serves the others.
        None => {
            let page = state.page.clone();
            let work = move || bodies.make(kind, gzip, &snapshot, page.as_ref());
            tokio::task::spawn_blocking(work)
                .await
                .unwrap_or_else(|error| Err(error.to_string()))
        }
    };
    made.map(|bytes| (bytes, gzip)).map_err(|error| {
        plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The snapshot could not be encoded: {error}\n"),
        )
    })
}

fn encoded(kind: Kind, gzip: bool, bytes: Bytes) -> Response {
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.content_type()));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// A header as text; one that is not is as good as none.
fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

async fn healthy(State(state): State<HttpState>) -> Response {
    if (state.alive)() {
        plain(StatusCode::OK, "The agent's loop is running.\n")
    } else {
        plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "The agent's loop stands still.\n",
        )
    }
}

async fn ready(State(state): State<HttpState>) -> Response {
    let Some(snapshot) = state.latest() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, NOT_YET);
    };
    let waiting: Vec<_> = snapshot
        .sources
        .iter()
        .filter(|health| health.up == Reading::Failed(Cause::NotYet))
        .map(|health| health.source.label())
        .collect();
    if waiting.is_empty() {
        plain(StatusCode::OK, "Ready.\n")
    } else if state.web.is_some() {
        // Health is open to all, and what the node has is not for all.
        plain(StatusCode::SERVICE_UNAVAILABLE, "Not ready.\n")
    } else {
        plain(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("Not ready: not tried yet: {}.\n", waiting.join(", ")),
        )
    }
}

async fn landing_page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            HeaderName::from_static("content-security-policy"),
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    (headers, landing::PAGE).into_response()
}

async fn not_found(uri: Uri) -> Response {
    // The path is the client's own, still percent-encoded, and goes out as plain text.
    plain(
        StatusCode::NOT_FOUND,
        format!("There is nothing at {}; / has links.\n", uri.path()),
    )
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    plain(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} can only be read, not {method}.\n", uri.path()),
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn status(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn too_many_requests_are_told_to_come_back_and_health_is_not() {
        let (_snapshots, receiver) = watch::channel(None);
        let state = HttpState::new(receiver, || true);
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let slots = Arc::clone(&state.slots);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, state, async {
            let _ = stopped.await;
        }));

        let held = slots.acquire_many(MAX_REQUESTS as u32).await.unwrap();
        assert_eq!(status(addr, "/").await, "503");
        assert_eq!(status(addr, "/-/healthy").await, "200");
        drop(held);
        assert_eq!(status(addr, "/").await, "200");
        drop(stop);
        server.await.unwrap();
    }
}
