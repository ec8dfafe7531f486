//! Users and passwords, the limit of requests, and headers.

use std::thread;
use std::time::{Duration, Instant};

use super::{Site, TLS, basic, hash};

fn users(password: &str, cost: u32) -> String {
    let hash = bcrypt::hash(password, cost).unwrap();
    format!("basic_auth_users:\n  alice: {hash}\n")
}

#[test]
fn every_path_but_health_asks_for_the_password() {
    let site = Site::new();
    let server = site.serve(&users("correct horse", 4));
    for path in [
        "/",
        "/metrics",
        "/api/v1/snapshot",
        "/live",
        "/page.js",
        "/page.css",
        "/icon.svg",
        "/pod?id=p1",
        "/nothing",
        "/-/",
        "/-/ready/",
        "//-/ready",
        "/-/%72eady",
        "/-/healthy?x",
    ] {
        let open = path == "/-/healthy?x";
        let found = server.get(path, "");
        if open {
            assert_eq!(found.status, 200, "{path}");
            continue;
        }
        assert_eq!(found.status, 401, "{path}");
        assert_eq!(
            found.header("www-authenticate"),
            Some("Basic realm=\"slicewatch\"")
        );
        assert_eq!(found.body, "Unauthorized\n");
    }
    assert_eq!(server.get("/-/healthy", "").status, 200);
    let ready = server.get("/-/ready", "");
    assert_eq!((ready.status, ready.body.lines().count()), (503, 1));

    assert_eq!(
        server.get("/", &basic("alice", "correct horse")).status,
        200
    );
    let lower = basic("alice", "correct horse").replace("Basic", "basic");
    assert_eq!(server.get("/", &lower).status, 200);
}

#[test]
fn whatever_is_not_the_password_is_refused() {
    let site = Site::new();
    let server = site.serve(&users("correct horse", 4));
    let right = basic("alice", "correct horse");
    assert_eq!(server.get("/", &right).status, 200);
    for wrong in [
        basic("alice", "wrong"),
        basic("alice", "correct horse "),
        basic("alice", ""),
        basic("Alice", "correct horse"),
        basic("bob", "correct horse"),
        basic("", ""),
        basic("alice", "correct\0horse"),
        right.replace("Basic", "Bearer"),
        "Authorization: Basic\r\n".to_owned(),
        "Authorization: Basic ====\r\n".to_owned(),
        "Authorization: Basic YWxpY2U=\r\n".to_owned(),
        "Authorization: Basic //////8=\r\n".to_owned(),
    ] {
        // The second is answered from memory.
        for _ in 0..2 {
            assert_eq!(server.get("/", &wrong).status, 401, "{wrong}");
        }
    }
    assert_eq!(server.get("/", &right).status, 200);
}

#[test]
fn who_was_let_in_is_not_kept_waiting_by_those_who_guess() {
    let site = Site::new();
    // A cost that this build takes a while for.
    let server = site.serve(&users("correct horse", 9));
    let right = basic("alice", "correct horse");
    assert_eq!(server.get("/", &right).status, 200);
    thread::scope(|scope| {
        let guesses: Vec<_> = (0..24)
            .map(|i| {
                let server = &server;
                scope.spawn(move || server.get("/", &basic("alice", &i.to_string())).status)
            })
            .collect();
        thread::sleep(Duration::from_millis(50));
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(server.get("/", &right).status, 200);
            assert_eq!(server.get("/-/healthy", "").status, 200);
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        let statuses: Vec<u16> = guesses
            .into_iter()
            .map(|guess| guess.join().unwrap())
            .collect();
        assert!(
            statuses.iter().all(|status| [401, 503].contains(status)),
            "{statuses:?}"
        );
        let busy = statuses.iter().filter(|status| **status == 503).count();
        assert!((1..24).contains(&busy), "{statuses:?}");
    });
}

#[test]
fn the_time_of_an_answer_does_not_tell_who_exists() {
    let site = Site::new();
    let server = site.serve(&users("correct horse", 8));
    let time = |user: &str, password: &str| {
        let began = Instant::now();
        assert_eq!(server.get("/", &basic(user, password)).status, 401);
        let took = began.elapsed();
        // Past the pause after a wrong one.
        thread::sleep(took * 4);
        took
    };
    let mut times = [Vec::new(), Vec::new()];
    for i in 0..5 {
        times[0].push(time("alice", &format!("guess {i}")));
        times[1].push(time("nobody", &format!("guess {i}")));
    }
    let [known, unknown] = times.map(|times| times.into_iter().min().unwrap());
    // Wide, for a busy machine: without the work an unknown user is answered a hundred times as fast.
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((0.2..5.0).contains(&ratio), "{known:?} and {unknown:?}");
}

/// Made by libxcrypt, as htpasswd makes them.
const FROM_ELSEWHERE: &str = "$2y$05$tNenJ1nHezi/RCUBFdNFfOSXKSDYb1l1kQSm.REcSc0X3m1iUZhIy";

#[test]
fn hashes_made_by_other_programs_are_understood() {
    let site = Site::new();
    let server = site.serve(&format!(
        "basic_auth_users: {{alice: \"{FROM_ELSEWHERE}\"}}"
    ));
    assert_eq!(
        server.get("/", &basic("alice", "correct horse")).status,
        200
    );
    assert_eq!(server.get("/", &basic("alice", "correct cow")).status, 401);
}

#[test]
fn passwords_work_over_tls() {
    let site = Site::new();
    let server = site.serve(&format!("{TLS}{}", users("correct horse", 4)));
    let client = site.client();
    assert_eq!(client.status(&server), Some(401));
    let found = client.get(&server, "/", &basic("alice", "correct horse"));
    assert_eq!(found.unwrap().status, 200);
    assert_eq!(client.get(&server, "/-/healthy", "").unwrap().status, 200);
}

#[test]
fn over_the_limit_of_requests_is_later() {
    let site = Site::new();
    let server = site.serve("rate_limit:\n  interval: 1h\n  burst: 2\n");
    let found = [(); 3].map(|()| server.get("/", "").status);
    assert_eq!(found, [200, 200, 429]);
    assert_eq!(server.get("/", "").header("retry-after"), Some("1"));
    assert_eq!(server.get("/-/healthy", "").status, 200);
}

#[test]
fn headers_are_set_on_every_answer() {
    let site = Site::new();
    let server = site.serve(&format!(
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=60\n    X-Frame-Options: deny\n    Content-Security-Policy: \"\"\nbasic_auth_users:\n  alice: {}\n",
        hash("x")
    ));
    for (path, headers, status) in [
        ("/", String::new(), 401),
        ("/", basic("alice", "x"), 200),
        ("/-/healthy", String::new(), 200),
        ("/nothing", basic("alice", "x"), 404),
    ] {
        let found = server.get(path, &headers);
        assert_eq!(found.status, status);
        assert_eq!(
            found.header("strict-transport-security"),
            Some("max-age=60")
        );
        assert_eq!(found.header("x-frame-options"), Some("deny"));
    }
    // One without a value leaves the page's own.
    let page = server.get("/", &basic("alice", "x"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}
