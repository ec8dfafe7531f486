//! The HTTP side over real sockets.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use slicewatch::model::{Cause, Reading, Snapshot};
use slicewatch::publish::http::{HttpError, HttpState, LivePage, bind, serve};

use super::{example, parse};

/// A server on a thread of its own, ended when dropped.
pub(crate) struct Server {
    addr: SocketAddr,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    alive: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(first: Option<Snapshot>) -> Self {
        Self::serving(first, None)
    }

    pub(crate) fn with_page(first: Option<Snapshot>, page: LivePage) -> Self {
        Self::serving(first, Some(page))
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next snapshot.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshots.send_replace(Some(Arc::new(snapshot)));
    }

    fn serving(first: Option<Snapshot>, page: Option<LivePage>) -> Self {
        let (snapshots, receiver) = watch::channel(first.map(Arc::new));
        let alive = Arc::new(AtomicBool::new(true));
        let heart = Arc::clone(&alive);
        let state = HttpState::new(receiver, move || heart.load(Ordering::Relaxed)).with_page(page);
        let (stop, stopped) = oneshot::channel();
        let (told, addr) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                serve(listener, state, async {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        Self {
            addr: addr.recv().unwrap(),
            snapshots,
            alive,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    fn stop(&mut self) -> Duration {
        let start = Instant::now();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut all = Vec::new();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.read_to_end(&mut all).unwrap();
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        Self {
            status: status.parse().unwrap(),
            headers: lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: all[end + 4..].to_vec(),
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(body)
        .read_to_end(&mut out)
        .unwrap();
    out
}

#[test]
fn metrics_come_in_the_form_that_is_asked_for() {
    let server = Server::start(Some(example::full()));
    let plain = server.get("/metrics");
    assert_eq!(plain.status, 200);
    assert_eq!(
        plain.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let text = parse::text(plain.text()).unwrap();
    assert!(text.contains_key("process_resident_memory_bytes"));

    let accept = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n";
    let open = server.ask("GET", "/metrics", accept);
    assert_eq!(
        open.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(open.headers["content-encoding"], "gzip");
    assert_eq!(open.headers["vary"], "Accept, Accept-Encoding");
    let families = parse::openmetrics(&String::from_utf8(gunzip(&open.body)).unwrap()).unwrap();
    assert_eq!(families.len(), text.len());

    let accept = "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,*/*;q=0.2\r\n";
    let proto = server.ask("GET", "/metrics", accept);
    assert!(proto.headers["content-type"].contains("MetricFamily; encoding=delimited"));
    assert_eq!(parse::protobuf(&proto.body).unwrap().len(), text.len());
}

#[test]
fn a_snapshot_is_encoded_once_and_the_next_one_anew() {
    let server = Server::start(Some(example::full()));
    let scrape = || {
        let answer = server.get("/metrics");
        answer.text().to_owned()
    };
    // The figures of the agent's own process are of the moment of encoding, and its descriptors
    // change with every connection: the same bytes mean that nothing was encoded anew.
    let first = scrape();
    let _held: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(server.addr).unwrap())
        .collect();
    thread::sleep(Duration::from_millis(50));
    assert_eq!(scrape(), first);
    server
        .snapshots
        .send(Some(Arc::new(example::empty())))
        .unwrap();
    assert!(!scrape().contains("slicewatch_gpu_up"));
}

#[test]
fn the_snapshot_comes_as_json() {
    let server = Server::start(Some(example::full()));
    for headers in ["", "Accept-Encoding: gzip\r\n"] {
        let answer = server.ask("GET", "/api/v1/snapshot", headers);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "application/json");
        let json = if headers.is_empty() {
            answer.body
        } else {
            gunzip(&answer.body)
        };
        let snapshot: Snapshot = serde_json::from_slice(&json).unwrap();
        assert_eq!(snapshot, example::full());
    }
}

#[test]
fn health_is_the_loop_and_readiness_the_first_round() {
    let server = Server::start(None);
    assert_eq!(server.get("/-/healthy").status, 200);
    for path in ["/-/ready", "/metrics", "/api/v1/snapshot"] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.text()),
            (503, "Not ready: no snapshot was taken yet.\n")
        );
    }
    let mut half = example::full();
    half.sources[2].up = Reading::Failed(Cause::NotYet);
    server.snapshots.send(Some(Arc::new(half))).unwrap();
    let answer = server.get("/-/ready");
    assert_eq!(
        (answer.status, answer.text()),
        (503, "Not ready: not tried yet: host.\n")
    );
    assert_eq!(server.get("/metrics").status, 200);

    // A source that is down does not make the agent unready: it shows in its health series.
    server
        .snapshots
        .send(Some(Arc::new(example::full())))
        .unwrap();
    assert_eq!(server.get("/-/ready").status, 200);
    server.alive.store(false, Ordering::Relaxed);
    assert_eq!(server.get("/-/healthy").status, 503);
}

#[test]
fn wrong_paths_and_methods_are_told() {
    let server = Server::start(None);
    let answer = server.get("/nothing%0A%3Cb%3E?x");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    let answer = server.ask("POST", "/metrics", "Content-Length: 0\r\n");
    assert_eq!(answer.status, 405);
    assert!(answer.headers["allow"].contains("GET"));
    assert_eq!(answer.text(), "/metrics can only be read, not POST.\n");
    let answer = server.ask("HEAD", "/-/healthy", "");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn heads_that_are_too_large_and_crowds_are_refused() {
    let server = Server::start(None);
    let large = format!("X: {}\r\n", "x".repeat(20_000));
    assert_eq!(server.ask("GET", "/", &large).status, 431);

    let crowd: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(server.addr).unwrap())
        .collect();
    thread::sleep(Duration::from_millis(200));
    let refused = Answer::read(TcpStream::connect(server.addr).unwrap());
    assert_eq!(
        (refused.status, refused.text()),
        (503, "Too many connections\n")
    );
    drop(crowd);
    thread::sleep(Duration::from_millis(200));
    assert_eq!(server.get("/-/healthy").status, 200);
}

#[test]
fn it_ends_within_a_second_though_clients_hang() {
    let mut server = Server::start(Some(example::full()));
    let mut half = TcpStream::connect(server.addr).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let _idle = TcpStream::connect(server.addr).unwrap();
    thread::sleep(Duration::from_millis(50));
    let took = server.stop();
    assert!(took < Duration::from_millis(1_100), "{took:?}");
    assert!(TcpStream::connect(server.addr).is_err());
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start(None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(bind(server.addr)).unwrap_err();
    assert!(matches!(error, HttpError::InUse { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&server.addr.to_string()) && text.contains("another"),
        "{text}"
    );
    let error = runtime
        .block_on(bind("192.0.2.1:9735".parse().unwrap()))
        .unwrap_err();
    assert!(matches!(error, HttpError::NoSuchAddress { .. }), "{error}");
}
