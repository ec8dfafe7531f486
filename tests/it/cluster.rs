//! The source `cluster` against an API server on a TCP port.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod events;
#[path = "../fakes/apiserver.rs"]
pub(crate) mod fake;
mod faults;
#[path = "../fakes/objects.rs"]
pub(crate) mod objects;
#[path = "../fakes/pod_events.rs"]
pub(crate) mod pod_events;
#[path = "../fakes/trials.rs"]
pub(crate) mod trials;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slicewatch::collect::cluster::{Access, ClusterHandle, ClusterSettings, ClusterView, start};
use slicewatch::model::{ContainerId, ContainerName, PodName, PodStatus, PodUid, Reading, Source};
use tempfile::TempDir;

use fake::{Ask, FakeApi, NODE, of_deployment, pod};

const A: &str = "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11";
const B: &str = "1e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b22";
const HASH: &str = "8d4a0b6a5c0d4f0e9a7b1c2d3e4f5a6b";

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A server, and a client of it that is as in production, and much faster.
struct Bench {
    api: FakeApi,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            api: FakeApi::start(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn settings(&self) -> ClusterSettings {
        let path = self.api.kubeconfig(self.folder.path());
        quick(Access::Kubeconfig(path))
    }

    fn start(&self) -> ClusterHandle {
        start(self.settings())
    }
}

fn quick(access: Access) -> ClusterSettings {
    ClusterSettings {
        node_period: Duration::from_millis(100),
        call_timeout: Duration::from_millis(1500),
        list_timeout: Duration::from_millis(3500),
        first_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(80),
        ..ClusterSettings::new(access, Some(NODE.into()))
    }
}

/// Waits until what is told is as wanted, and gives it.
async fn until(
    handle: &ClusterHandle,
    what: &str,
    mut wanted: impl FnMut(&ClusterView) -> bool,
) -> ClusterView {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let view = handle.current();
        if wanted(&view) {
            return view;
        }
        assert!(Instant::now() < deadline, "not {what}: {view:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_up(handle: &ClusterHandle) -> ClusterView {
    until(handle, "up", |view| view.health.up == Reading::Value(())).await
}

fn container<'v>(view: &'v ClusterView, id: &str) -> Option<&'v ContainerName> {
    view.names.containers.get(&ContainerId::new(id))
}

fn status(view: &ClusterView, uid: &str) -> Option<Arc<PodStatus>> {
    view.names.statuses.get(&PodUid::new(uid)).cloned()
}

fn current(view: &ClusterView, namespace: &str, pod: &str) -> Option<String> {
    let name = PodName {
        namespace: namespace.into(),
        pod: pod.into(),
    };
    view.names.current.get(&name).map(ToString::to_string)
}

#[tokio::test]
async fn pods_with_all_their_containers_owners_and_the_node_are_told() {
    let bench = Bench::new();
    let api = &bench.api;
    api.script().page = Some(2);
    let long = "n".repeat(253);
    api.apply(of_deployment(
        pod("team-a", "web-7d4b-x2x9p", A, &id('a')),
        "web",
        "7d4b",
    ));
    let mut many = pod("team-b", "many", B, &id('b'));
    many["status"]["containerStatuses"][0]["lastState"] =
        json!({"terminated": {"containerID": format!("containerd://{}", id('8'))}});
    many["status"]["initContainerStatuses"] = json!([
        {"name": "init", "state": {"terminated": {"containerID": format!("containerd://{}", id('1'))}}},
        {"name": "sidecar", "containerID": format!("containerd://{}", id('2'))},
    ]);
    many["status"]["ephemeralContainerStatuses"] =
        json!([{"name": "debugger", "containerID": format!("containerd://{}", id('3'))}]);
    api.apply(many);
    api.apply(pod("team-c", &long, &A.replace("0e", "3e"), &id('c')));
    let mut etcd = pod(
        "kube-system",
        &format!("etcd-{NODE}"),
        &A.replace("0e", "4e"),
        &id('d'),
    );
    etcd["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": HASH});
    etcd["metadata"]["ownerReferences"] =
        json!([{"kind": "Node", "name": NODE, "controller": true}]);
    api.apply(etcd);
    api.apply(json!({"metadata": {"name": "No Pod", "uid": "none"}}));

    let handle = bench.start();
    assert_eq!(handle.current().health.source, Source::Cluster);
    let view = until_up(&handle).await;
    assert_eq!(api.count(Ask::List), 3, "of two pods each");
    for (digit, pod, name) in [
        ('a', "web-7d4b-x2x9p", "main"),
        ('b', "many", "main"),
        ('8', "many", "main"),
        ('1', "many", "init"),
        ('2', "many", "sidecar"),
        ('3', "many", "debugger"),
        ('c', &*long, "main"),
        ('d', "etcd-gpu-node-1", "main"),
    ] {
        let container = container(&view, &id(digit)).unwrap();
        assert_eq!((&*container.pod.pod, &*container.container), (pod, name));
        assert!(container.from_status);
    }
    assert_eq!(view.names.containers.len(), 8);
    let web = status(&view, A).unwrap();
    assert_eq!(
        (&*web.workload.kind, &*web.workload.name),
        ("Deployment", "web")
    );
    assert_eq!(&*web.qos, "Burstable");
    let etcd = status(&view, HASH).unwrap();
    assert_eq!(
        (&*etcd.workload.kind, &*etcd.workload.name),
        ("StaticPod", "etcd")
    );
    assert_eq!(etcd.uid.as_str(), A.replace("0e", "4e"));
    assert_eq!(
        current(&view, "kube-system", "etcd-gpu-node-1").as_deref(),
        Some(HASH)
    );
    let node = view.node.value().unwrap();
    assert_eq!(node.labels.len(), 1);
    assert_eq!(node.capacity.get("nvidia.com/gpu"), Some(&4));
    assert!(view.health.errors.is_empty() && view.health.last_success.is_some());
    api.assert_least_rights();
}

#[tokio::test]
async fn changes_come_by_watch_and_a_watch_goes_on_where_it_ended() {
    let bench = Bench::new();
    let api = &bench.api;
    api.apply(pod("team-a", "db-0", A, &id('a')));
    let handle = bench.start();
    until_up(&handle).await;

    // A restart, of which the status has the newer two ids alone.
    api.apply(pod("team-a", "db-0", A, &id('b')));
    let view = until(&handle, "restarted", |view| {
        container(view, &id('b')).is_some()
    })
    .await;
    assert!(
        container(&view, &id('a')).is_some(),
        "a process of it may live on"
    );

    // Deleted, and made again under the same name.
    api.delete(A);
    let view = until(&handle, "deleted", |v| {
        current(v, "team-a", "db-0").is_none()
    })
    .await;
    assert_eq!(&*container(&view, &id('b')).unwrap().pod.pod, "db-0");
    api.apply(pod("team-a", "db-0", B, &id('c')));
    let is_new = |view: &ClusterView| current(view, "team-a", "db-0").as_deref() == Some(B);
    let view = until(&handle, "made again", is_new).await;
    assert_eq!(view.names.statuses.len(), 2);

    // What does not concern us changes nothing that readers hold.
    let mut noise = pod("team-a", "db-0", B, &id('c'));
    noise["status"]["conditions"] = json!([{"type": "Ready"}]);
    api.apply(noise);
    api.bookmark();
    api.end_watches();
    api.apply(pod("team-b", "late", A, &id('d')));
    until(&handle, "watched again", |view| {
        container(view, &id('d')).is_some()
    })
    .await;
    assert_eq!((api.count(Ask::List), api.count(Ask::Watch)), (1, 2));
    assert_eq!(handle.current().health.up, Reading::Value(()));
    api.assert_least_rights();
}

#[tokio::test]
async fn a_forgotten_version_makes_a_new_list_which_ends_what_is_gone() {
    let bench = Bench::new();
    let api = &bench.api;
    api.apply(pod("team-a", "one", A, &id('a')));
    let handle = bench.start();
    until_up(&handle).await;
    for by_line in [true, false] {
        let lists = api.count(Ask::List);
        let uid = if by_line { A } else { B };
        api.script().faults.insert(Ask::Watch, fake::Fault::Cut);
        api.end_watches();
        until(&handle, "down", |view| view.health.up.value().is_none()).await;
        api.delete(uid);
        api.apply(pod("team-a", "two", B, &id('b')));
        if by_line {
            api.script().faults.remove(&Ask::Watch);
            until(&handle, "followed", |v| {
                current(v, "team-a", "two").is_some()
            })
            .await;
            api.forget();
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410,
                "message": "too old resource version"}});
            api.line(&gone.to_string());
        } else {
            api.forget();
            api.script().faults.remove(&Ask::Watch);
        }
        until_listed(api, lists + 1).await;
        until_up(&handle).await;
    }
    let view = until(&handle, "ended", |view| {
        current(view, "team-a", "one").is_none()
    })
    .await;
    assert!(container(&view, &id('a')).is_some());
    assert_eq!(view.health.errors.get("expired"), None);
    api.assert_least_rights();
}

async fn until_listed(api: &FakeApi, times: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while api.count(Ask::List) < times {
        assert!(Instant::now() < deadline, "{} lists", api.count(Ask::List));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sixty_pods_made_and_deleted_are_all_named() {
    let bench = Bench::new();
    let api = &bench.api;
    let handle = bench.start();
    until_up(&handle).await;
    let ids: Vec<String> = (0..60).map(|n| format!("{n:064x}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let uid = format!("{n:08x}{}", &A[8..]);
        api.apply(pod("jobs", &format!("job-{n}"), &uid, id));
        api.delete(&uid);
    }
    let view = until(&handle, "the last", |view| {
        container(view, &ids[59]).is_some() && current(view, "jobs", "job-59").is_none()
    })
    .await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(&*container(&view, id).unwrap().pod.pod, format!("job-{n}"));
    }
    assert!(view.names.current.is_empty());
}

#[tokio::test]
async fn a_node_that_changes_is_read_again() {
    let bench = Bench::new();
    let handle = bench.start();
    let view = until_up(&handle).await;
    let before = view.node.value().unwrap().clone();
    let label = |value: &str| -> Value {
        json!({"metadata": {"labels": {"nvidia.com/mig.config": value}}})
    };
    bench.api.set_node(Some(label("all-1g.18gb")));
    let view = until(&handle, "changed", |view| {
        view.node.value() != Some(&before)
    })
    .await;
    let labels = &view.node.value().unwrap().labels;
    assert_eq!(
        labels.get("nvidia.com/mig.config").map(|v| &**v),
        Some("all-1g.18gb")
    );
    bench.api.set_node(None);
    let view = until(&handle, "unknown", |view| view.health.up.value().is_none()).await;
    assert!(
        view.health.detail.contains("no node \"gpu-node-1\""),
        "{}",
        view.health.detail
    );
    assert!(view.node.value().is_some(), "what was read stays");
}
