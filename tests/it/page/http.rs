//! The page's paths over real sockets: policy, cache, streams, crowds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slicewatch::publish::http::LivePage;

use super::{node, seen};
use crate::publish::example;
use crate::publish::server::{Server, gunzip};

fn paged(seconds: u32) -> (Server, LivePage) {
    let page = LivePage::new();
    for second in 0..=seconds {
        page.observe(&node(1, 3, second.into()));
    }
    let first = node(1, 3, seconds.into());
    (Server::with_page(Some(first), page.clone()), page)
}

/// An open stream of words, and the head of its answer.
fn stream(server: &Server) -> (BufReader<TcpStream>, String) {
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket
        .write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    (reader, head)
}

fn line_with(reader: &mut impl BufRead, words: &str) -> String {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the stream ended before {words}"
        );
    }
    line
}

#[test]
fn the_page_may_load_its_own_parts_and_nothing_else() {
    let (server, _) = paged(20);
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.headers["content-security-policy"],
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    assert!(answer.headers["age"].parse::<u64>().unwrap() < 30);
    assert!(answer.headers.contains_key("content-length"));
    for link in [
        "href=\"metrics\"",
        "href=\"api/v1/snapshot\"",
        "href=\"-/healthy\"",
    ] {
        assert!(answer.text().contains(link), "{link}");
    }
    for part in answer.text().split('<').skip(1) {
        let code = part.starts_with("script") && !part.starts_with("script src=\"page.js\" defer>");
        assert!(!code && !part.starts_with("style"), "<{part}");
    }
    for (path, kind) in [
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let plain = server.get(path);
        assert_eq!((plain.status, &*plain.headers["content-type"]), (200, kind));
        let packed = server.ask("GET", path, "Accept-Encoding: gzip\r\n");
        assert_eq!(packed.headers["content-encoding"], "gzip");
        assert_eq!(gunzip(&packed.body), plain.body);
    }
}

#[test]
fn a_page_is_made_once_a_snapshot() {
    let (server, page) = paged(20);
    let first = server.get("/");
    // The history goes on, the snapshot is the same: what was made is what is sent.
    for second in 21..60u32 {
        page.observe(&node(1, 3, second.into()));
    }
    assert_eq!(server.get("/").body, first.body);
    let packed = server.ask("GET", "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let again = server.ask("GET", "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(packed.body, again.body);
    server.publish(node(1, 3, 60.0));
    assert_ne!(server.get("/").body, first.body);
}

#[test]
fn a_pod_has_a_page_and_a_wrong_name_none() {
    let (server, _) = paged(20);
    let page = server.get("/");
    let id = page
        .text()
        .split("data-pod=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let pod = server.get(&format!("/pod?id={id}"));
    assert_eq!(pod.status, 200);
    assert!(pod.text().contains(&format!("class=\"panel\" id=\"{id}\"")));
    assert!(pod.headers.contains_key("content-security-policy"));
    for wrong in ["/pod?id=p0", "/pod?id=%3Cscript%3E"] {
        let answer = server.get(wrong);
        assert_eq!(answer.status, 404);
        assert!(!answer.text().contains("script"), "{}", answer.text());
    }
    assert_eq!(server.get("/pod").status, 400);
}

#[test]
fn before_the_first_snapshot_the_page_says_so() {
    let server = Server::with_page(None, LivePage::new());
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("no snapshot yet"));
    assert_eq!(server.get("/pod?id=p1").status, 404);
    let (mut words, _) = stream(&server);
    line_with(&mut words, "event: snapshot");
}

#[test]
fn without_the_page_there_are_links_and_nothing_of_the_node() {
    let server = Server::start(Some(example::full()));
    let answer = server.get("/");
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-security-policy"].starts_with("default-src 'none'; base-uri"));
    for words in [
        "href=\"metrics\"",
        "href=\"api/v1/snapshot\"",
        "href=\"-/ready\"",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(answer.text().contains(words), "{words}");
    }
    assert!(!answer.text().contains("<script") && !answer.text().contains("GPU-"));
    for path in ["/live", "/page.js", "/page.css", "/pod?id=p1", "/icon.svg"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_stream_tells_of_new_snapshots_and_nothing_of_them() {
    let (server, _) = paged(20);
    let (mut words, head) = stream(&server);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: text/event-stream"),
        "{head}"
    );
    line_with(&mut words, "retry: 2000");
    line_with(&mut words, "event: snapshot");
    let data = line_with(&mut words, "data: ");
    assert!(
        data.trim()
            .strip_prefix("data: ")
            .unwrap()
            .parse::<f32>()
            .unwrap()
            < 30.0
    );
    let began = Instant::now();
    // In the same beat nothing is said, in the next one it is.
    server.publish(node(1, 3, 20.5));
    server.publish(node(1, 3, 24.0));
    line_with(&mut words, "event: snapshot");
    assert!(began.elapsed() < Duration::from_secs(5));
    // What sent no news still shows that it is there.
    line_with(&mut words, "event: still");
    assert!(began.elapsed() > Duration::from_secs(9));
}

#[test]
fn streams_are_bounded_and_a_stuck_one_holds_nothing_back() {
    let (server, _) = paged(20);
    let mut open: Vec<_> = (0..16).map(|_| stream(&server)).collect();
    assert!(
        open.iter()
            .all(|(_, head)| head.starts_with("HTTP/1.1 200"))
    );
    let (mut refused, head) = stream(&server);
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert!(head.contains("retry-after: 5"), "{head}");
    let mut why = [0; 23];
    refused.read_exact(&mut why).unwrap();
    assert_eq!(&why, b"Too many pages are open");

    // Nobody reads for ten thousand beats, and everything else is answered as ever.
    for beat in 0..10_000u32 {
        server.publish(node(1, 1, 30.0 + 3.0 * f64::from(beat)));
    }
    let began = Instant::now();
    for path in ["/metrics", "/", "/-/healthy", "/api/v1/snapshot"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert!(began.elapsed() < Duration::from_secs(10));

    // Its place is free as soon as one has left.
    open.pop();
    let freed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        server.publish(node(1, 1, 40_000.0));
        stream(&server).1.starts_with("HTTP/1.1 200")
    });
    assert!(freed);
}

#[test]
fn fifty_pages_are_answered_or_told_to_wait() {
    let (history, _) = seen(1, 1, 2);
    assert!(!history.is_full());
    let (server, _) = paged(20);
    let server = Arc::new(server);
    let pages: Vec<_> = (0..50)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || server.get("/").status)
        })
        .collect();
    let answers: Vec<u16> = pages.into_iter().map(|page| page.join().unwrap()).collect();
    assert!(
        answers.iter().all(|status| [200, 503].contains(status)),
        "{answers:?}"
    );
    assert!(answers.contains(&200));
    assert_eq!(server.get("/metrics").status, 200);
}

#[test]
fn observing_never_waits_for_a_page() {
    let (server, page) = paged(20);
    let server = Arc::new(server);
    let asking = {
        let server = Arc::clone(&server);
        std::thread::spawn(move || {
            for second in 0..50u32 {
                server.publish(node(4, 64, second.into()));
                assert_eq!(server.get("/").status, 200);
            }
        })
    };
    let mut longest = Duration::ZERO;
    let mut second = 21;
    while !asking.is_finished() {
        let snapshot = node(1, 3, f64::from(second));
        second += 1;
        let began = Instant::now();
        page.observe(&snapshot);
        longest = longest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    asking.join().unwrap();
    // Making a page of 256 pods takes longer in a debug build than what is allowed here.
    assert!(longest < Duration::from_millis(500), "{longest:?}");
}
