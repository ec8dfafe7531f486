//! Everything that can be wrong with the socket: one clear line each, and never an old answer
//! shown for ever.

use std::fs;
use std::time::Duration;

use slicewatch::collect::kubelet::{KubeletSettings, start};
use slicewatch::model::{Cause, Reading, SourceHealth};
use tonic::Code;

use super::fake::{Answer, FakeKubelet, devices, pod, script, speak};
use super::{GPU, folder, quick, shared_gpu, until, until_up};

/// One line that names the socket and holds these words.
fn assert_says(health: &SourceHealth, reason: &str, words: &[&str]) {
    let detail = &*health.detail;
    assert!(!detail.contains('\n'), "{detail}");
    assert!(health.errors[reason] > 0, "{:?}", health.errors);
    for word in words {
        assert!(detail.contains(word), "{word:?} is not in: {detail}");
    }
}

#[tokio::test]
async fn a_missing_socket_is_named_with_the_folder_to_mount() {
    let (folder, socket) = folder();
    let handle = start(quick(&socket));
    let cause = Reading::Failed(Cause::NotFound);
    let (answer, health) = until(&handle, |_, health| health.up == cause).await;
    assert_eq!(answer, Reading::Failed(Cause::NotFound));
    let mount = format!("mount the host's folder {}", folder.path().display());
    assert_says(
        &health,
        "socket_missing",
        &[socket.to_str().unwrap(), &mount],
    );
    // It is found once it is there.
    let _kubelet = FakeKubelet::start(&socket, shared_gpu());
    until_up(&handle).await;
}

#[tokio::test]
async fn a_folder_in_the_way_of_the_path_is_a_missing_socket() {
    let (folder, _) = folder();
    fs::write(folder.path().join("file"), "").unwrap();
    let handle = start(quick(&folder.path().join("file/kubelet.sock")));
    let (_, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::NotFound)).await;
    assert_says(&health, "socket_missing", &["file/kubelet.sock"]);
}

#[tokio::test]
async fn what_is_not_a_socket_is_said_to_be_none() {
    let (folder, socket) = folder();
    fs::write(&socket, "text").unwrap();
    for path in [socket.as_path(), folder.path()] {
        let handle = start(quick(path));
        let (_, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Malformed)).await;
        let words = [path.to_str().unwrap(), "is not a socket"];
        assert_says(&health, "not_a_socket", &words);
    }
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_the_wrong_socket() {
    for words in [
        &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\nProtocol mismatch.\r\n",
        &[0xff; 400],
    ] {
        let (_folder, socket) = folder();
        speak(&socket, words);
        let handle = start(quick(&socket));
        let (_, health) = until(&handle, |_, h| h.up != Reading::Failed(Cause::NotYet)).await;
        assert_eq!(health.up, Reading::Failed(Cause::Malformed), "{health:?}");
        let words = [socket.to_str().unwrap(), "does not speak"];
        assert_says(&health, "wrong_protocol", &words);
    }
}

#[tokio::test]
async fn a_grpc_server_without_this_service_is_the_wrong_socket() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let words = "unknown service v1.PodResourcesLister";
    kubelet.script(|s| s.list = Answer::Refuse(Code::Unimplemented, words.into()));
    let handle = start(quick(&socket));
    let (_, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Malformed)).await;
    assert_says(&health, "wrong_protocol", &["kubelet.sock", words]);
}

#[tokio::test]
async fn nobody_behind_the_socket_is_a_kubelet_that_is_down() {
    let (_folder, socket) = folder();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let handle = start(quick(&socket));
    let (answer, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Other)).await;
    assert_eq!(answer, Reading::Failed(Cause::Other));
    assert_says(
        &health,
        "refused",
        &["nobody listens", "systemctl status kubelet"],
    );
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_a_lost_connection() {
    let (_folder, socket) = folder();
    speak(&socket, b"");
    let handle = start(quick(&socket));
    let (_, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Other)).await;
    assert_says(&health, "connection_lost", &["kubelet.sock"]);
}

#[tokio::test]
async fn a_hanging_kubelet_is_a_timeout_and_recovers() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    kubelet.script(|s| s.list = Answer::Hang);
    let handle = start(KubeletSettings {
        call_timeout: Duration::from_millis(100),
        ..quick(&socket)
    });
    let (answer, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Timeout)).await;
    assert_eq!(answer, Reading::Failed(Cause::Timeout));
    assert_says(&health, "timeout", &["kubelet.sock", "100ms"]);
    kubelet.script(|s| *s = shared_gpu());
    until_up(&handle).await;
}

#[tokio::test]
async fn an_error_of_the_kubelet_is_told_on_one_line() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let words = format!("rejected by\nrate limit{}", "x".repeat(1000));
    kubelet.script(|s| s.list = Answer::Refuse(Code::ResourceExhausted, words));
    let handle = start(quick(&socket));
    let (_, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Other)).await;
    let words = ["ResourceExhausted", "rejected by rate limit"];
    assert_says(&health, "rejected", &words);
    assert!(health.detail.len() < 500);
}

#[tokio::test]
async fn allocatable_refused_leaves_the_list_and_the_source_up() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    kubelet.script(|s| s.allocatable = Answer::Refuse(Code::Unimplemented, "off".into()));
    let handle = start(quick(&socket));
    let allocations = until_up(&handle).await;
    assert_eq!(allocations.containers.len(), 2);
    assert!(allocations.allocatable.is_empty());
    let (_, health) = handle.current();
    assert!(health.errors["allocatable_wrong_protocol"] > 0);
    assert_eq!(&*health.detail, "");
}

#[tokio::test]
async fn allocatable_that_hangs_leaves_the_list_up() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    kubelet.script(|s| s.allocatable = Answer::Hang);
    let handle = start(KubeletSettings {
        call_timeout: Duration::from_millis(100),
        ..quick(&socket)
    });
    assert_eq!(until_up(&handle).await.containers.len(), 2);
    let (_, health) = handle.current();
    assert!(health.errors["allocatable_timeout"] > 0);
}

#[tokio::test]
async fn allocatable_that_fails_for_long_is_forgotten() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(quick(&socket));
    assert_eq!(until_up(&handle).await.allocatable.len(), 1);
    kubelet.script(|s| s.allocatable = Answer::Refuse(Code::Internal, "broken".into()));
    let (answer, _) = until(&handle, |answer, _| {
        answer.value().unwrap().allocatable.is_empty()
    })
    .await;
    assert_eq!(answer.value().unwrap().containers.len(), 2);
}

#[tokio::test]
async fn a_kubelet_that_restarts_is_found_again() {
    let (_folder, socket) = folder();
    let mut kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(quick(&socket));
    until_up(&handle).await;
    kubelet.stop();
    let (answer, _) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Other)).await;
    // A restart takes seconds: until it is stale the answer stands.
    assert_eq!(answer.value().unwrap().containers.len(), 2);
    kubelet.script(|s| *s = script(vec![pod("a", "b", "c", vec![])], vec![]));
    let asked = kubelet.allocatables();
    kubelet.start_again();
    until(&handle, |answer, health| {
        health.up == Reading::Value(()) && answer.value().unwrap().containers.len() == 1
    })
    .await;
    assert!(kubelet.allocatables() > asked, "asked after the reconnect");
}

#[tokio::test]
async fn a_new_socket_at_the_path_is_dialled_though_the_old_connection_lives() {
    let (_folder, socket) = folder();
    let mut kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(KubeletSettings {
        allocatable_period: Duration::from_secs(3600),
        ..quick(&socket)
    });
    until_up(&handle).await;
    kubelet.put_another_socket_there();
    // Allocatable is asked once a connection.
    until(&handle, |_, _| kubelet.allocatables() == 2).await;
}

#[tokio::test]
async fn an_answer_that_is_too_old_is_not_shown() {
    let (_folder, socket) = folder();
    let mut kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(KubeletSettings {
        call_timeout: Duration::from_millis(200),
        stale_after: Duration::from_millis(300),
        ..quick(&socket)
    });
    until_up(&handle).await;
    kubelet.stop();
    let stale = Reading::Failed(Cause::Stale);
    let (_, health) = until(&handle, |answer, _| *answer == stale).await;
    assert_says(&health, "refused", &["nobody listens"]);
    kubelet.start_again();
    until_up(&handle).await;
}

#[tokio::test]
async fn a_huge_answer_of_replicas_is_one_row() {
    let (_folder, socket) = folder();
    let ids: Vec<String> = (0..200_000).map(|n| format!("{GPU}::{n}")).collect();
    let row = devices("nvidia.com/gpu", ids.iter().map(String::as_str));
    let kubelet = FakeKubelet::start(&socket, script(vec![pod("a", "b", "c", vec![row])], vec![]));
    let handle = start(KubeletSettings {
        call_timeout: Duration::from_secs(20),
        ..quick(&socket)
    });
    let allocations = until_up(&handle).await;
    assert_eq!(allocations.containers[0].grants.len(), 1);
    assert_eq!(allocations.containers[0].grants[0].replicas, 200_000);
    drop(kubelet);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_by_name() {
    let (_folder, socket) = folder();
    let id = "x".repeat(17 << 20);
    let row = devices("nvidia.com/gpu", [id.as_str()]);
    let _kubelet = FakeKubelet::start(&socket, script(vec![pod("a", "b", "c", vec![row])], vec![]));
    let handle = start(quick(&socket));
    let (_, health) = until(&handle, |_, h| h.up == Reading::Failed(Cause::Malformed)).await;
    assert_says(&health, "too_large", &["16 MiB", "kubelet.sock"]);
}
