use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const UID: &str = "0e25dbd1-1fb5-4b34-b5f4-5b1f2d1b6b11";
const HASH: &str = "8d4a0b6a5c0d4f0e9a7b1c2d3e4f5a6b";

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn read(object: &Value) -> Option<Pod> {
    Pod::of(&serde_json::from_str(&object.to_string()).unwrap())
}

fn owned(pod: &str, hash: Option<&str>, owner: Option<(&str, &str)>) -> Workload {
    let object = json!({"metadata": {
        "namespace": "ml", "name": pod, "uid": UID,
        "labels": hash.map(|hash| json!({"pod-template-hash": hash})),
        "ownerReferences": owner.map(|(kind, name)| json!([
            {"kind": "Backup", "name": "other"},
            {"kind": kind, "name": name, "controller": true},
        ])),
    }});
    read(&object).unwrap().status.workload.clone()
}

#[test]
fn everything_that_is_kept_of_a_pod() {
    let pod = read(&json!({
        "metadata": {
            "namespace": "team-a", "name": "web-7d4b9c8f6d-x2x9p", "uid": UID,
            "resourceVersion": "17",
            "labels": {"pod-template-hash": "7d4b9c8f6d", "app": "web"},
            "annotations": {"a": "b"},
            "managedFields": [{"manager": "kubelet"}],
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d4b9c8f6d", "controller": true}],
        },
        "spec": {"nodeName": "n", "containers": [{"name": "main", "env": [{"name": "A", "value": "s"}]}]},
        "status": {
            "phase": "Running",
            "qosClass": "Burstable",
            "containerStatuses": [
                {"name": "main", "containerID": format!("containerd://{}", id('a')),
                 "lastState": {"terminated": {"containerID": format!("containerd://{}", id('9'))}}},
                {"name": "waiting", "containerID": "", "state": {"waiting": {}}},
                {"name": "pulling"},
            ],
            "initContainerStatuses": [
                {"name": "sidecar", "containerID": format!("cri-o://{}", id('b'))},
                {"name": "init", "state": {"terminated": {"containerID": format!("docker://{}", id('c'))}}},
            ],
            "ephemeralContainerStatuses": [
                {"name": "debugger", "containerID": format!("containerd://{}", id('d'))},
                {"name": "odd", "containerID": "containerd://../../etc"},
                {"name": "Odd name", "containerID": format!("containerd://{}", id('e'))},
            ],
        },
    }))
    .unwrap();
    assert_eq!((pod.uid.as_str(), &pod.host_uid), (UID, &pod.uid));
    assert_eq!(
        (&*pod.name.namespace, &*pod.name.pod),
        ("team-a", "web-7d4b9c8f6d-x2x9p")
    );
    assert_eq!(&*pod.status.qos, "Burstable");
    assert!(!pod.finished);
    let containers: Vec<(&str, &str)> = pod
        .containers
        .iter()
        .map(|(id, name)| (&id.as_str()[..1], &**name))
        .collect();
    assert_eq!(
        containers,
        [
            ("9", "main"),
            ("a", "main"),
            ("b", "sidecar"),
            ("c", "init"),
            ("d", "debugger")
        ]
    );
}

#[test]
fn owners() {
    let web = "web-7d4b9c8f6d-x2x9p";
    for (pod, hash, owner, kind, name) in [
        (
            web,
            Some("7d4b9c8f6d"),
            Some(("ReplicaSet", "web-7d4b9c8f6d")),
            "Deployment",
            "web",
        ),
        // A ReplicaSet of nobody, or of another controller: its name is its own.
        (
            web,
            None,
            Some(("ReplicaSet", "web-7d4b9c8f6d")),
            "ReplicaSet",
            "web-7d4b9c8f6d",
        ),
        (
            "web-x2x9p",
            Some("7d4"),
            Some(("ReplicaSet", "web")),
            "ReplicaSet",
            "web",
        ),
        ("a-x", Some(""), Some(("ReplicaSet", "a-")), "Pod", "a-x"),
        (
            "db-0",
            None,
            Some(("StatefulSet", "db")),
            "StatefulSet",
            "db",
        ),
        (
            "dcgm-x2x9p",
            None,
            Some(("DaemonSet", "dcgm")),
            "DaemonSet",
            "dcgm",
        ),
        ("train-x2x9p", None, Some(("Job", "train")), "Job", "train"),
        (
            "train-2-x2x9p",
            None,
            Some(("Job", "train-2")),
            "Job",
            "train-2",
        ),
        (
            "night-29389440-x2x9p",
            None,
            Some(("Job", "night-29389440")),
            "Job",
            "night",
        ),
        (
            "a-master-0",
            None,
            Some(("PyTorchJob", "a")),
            "PyTorchJob",
            "a",
        ),
        (
            "etcd-node-1",
            None,
            Some(("Node", "node-1")),
            "StaticPod",
            "etcd",
        ),
        ("notebook", None, None, "Pod", "notebook"),
        (
            "notebook",
            None,
            Some(("Kind", "Not A Name")),
            "Pod",
            "notebook",
        ),
    ] {
        let workload = owned(pod, hash, owner);
        assert_eq!(
            (&*workload.kind, &*workload.name),
            (kind, name),
            "{pod} {owner:?}"
        );
    }
    let long = "k".repeat(64);
    assert_eq!(&*owned("p", None, Some((&long, "x"))).kind, "Pod");
    // Of several owners the controller alone counts.
    let object = json!({"metadata": {"namespace": "ml", "name": "p", "uid": UID,
        "ownerReferences": [{"kind": "Backup", "name": "b", "controller": false}]}});
    assert_eq!(&*read(&object).unwrap().status.workload.kind, "Pod");
}

#[test]
fn a_static_pod_has_the_kubelets_uid_on_the_host() {
    let pod = read(&json!({"metadata": {
        "namespace": "kube-system", "name": "etcd-node-1", "uid": UID,
        "annotations": {
            "kubernetes.io/config.mirror": HASH, "kubernetes.io/config.hash": HASH,
            "kubernetes.io/config.source": "file",
        },
    }}))
    .unwrap();
    assert_eq!((pod.uid.as_str(), pod.host_uid.as_str()), (UID, HASH));
    assert_eq!(pod.status.uid.as_str(), UID);
}

#[test]
fn what_is_not_of_kubernetes_form_is_no_pod() {
    let long = "p".repeat(253);
    let longer = "p".repeat(254);
    for (namespace, name, uid, is_pod) in [
        ("ml", "p", UID, true),
        ("ml", &*long, UID, true),
        ("ml", &*longer, UID, false),
        ("ml", "P", UID, false),
        ("ml", "a\nb", UID, false),
        ("m.l", "p", UID, false),
        ("", "p", UID, false),
        ("ml", "", UID, false),
        ("ml", "p", "", false),
        ("ml", "p", "../../x", false),
    ] {
        let object = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
        assert_eq!(read(&object).is_some(), is_pod, "{object}");
    }
    for object in [
        json!({}),
        json!({"metadata": {"resourceVersion": "5"}}),
        json!({"status": null}),
    ] {
        assert_eq!(read(&object), None);
    }
}

#[test]
fn nulls_are_as_good_as_nothing() {
    let object = json!({
        "metadata": {"namespace": "ml", "name": "p", "uid": UID, "labels": null,
            "annotations": null, "ownerReferences": null},
        "status": {"phase": "Succeeded", "containerStatuses": null, "initContainerStatuses": [
            {"name": "init", "state": null, "lastState": {"terminated": null}},
        ]},
    });
    let pod = read(&object).unwrap();
    assert!(pod.finished && pod.containers.is_empty());
}

proptest! {
    /// No JSON makes reading a pod panic.
    #[test]
    fn never_panics(text in "(?s).{0,200}", name in "(?s).{0,40}", id in "(?s).{0,80}") {
        let _ = serde_json::from_str::<PodObject>(&text);
        let object = json!({
            "metadata": {"namespace": name, "name": name, "uid": id,
                "ownerReferences": [{"kind": name, "name": name, "controller": true}]},
            "status": {"containerStatuses": [{"name": name, "containerID": id}]},
        });
        let _ = read(&object);
    }
}
