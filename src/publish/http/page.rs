//! The live page over HTTP: the page itself, made once a snapshot for all who look; what it loads;
//! and the stream that says when there is a new one.
//!
//! **Bounds.** [`MAX_STREAMS`] streams and [`MAX_BODIES`] pages on their way are there at a time, and
//! whoever comes after is told so at once. A stream holds no text: what is to be said is made when the
//! connection takes it, so that one who does not read holds nothing back. All streams speak at the
//! same snapshots, so that all pages ask for the same one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT_ENCODING, AGE, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant as TokioInstant, timeout_at};

use super::bodies::Kind;
use super::{HttpState, accepts_gzip, encoded, made, plain, text};
use crate::model::Snapshot;
use crate::publish::history::History;
use crate::publish::metrics::gzip;
use crate::publish::web;

/// Streams open at the same time.
const MAX_STREAMS: usize = 16;
/// Pages that are being sent at the same time.
const MAX_BODIES: usize = 16;
/// From one word of a stream to the next, by the clock of snapshots.
const BEAT: Duration = Duration::from_secs(3);
/// A stream says at least so often that it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// A stream ends itself before its connection is ended, and the page opens the next one.
const STREAM_AGE: Duration = Duration::from_secs(240);

const CROWD: &str = "Too many pages are being sent at the same time: try again in 5 seconds.\n";

/// What the page may load: nothing but its own parts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The live page and the history that it shows. Clones are the same one.
#[derive(Debug, Clone)]
pub struct LivePage {
    history: Arc<Mutex<History>>,
    began: Instant,
    /// Milliseconds from `began` to the newest snapshot.
    arrived: Arc<AtomicU64>,
    streams: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl Default for LivePage {
    fn default() -> Self {
        Self::new()
    }
}

impl LivePage {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self {
            history: Arc::default(),
            began: Instant::now(),
            arrived: Arc::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            bodies: Arc::new(Semaphore::new(MAX_BODIES)),
        }
    }

    /// Takes a snapshot into the history. It never waits: while a page is being made, the next
    /// snapshot makes the point.
    pub fn observe(&self, snapshot: &Snapshot) {
        let now = self.began.elapsed().as_millis() as u64;
        self.arrived.store(now, Ordering::Relaxed);
        match self.history.try_lock() {
            Ok(mut history) => history.observe(snapshot),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().observe(snapshot),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// The page of a snapshot.
    pub(super) fn render(&self, snapshot: &Snapshot) -> Bytes {
        let history = match self.history.lock() {
            Ok(history) => history,
            Err(poisoned) => poisoned.into_inner(),
        };
        web::page(Some(snapshot), &history).into()
    }

    /// The page of one pod.
    fn render_pod(&self, snapshot: &Snapshot, id: &str) -> Option<String> {
        let history = match self.history.lock() {
            Ok(history) => history,
            Err(poisoned) => poisoned.into_inner(),
        };
        web::pod(snapshot, &history, id)
    }

    /// How old the newest snapshot is.
    fn age(&self) -> Duration {
        let arrived = Duration::from_millis(self.arrived.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(arrived)
    }
}

/// The page's paths.
pub(super) fn routes(router: Router<HttpState>, page: &LivePage) -> Router<HttpState> {
    let [shown, chosen, live] = [(); 3].map(|()| page.clone());
    router
        .route(
            "/",
            get(move |state, headers| show(shown.clone(), state, headers)),
        )
        .route(
            "/pod",
            get(move |state, query| show_pod(chosen.clone(), state, query)),
        )
        .route("/live", get(move |state| stream(live.clone(), state)))
        .route("/page.css", get(|headers| asset(&STYLE, headers)))
        .route("/page.js", get(|headers| asset(&SCRIPT, headers)))
        .route("/icon.svg", get(|headers| asset(&ICON, headers)))
}

async fn show(page: LivePage, State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&page.bodies).try_acquire_owned() else {
        return busy(CROWD);
    };
    let response = if state.latest().is_some() {
        match made(&state, Kind::Page, &headers).await {
            Ok((bytes, gzip)) => encoded(Kind::Page, gzip, held(bytes, place)),
            Err(refusal) => refusal,
        }
    } else {
        let empty = web::page(None, &History::new());
        encoded(Kind::Page, false, held(empty.into(), place))
    };
    dressed(&page, response)
}

/// Which pod.
#[derive(Debug, serde::Deserialize)]
struct Chosen {
    id: String,
}

async fn show_pod(
    page: LivePage,
    State(state): State<HttpState>,
    Query(Chosen { id }): Query<Chosen>,
) -> Response {
    let Ok(place) = Arc::clone(&page.bodies).try_acquire_owned() else {
        return busy(CROWD);
    };
    let made = match state.latest() {
        None => None,
        Some(snapshot) => {
            let page = page.clone();
            let work = move || page.render_pod(&snapshot, &id);
            tokio::task::spawn_blocking(work).await.ok().flatten()
        }
    };
    let response = match made {
        Some(text) => encoded(Kind::Page, false, held(text.into(), place)),
        None => plain(
            StatusCode::NOT_FOUND,
            "No such pod is on this node's GPUs.\n",
        ),
    };
    dressed(&page, response)
}

/// The response with what a browser must know of it.
fn dressed(page: &LivePage, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(AGE, HeaderValue::from(page.age().as_secs()));
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// The bytes, which have their place until they are sent or given up: a client that does not read
/// holds one of few places, and not memory without end.
fn held(bytes: Bytes, place: OwnedSemaphorePermit) -> Bytes {
    struct Held {
        bytes: Bytes,
        _place: OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Held {
        bytes,
        _place: place,
    })
}

fn busy(words: &'static str) -> Response {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, words);
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Something that the page loads, compressed once.
struct Asset {
    content_type: &'static str,
    plain: &'static str,
    gzip: OnceLock<Bytes>,
}

impl Asset {
    const fn new(content_type: &'static str, plain: &'static str) -> Self {
        Self {
            content_type,
            plain,
            gzip: OnceLock::new(),
        }
    }
}

static STYLE: Asset = Asset::new("text/css; charset=utf-8", web::STYLE);
static SCRIPT: Asset = Asset::new("text/javascript; charset=utf-8", web::SCRIPT);
static ICON: Asset = Asset::new("image/svg+xml", web::ICON);

async fn asset(asset: &'static Asset, headers: HeaderMap) -> Response {
    let kind = [
        (CONTENT_TYPE, asset.content_type),
        (VARY, ACCEPT_ENCODING.as_str()),
    ];
    if !accepts_gzip(headers.get_all(ACCEPT_ENCODING).iter().filter_map(text)) {
        return (kind, asset.plain).into_response();
    }
    let bytes = asset
        .gzip
        .get_or_init(|| gzip(asset.plain.as_bytes()).into());
    (kind, [(CONTENT_ENCODING, "gzip")], bytes.clone()).into_response()
}

/// One open stream.
struct Listener {
    page: LivePage,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The beat of the last word; `None` before the first.
    told: Option<u64>,
    ends: TokioInstant,
    _place: OwnedSemaphorePermit,
}

async fn stream(page: LivePage, State(state): State<HttpState>) -> Response {
    let Ok(place) = Arc::clone(&page.streams).try_acquire_owned() else {
        return busy("Too many pages are open: this one is told nothing by itself, but can ask.\n");
    };
    let listener = Listener {
        snapshots: state.snapshots.clone(),
        page,
        told: None,
        ends: TokioInstant::now() + STREAM_AGE,
        _place: place,
    };
    let words = unfold(listener, |mut listener| async move {
        let word = listener.next().await?;
        Some((Ok::<_, Infallible>(word), listener))
    });
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        // A proxy that gathers a stream would keep it from being live.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(words)).into_response()
}

impl Listener {
    /// The next word: that there is another snapshot to show, or that there is none. Ends with the
    /// agent, and after a while.
    async fn next(&mut self) -> Option<String> {
        if self.told.is_none() {
            self.told = Some(self.beat());
            return Some(format!("retry: 2000\n{}", self.word("snapshot")));
        }
        let silent = (TokioInstant::now() + SIGN_OF_LIFE).min(self.ends);
        loop {
            match timeout_at(silent, self.snapshots.changed()).await {
                Ok(Ok(())) => {
                    self.snapshots.borrow_and_update();
                    let beat = self.beat();
                    if self.told != Some(beat) {
                        self.told = Some(beat);
                        return Some(self.word("snapshot"));
                    }
                }
                Ok(Err(_)) => return None,
                Err(_) if TokioInstant::now() >= self.ends => return None,
                Err(_) => return Some(self.word("still")),
            }
        }
    }

    /// Which beat the newest snapshot is in.
    fn beat(&self) -> u64 {
        let snapshot = self.snapshots.borrow();
        let at = snapshot.as_ref().map(|snapshot| snapshot.at.monotonic);
        at.map_or(u64::MAX, |at| at.as_secs() / BEAT.as_secs())
    }

    fn word(&self, event: &str) -> String {
        let age = self.page.age().as_secs_f32();
        format!("event: {event}\ndata: {age:.1}\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_has_its_place_until_its_last_byte_is_let_go() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let bytes = held(Bytes::from_static(b"<html>"), place);
        let rest = bytes.slice(2..);
        drop(bytes);
        assert_eq!(places.available_permits(), 0);
        assert_eq!(&*rest, b"tml>");
        drop(rest);
        assert_eq!(places.available_permits(), 1);
    }
}
