//! The accept loop: axum's own has no limits of time, size or number.

use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::{HttpState, WebConfig, router};

/// Connections open at the same time; more are answered 503 and closed.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's line and headers.
const MAX_HEAD: usize = 16 << 10;
/// A request must have come whole, and an idle connection been used, within this.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// A TLS handshake must have been made within this; it happens in one of the connections' places.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// A connection is closed between two requests after this, and cut one grace later: a client
/// that never reads cannot keep an old body for ever.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Answers in flight get this long when the agent ends.
const GRACE: Duration = Duration::from_millis(900);
/// Between two tries to accept where the host has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\nToo many connections\n";

/// Serves the agent's pages on `listener` until `shutdown` completes; then takes no more
/// connections, lets answers in flight finish, and returns within a second.
pub async fn serve(listener: TcpListener, state: HttpState, shutdown: impl Future<Output = ()>) {
    let web = state.web.clone();
    serve_pages(listener, router(state), web, shutdown).await;
}

/// The same of any pages.
pub async fn serve_pages(
    listener: TcpListener,
    app: Router,
    web: Option<Arc<WebConfig>>,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Dropped to tell every connection to end.
    let (ending, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly a client that left, or no descriptors left: neither ends the agent.
                tracing::debug!(%error, "a connection could not be accepted");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refuse(stream);
            continue;
        };
        let app = app.clone();
        let (ended, web) = (ended.clone(), web.clone());
        connections.spawn(async move {
            // Bodies are written whole: nothing is gained by holding small ones back.
            let _ = stream.set_nodelay(true);
            match web.and_then(|web| web.latest().tls.clone()) {
                None => connection(stream, app, ended).await,
                Some(tls) => secured(stream, tls, app, ended).await,
            }
            drop(slot);
        });
    }
    drop(listener);
    drop(ending);
    let all = async { while connections.join_next().await.is_some() {} };
    // What has not ended by then is aborted with the set.
    let _ = time::timeout(GRACE, all).await;
}

/// Says why, as far as the socket takes it without waiting.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(FULL);
    }
}

/// The same over TLS. A client that says nothing, or no TLS, has its place for a few seconds only.
async fn secured(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    app: Router,
    mut ended: watch::Receiver<()>,
) {
    let handshake = async {
        let mut first = [0];
        // A handshake begins with a record of another type than any letter.
        if stream.peek(&mut first).await? > 0 && first[0].is_ascii_uppercase() {
            return Ok(Err(stream));
        }
        TlsAcceptor::from(tls).accept(stream).await.map(Ok)
    };
    let greeted = tokio::select! {
        greeted = time::timeout(HANDSHAKE_TIME, handshake) => greeted,
        _ = ended.changed() => return,
    };
    match greeted {
        Ok(Ok(Ok(secure))) => connection(secure, app, ended).await,
        Ok(Ok(Err(plain))) => connection(plain, wrong_scheme(), ended).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Tells everything asked over plain HTTP that this is another protocol's port, in Go's words.
fn wrong_scheme() -> Router {
    let answer = (
        StatusCode::BAD_REQUEST,
        [(CONNECTION, "close")],
        "Client sent an HTTP request to an HTTPS server.\n",
    );
    Router::new().fallback(async move || answer)
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    app: Router,
    mut ended: watch::Receiver<()>,
) {
    let mut server = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app))
    );
    tokio::select! {
        // An error here is the client's: it left, or sent no HTTP.
        _ = server.as_mut() => return,
        _ = ended.changed() => {}
        () = time::sleep(MAX_AGE) => {}
    }
    server.as_mut().graceful_shutdown();
    let _ = time::timeout(GRACE, server).await;
}
