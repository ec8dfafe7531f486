//! The pod-resources client against a kubelet on a unix socket.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod conversion;
#[path = "../fakes/kubelet.rs"]
pub(crate) mod fake;
mod faults;
mod generated;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::kubelet::{KubeletHandle, KubeletSettings, start};
use slicewatch::model::{Allocations, Cause, DeviceRef, GpuUuid, Reading, Source, SourceHealth};

use fake::{FakeKubelet, Script, devices, pod, script};

const GPU: &str = "GPU-4cf8db2d-06c0-7d70-1a51-e59b25b2c16c";

/// As in production, and much faster.
fn quick(socket: &Path) -> KubeletSettings {
    KubeletSettings {
        socket: socket.to_owned(),
        period: Duration::from_millis(20),
        allocatable_period: Duration::from_millis(60),
        nudge_period: Duration::from_millis(10),
        call_timeout: Duration::from_secs(2),
        stale_after: Duration::from_secs(30),
        first_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(40),
        ..KubeletSettings::default()
    }
}

/// Waits until the handle's state is as wanted, and gives it.
async fn until(
    handle: &KubeletHandle,
    mut wanted: impl FnMut(&Reading<Arc<Allocations>>, &SourceHealth) -> bool,
) -> (Reading<Arc<Allocations>>, SourceHealth) {
    for _ in 0..2000 {
        let (answer, health) = handle.current();
        if wanted(&answer, &health) {
            return (answer, health);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("did not come: {:?}", handle.current());
}

async fn until_up(handle: &KubeletHandle) -> Arc<Allocations> {
    let (answer, _) = until(handle, |answer, health| {
        answer.value().is_some() && health.up == Reading::Value(())
    })
    .await;
    Arc::clone(answer.value().unwrap())
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kubelet.sock");
    (folder, socket)
}

/// Two pods, each with two of four replicas of one GPU.
fn shared_gpu() -> Script {
    let replica = |n: u32| format!("{GPU}::{n}");
    let row = |n: u32| devices("nvidia.com/gpu", [&*replica(n)]);
    script(
        vec![
            pod("team-a", "train", "cuda", vec![row(0), row(1)]),
            pod("team-b", "serve", "cuda", vec![row(2), row(3)]),
        ],
        vec![row(0), row(1), row(2), row(3)],
    )
}

#[tokio::test]
async fn grants_and_replicas_are_told() {
    let (_folder, socket) = folder();
    let _kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(quick(&socket));
    let allocations = until_up(&handle).await;
    assert_eq!(allocations.containers.len(), 2);
    let gpu = DeviceRef::Uuid(GpuUuid::new(GPU));
    for container in &allocations.containers {
        assert_eq!(container.grants.len(), 1);
        assert_eq!(container.grants[0].device, gpu);
        assert_eq!(container.grants[0].replicas, 2);
        assert!(container.grants[0].shared);
    }
    assert_eq!(allocations.allocatable[&gpu].replicas, 4);
    let (_, health) = handle.current();
    assert_eq!(health.source, Source::Kubelet);
    assert_eq!(&*health.detail, "");
    assert!(health.errors.is_empty());
    assert!(health.duration.unwrap() > Duration::ZERO);
    assert!(health.last_success.unwrap() > Duration::from_secs(1_600_000_000));
}

#[tokio::test]
async fn nothing_is_claimed_before_the_first_round() {
    let (_folder, socket) = folder();
    let handle = start(quick(&socket));
    let (answer, health) = handle.current();
    assert_eq!(answer, Reading::Failed(Cause::NotYet));
    assert_eq!(health.up, Reading::Failed(Cause::NotYet));
    assert_eq!(health.last_success, None);
}

#[tokio::test]
async fn the_same_answer_stays_the_same_value() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(quick(&socket));
    let first = until_up(&handle).await;
    let calls = kubelet.lists();
    until(&handle, |_, _| kubelet.lists() > calls + 3).await;
    assert!(Arc::ptr_eq(&first, handle.current().0.value().unwrap()));
    kubelet.script(|script| *script = fake::script(vec![], vec![]));
    until(&handle, |answer, _| {
        answer.value().unwrap().containers.is_empty()
    })
    .await;
}

#[tokio::test]
async fn allocatable_is_asked_less_often_than_the_list() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(KubeletSettings {
        allocatable_period: Duration::from_secs(3600),
        ..quick(&socket)
    });
    until(&handle, |_, _| kubelet.lists() >= 10).await;
    assert_eq!(kubelet.allocatables(), 1);
}

#[tokio::test]
async fn a_plugin_that_registers_late_is_seen_with_the_next_round() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, script(vec![], vec![]));
    let handle = start(KubeletSettings {
        allocatable_period: Duration::from_secs(3600),
        ..quick(&socket)
    });
    assert!(until_up(&handle).await.allocatable.is_empty());
    kubelet.script(|script| *script = shared_gpu());
    until(&handle, |answer, _| {
        !answer.value().unwrap().allocatable.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_nudge_brings_the_next_round_forward_and_many_bring_one() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(KubeletSettings {
        period: Duration::from_secs(3600),
        nudge_period: Duration::from_secs(1),
        ..quick(&socket)
    });
    until_up(&handle).await;
    assert_eq!(kubelet.lists(), 1);
    for _ in 0..20 {
        handle.nudge();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until(&handle, |_, _| kubelet.lists() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(kubelet.lists(), 2, "twenty nudges within the period");
}

#[tokio::test]
async fn a_dropped_handle_asks_no_more() {
    let (_folder, socket) = folder();
    let kubelet = FakeKubelet::start(&socket, shared_gpu());
    let handle = start(quick(&socket));
    until_up(&handle).await;
    drop(handle);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let calls = kubelet.lists();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(kubelet.lists(), calls);
}
