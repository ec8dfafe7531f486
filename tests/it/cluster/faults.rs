//! What can go wrong with the API server.

use std::net::TcpListener;

use slicewatch::model::Cause;
use tokio::task::JoinSet;

use super::fake::{Fault, kubeconfig};
use super::*;

/// A fault is told with its mend, leaves what is known as it is, and passes.
#[tokio::test]
async fn each_fault_is_told_and_passes() {
    let mut cases = JoinSet::new();
    for case in [
        (
            Ask::List,
            Fault::Status(401),
            "unauthorized",
            Cause::PermissionDenied,
            "read anew",
        ),
        (
            Ask::List,
            Fault::Status(403),
            "forbidden",
            Cause::PermissionDenied,
            "let the agent list pods",
        ),
        (
            Ask::Watch,
            Fault::Status(403),
            "forbidden",
            Cause::PermissionDenied,
            "let the agent watch pods",
        ),
        (
            Ask::Node,
            Fault::Status(403),
            "forbidden",
            Cause::PermissionDenied,
            "let the agent get nodes",
        ),
        (
            Ask::Node,
            Fault::Status(404),
            "node_unknown",
            Cause::NotFound,
            "--node-name",
        ),
        (
            Ask::List,
            Fault::Status(500),
            "rejected",
            Cause::Other,
            "answered 500 to list pods",
        ),
        (
            Ask::Watch,
            Fault::Status(429),
            "rejected",
            Cause::Other,
            "answered 429 to watch pods",
        ),
        (
            Ask::List,
            Fault::Garbage,
            "malformed",
            Cause::Malformed,
            "proxy",
        ),
        (
            Ask::Watch,
            Fault::Garbage,
            "malformed",
            Cause::Malformed,
            "watch pods",
        ),
        (
            Ask::Node,
            Fault::Garbage,
            "malformed",
            Cause::Malformed,
            "get nodes",
        ),
        (
            Ask::List,
            Fault::OtherJson,
            "malformed",
            Cause::Malformed,
            "list pods",
        ),
        (
            Ask::Watch,
            Fault::OtherJson,
            "malformed",
            Cause::Malformed,
            "watch pods",
        ),
        (
            Ask::Node,
            Fault::OtherJson,
            "malformed",
            Cause::Malformed,
            "get nodes",
        ),
        (
            Ask::List,
            Fault::Empty,
            "malformed",
            Cause::Malformed,
            "list pods",
        ),
        (Ask::List, Fault::Hang, "timeout", Cause::Timeout, "1.5s"),
        (Ask::Watch, Fault::Hang, "timeout", Cause::Timeout, "1.5s"),
        (Ask::Node, Fault::Hang, "timeout", Cause::Timeout, "1.5s"),
        (
            Ask::List,
            Fault::HangInBody,
            "timeout",
            Cause::Timeout,
            "3.5s",
        ),
        (
            Ask::Node,
            Fault::HangInBody,
            "timeout",
            Cause::Timeout,
            "1.5s",
        ),
        (
            Ask::List,
            Fault::Cut,
            "connection_lost",
            Cause::Other,
            "ended",
        ),
        (
            Ask::Node,
            Fault::Cut,
            "connection_lost",
            Cause::Other,
            "ended",
        ),
        (
            Ask::Watch,
            Fault::Cut,
            "connection_lost",
            Cause::Other,
            "ended",
        ),
        (
            Ask::List,
            Fault::Huge(4_300_000),
            "too_large",
            Cause::Malformed,
            "4 MiB",
        ),
        (
            Ask::Watch,
            Fault::Huge(4_300_000),
            "too_large",
            Cause::Malformed,
            "4 MiB",
        ),
        (
            Ask::Node,
            Fault::Huge(4_300_000),
            "too_large",
            Cause::Malformed,
            "4 MiB",
        ),
        (
            Ask::Watch,
            Fault::Status(410),
            "expired",
            Cause::Other,
            "forgot",
        ),
    ] {
        cases.spawn(told_and_passed(case));
    }
    cases.join_all().await;
}

async fn told_and_passed((ask, fault, reason, cause, words): (Ask, Fault, &str, Cause, &str)) {
    let bench = Bench::new();
    let api = &bench.api;
    api.apply(pod("team-a", "db-0", A, &id('a')));
    let handle = bench.start();
    until_up(&handle).await;
    api.script().faults.insert(ask, fault);
    if ask == Ask::List {
        api.forget();
    }
    api.end_watches();
    let what = format!("{ask:?} {fault:?} told");
    let view = until(&handle, &what, |view| {
        view.health.errors.contains_key(reason) && view.health.up == Reading::Failed(cause)
    })
    .await;
    assert!(
        view.health.detail.contains(words),
        "{what}: {}",
        view.health.detail
    );
    assert!(
        !view.health.detail.contains('\n'),
        "{what}: {}",
        view.health.detail
    );
    assert!(container(&view, &id('a')).is_some() && view.node.value().is_some());

    // The other half goes on, where the fault is not everybody's.
    if ask == Ask::Node && matches!(fault, Fault::Status(_)) {
        api.apply(pod("team-b", "new", B, &id('b')));
        until(&handle, "named all the same", |v| {
            container(v, &id('b')).is_some()
        })
        .await;
    }
    api.script().faults.clear();
    let view = until_up(&handle).await;
    assert_eq!(&*view.health.detail, "");
    assert_eq!(
        current(&view, "team-a", "db-0").as_deref(),
        Some(A),
        "{what}"
    );
    api.assert_least_rights();
}

#[tokio::test]
async fn an_event_that_is_not_understood_is_left_behind() {
    let bench = Bench::new();
    let api = &bench.api;
    let handle = bench.start();
    until_up(&handle).await;
    let mut odd = pod("team-a", "odd", A, &id('a'));
    odd["status"]["containerStatuses"] = json!("none");
    api.apply(odd);
    let told = |view: &ClusterView| view.health.errors.contains_key("malformed");
    until(&handle, "told", told).await;
    // It is in the list as well, until it is mended; then all goes on.
    api.apply(pod("team-a", "odd", A, &id('a')));
    api.apply(pod("team-b", "next", B, &id('b')));
    let view = until(&handle, "next", |view| container(view, &id('b')).is_some()).await;
    assert!(container(&view, &id('a')).is_some());
    until_up(&handle).await;
}

#[tokio::test]
async fn a_server_that_is_away_at_start_or_later_is_found_again() {
    let mut bench = Bench::new();
    bench.api.apply(pod("team-a", "db-0", A, &id('a')));
    bench.api.stop();
    let handle = bench.start();
    let view = until(&handle, "down", |view| {
        view.health.errors.contains_key("unreachable")
    })
    .await;
    assert_eq!(view.health.up, Reading::Failed(Cause::Other));
    let address = bench.api.address().to_string();
    assert!(
        view.health.detail.contains(&address),
        "{}",
        view.health.detail
    );
    bench.api.start_again();
    until_up(&handle).await;
    bench.api.stop();
    let view = until(&handle, "down again", |view| {
        view.health.up.value().is_none()
    })
    .await;
    assert!(container(&view, &id('a')).is_some() && view.node.value().is_some());
    bench.api.start_again();
    until_up(&handle).await;
    assert_eq!(bench.api.count(Ask::List), 1, "it went on where it was");
}

#[tokio::test]
async fn a_token_that_expired_is_read_anew() {
    let bench = Bench::new();
    let token = bench.folder.path().join("token");
    std::fs::write(&token, "first").unwrap();
    bench.api.script().token = Some("first".to_owned());
    let server = format!("http://{}", bench.api.address());
    let path = kubeconfig(bench.folder.path(), &server, &json!({"tokenFile": token}));
    let handle = start(quick(Access::Kubeconfig(path)));
    until_up(&handle).await;
    bench.api.script().token = Some("second".to_owned());
    bench.api.end_watches();
    until(&handle, "refused", |view| {
        view.health.errors.contains_key("unauthorized")
    })
    .await;
    std::fs::write(&token, "second").unwrap();
    let view = until_up(&handle).await;
    assert!(!format!("{:?}", view.health).contains("first"));
    std::fs::remove_file(&token).unwrap();
    bench
        .api
        .script()
        .faults
        .insert(Ask::Node, Fault::Status(401));
    let view = until(&handle, "no token", |view| {
        view.health.errors.contains_key("kubeconfig")
    })
    .await;
    assert!(
        view.health.detail.contains("token"),
        "{}",
        view.health.detail
    );
}

#[tokio::test]
async fn without_a_nodes_name_nothing_is_asked() {
    for (node, reason, words) in [
        (None, "node_name_missing", "SLICEWATCH_NODE_NAME"),
        (Some("a,b=c"), "node_name_invalid", "a,b=c"),
    ] {
        let bench = Bench::new();
        let handle = start(ClusterSettings {
            node: node.map(Into::into),
            ..bench.settings()
        });
        let view = until(&handle, reason, |view| {
            view.health.errors.contains_key(reason)
        })
        .await;
        assert_eq!(view.health.up, Reading::Failed(Cause::NotFound));
        assert!(view.health.detail.contains(words), "{}", view.health.detail);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bench.api.count(Ask::List) + bench.api.count(Ask::Node), 0);
    }
}

#[tokio::test]
async fn kubeconfigs_and_servers_that_cannot_be_used_are_told_without_secrets() {
    let bench = Bench::new();
    let folder = bench.folder.path();
    let address = bench.api.address();
    let secret = "s3cr3t";
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let other = tempfile::tempdir().unwrap();
    let user = json!({"token": secret});
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1",
        "command": "echo", "args": [secret], "interactiveMode": "Never"}});
    let over_tls = kubeconfig(folder, &format!("https://{address}"), &user);
    for (path, reason, words) in [
        (folder.join("none"), "kubeconfig", "No such file"),
        (
            write("text", &format!("users:\n- token: {secret}\n  : [")),
            "kubeconfig",
            "not YAML",
        ),
        (write("empty", "{}"), "kubeconfig", "context"),
        (over_tls, "tls", "certificate authority"),
        (
            kubeconfig(other.path(), "http://127.0.0.1:1", &exec),
            "kubeconfig",
            "credential program",
        ),
    ] {
        let handle = start(quick(Access::Kubeconfig(path)));
        let view = until(&handle, reason, |view| {
            view.health.errors.contains_key(reason)
        })
        .await;
        let detail = &view.health.detail;
        assert!(detail.contains(words), "{detail}");
        assert!(
            !detail.contains(secret) && !detail.contains('\n'),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_accept_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let path = kubeconfig(folder.path(), &server, &json!({}));
    let handle = start(quick(Access::Kubeconfig(path)));
    let view = until(&handle, "told", |view| {
        view.health.errors.contains_key("timeout")
    })
    .await;
    assert_eq!(view.health.up, Reading::Failed(Cause::Timeout));
}

#[tokio::test]
async fn watches_that_end_at_once_are_not_begun_anew_at_once() {
    let bench = Bench::new();
    bench.api.script().faults.insert(Ask::Watch, Fault::Empty);
    let handle = bench.start();
    until_up(&handle).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(
        bench.api.count(Ask::Watch) <= 3,
        "{}",
        bench.api.count(Ask::Watch)
    );
    assert_eq!(bench.api.count(Ask::List), 1);
}
