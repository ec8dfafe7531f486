use super::fixture::{asking, pending, refused};
use super::*;
use crate::model::setup::{PodContainer, PodRead};

const GPU: &str = "nvidia.com/gpu";
const SHARED: &str = "nvidia.com/gpu.shared";

fn renamed(it: &mut World) {
    it.profile("renameByDefault: false", "renameByDefault: true");
    it.offer(SHARED, 8);
    it.label("nvidia.com/gpu.product", "Tesla-T4");
    it.pods.clear();
}

fn bare(mut pod: PodRead) -> PodRead {
    pod.controller = None;
    pod.template_hash = None;
    pod
}

fn of_kind(mut pod: PodRead, kind: &str) -> PodRead {
    pod.controller = Some(crate::model::setup::ControllerRef {
        kind: kind.into(),
        name: "it".into(),
    });
    pod.template_hash = None;
    pod
}

fn two_containers(mut pod: PodRead) -> PodRead {
    let mut second: PodContainer = pod.containers[0].clone();
    second.name = "second".into();
    second.index = 1;
    pod.containers.push(second);
    pod
}

#[test]
fn pods_against_what_is_offered() {
    try_all(
        operator,
        &[
            (
                "asks for the old name",
                |it| {
                    renamed(it);
                    it.pods.push(pending("web", GPU));
                },
                &["pending_on_zero_resource"],
            ),
            (
                "asks for the new name, and nothing is renamed",
                |it| it.pods.push(pending("web", SHARED)),
                &["pending_on_zero_resource"],
            ),
            (
                "waits because all are taken",
                |it| it.pods.push(pending("web", GPU)),
                &[],
            ),
            (
                "waits for something else",
                |it| {
                    renamed(it);
                    let mut pod = pending("web", GPU);
                    pod.unscheduled = Some("0/2 nodes are available: 2 Insufficient cpu.".into());
                    it.pods.push(pod);
                },
                &[],
            ),
            (
                "its selector fits no node",
                |it| {
                    renamed(it);
                    let mut pod = pending("web", GPU);
                    let selector = [("nvidia.com/gpu.product".into(), "A100".into())];
                    pod.node_selector = selector.into();
                    it.pods.push(pod);
                },
                &[],
            ),
            (
                "its selector leaves only nodes that are renamed",
                |it| {
                    it.node(1)
                        .labels
                        .insert("nvidia.com/pool".into(), "b".into());
                    it.node(1)
                        .labels
                        .insert("nvidia.com/device-plugin.config".into(), "whole".into());
                    it.node(1).capacity = super::fixture::amounts(GPU, 2);
                    it.node(1).allocatable = super::fixture::amounts(GPU, 2);
                    it.node(1)
                        .labels
                        .insert("nvidia.com/gpu.replicas".into(), "1".into());
                    it.node(1)
                        .labels
                        .insert("nvidia.com/gpu.product".into(), "Tesla-T4".into());
                    it.node(1)
                        .labels
                        .insert("nvidia.com/gpu.sharing-strategy".into(), "none".into());
                    let mut pod = pending("web", SHARED);
                    pod.node_selector = [("nvidia.com/pool".into(), "b".into())].into();
                    it.pods.push(pod);
                },
                &["pending_on_zero_resource"],
            ),
            (
                "the nodes are not known",
                |it| {
                    renamed(it);
                    it.pods.push(pending("web", GPU));
                    it.setup.only_nodes = vec!["gpu-1".into()];
                },
                &[],
            ),
            (
                "was refused two",
                |it| it.pods.push(refused("web", 2)),
                &["request_greater_than_one"],
            ),
            (
                "was refused for another reason",
                |it| {
                    let mut pod = refused("web", 2);
                    pod.message = Some("Allocate failed due to no healthy devices present".into());
                    it.pods.push(pod);
                },
                &[],
            ),
            (
                "runs with two",
                |it| it.pods.push(asking("web", "gpu-1", GPU, 2)),
                &["request_greater_than_one"],
            ),
            (
                "two containers with one each",
                |it| it.pods.push(two_containers(asking("web", "gpu-1", GPU, 1))),
                &["containers_request_one_each"],
            ),
            (
                "an init container and a main one",
                |it| {
                    let mut pod = two_containers(asking("web", "gpu-1", GPU, 1));
                    pod.containers[1].init = true;
                    it.pods.push(pod);
                },
                &[],
            ),
            (
                "of another resource",
                |it| {
                    it.pods.push(two_containers(asking(
                        "web",
                        "gpu-1",
                        "nvidia.com/other",
                        2,
                    )))
                },
                &[],
            ),
            (
                "two on a node that does not share yet, whatever its profile says",
                |it| {
                    it.offer(GPU, 2);
                    it.label("nvidia.com/gpu.replicas", "1");
                    it.label("nvidia.com/gpu.product", "Tesla-T4");
                    it.label("nvidia.com/gpu.sharing-strategy", "none");
                    it.pods.push(asking("web", "gpu-1", GPU, 2));
                },
                &["sharing_not_in_force"],
            ),
            (
                "has ended",
                |it| {
                    let mut pod = asking("web", "gpu-1", GPU, 2);
                    pod.phase = "Succeeded".into();
                    it.pods.push(pod);
                },
                &[],
            ),
            (
                "two whole ones",
                |it| {
                    it.node(0)
                        .labels
                        .insert("nvidia.com/device-plugin.config".into(), "whole".into());
                    it.node(0).capacity = super::fixture::amounts(GPU, 2);
                    it.node(0).allocatable = super::fixture::amounts(GPU, 2);
                    it.node(0)
                        .labels
                        .insert("nvidia.com/gpu.replicas".into(), "1".into());
                    it.node(0)
                        .labels
                        .insert("nvidia.com/gpu.product".into(), "Tesla-T4".into());
                    it.node(0)
                        .labels
                        .insert("nvidia.com/gpu.sharing-strategy".into(), "none".into());
                    it.pods.push(two_containers(asking("web", "gpu-1", GPU, 2)));
                },
                &[],
            ),
        ],
    );
}

/// Limits and requests of one container of the Deployment.
fn patch(container: &str, amounts: &str) -> String {
    format!(
        r#"kubectl -n team patch deployment web -p '{{"spec":{{"template":{{"spec":{{"containers":[{{"name":"{container}","resources":{{"limits":{amounts},"requests":{amounts}}}}}]}}}}}}}}'"#
    )
}

#[test]
fn a_deployment_is_patched() {
    let old_name = |it: &mut World| {
        renamed(it);
        it.pods.push(pending("web", GPU));
    };
    let it = the_one(operator(), old_name, "pending_on_zero_resource");
    assert_eq!(
        (it.object.kind.as_str(), it.object.name.as_str()),
        ("Deployment", "web")
    );
    assert_eq!(
        it.mend,
        [patch(
            "main",
            r#"{"nvidia.com/gpu":null,"nvidia.com/gpu.shared":"1"}"#
        )]
    );
    let it = the_one(
        operator(),
        |it| it.pods.push(refused("web", 2)),
        "request_greater_than_one",
    );
    assert_eq!(it.severity, Severity::Error);
    assert_eq!(
        it.mend,
        [
            patch("main", r#"{"nvidia.com/gpu":"1"}"#),
            "kubectl -n team delete pods --field-selector status.phase=Failed -l \
             pod-template-hash=7d4b9c8f6d"
                .to_owned(),
        ]
    );
    let running = |it: &mut World| it.pods.push(asking("web", "gpu-1", GPU, 3));
    let it = the_one(operator(), running, "request_greater_than_one");
    assert_eq!(
        (it.severity, it.found.as_deref()),
        (Severity::Warning, Some("3"))
    );
    let two = |it: &mut World| it.pods.push(two_containers(asking("web", "gpu-1", GPU, 1)));
    let it = the_one(operator(), two, "containers_request_one_each");
    assert_eq!(it.mend, [patch("second", r#"{"nvidia.com/gpu":null}"#)]);
}

#[test]
fn what_makes_a_pod_decides_the_mend() {
    let mend = |pod: PodRead| {
        let change = |it: &mut World| {
            renamed(it);
            it.pods.push(pod);
        };
        the_one(operator(), change, "pending_on_zero_resource").mend
    };
    assert_eq!(
        mend(bare(pending("web", GPU))),
        [
            r#"kubectl -n team get pod web-7d4b9c8f6d-x2x9p -o json | sed -e '/"nodeName":/d' -e 's#"nvidia\.com/gpu":#"nvidia.com/gpu.shared":#' | kubectl replace --force -f -"#
        ]
    );
    let set = mend(of_kind(pending("web", GPU), "StatefulSet"));
    assert!(
        set[0].starts_with("kubectl -n team patch statefulset it -p "),
        "{set:?}"
    );
    assert_eq!(set[1], "kubectl -n team delete pod web-7d4b9c8f6d-x2x9p");
    assert_eq!(mend(of_kind(pending("web", GPU), "DaemonSet")).len(), 1);
    // A Job's template cannot be changed.
    assert_eq!(mend(of_kind(pending("web", GPU), "Job")), [""; 0]);
}

#[test]
fn pods_of_one_controller_are_one_finding() {
    let many = |it: &mut World| {
        for number in (0..300).rev() {
            let mut pod = refused("web", 2);
            pod.name = format!("web-7d4b9c8f6d-{number:03}");
            it.pods.push(pod);
        }
        let mut other = refused("job", 2);
        other.node = Some("gpu-2".into());
        it.pods.push(other);
    };
    let found = of_code(operator(), many, "request_greater_than_one");
    assert_eq!(found.len(), 2);
    let web = found.iter().find(|it| it.object.name == "web").unwrap();
    assert!(
        web.words
            .starts_with("300 pods, such as team/web-7d4b9c8f6d-000,"),
        "{}",
        web.words
    );
    assert_eq!(web.node.as_deref(), Some("gpu-1"));
}

#[test]
fn bare_pods_without_end_are_counted() {
    let many = |it: &mut World| {
        for number in 0..MAX_OF_A_CODE + 50 {
            let mut pod = bare(refused("web", 2));
            pod.name = format!("web-{number:03}");
            it.pods.push(pod);
        }
    };
    let mut world = operator();
    many(&mut world);
    let forward = world.report();
    assert_eq!(forward.findings.len(), MAX_OF_A_CODE);
    assert_eq!(forward.left_out, [("request_greater_than_one", 50)].into());
    world.pods.reverse();
    assert_eq!(world.report(), forward);
}
