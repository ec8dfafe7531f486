//! How evidence and mends are put.

use std::fmt::Display;
use std::time::Duration;

use super::held::Subject;
use crate::model::{ContainerView, GpuView, NodeFacts, PodName, Snapshot};

/// Names told of a list; the others are counted.
const TOLD: usize = 4;

/// What makes plugin and feature discovery read their configuration again.
const RESTART: &str = "kubectl -n gpu-operator rollout restart \
     daemonset/nvidia-device-plugin-daemonset daemonset/gpu-feature-discovery";

/// [`RESTART`], by the operator's names.
pub(super) fn restart(snapshot: &Snapshot) -> String {
    with_operator(RESTART, snapshot)
}

/// A command with the names that the operator's objects mostly have, and where to learn others.
pub(super) fn with_operator(command: &str, snapshot: &Snapshot) -> String {
    format!(
        "with the operator: {command}; slicewatch check --node {} tells the exact one elsewhere",
        snapshot.node.as_deref().unwrap_or("NODE")
    )
}

/// `a, b, c, d and 3 more`.
pub(super) fn listed(names: impl IntoIterator<Item = impl Display>) -> String {
    let mut names = names.into_iter();
    let told: Vec<String> = names.by_ref().take(TOLD).map(|n| n.to_string()).collect();
    let told = told.join(", ");
    match names.count() {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// `namespace/pod`.
pub(super) fn pod(row: &ContainerView) -> String {
    format!("{}/{}", row.namespace, row.pod)
}

/// The row's pod as a subject.
pub(super) fn of_pod(row: &ContainerView) -> Subject {
    Subject::Pod(PodName {
        namespace: row.namespace.clone(),
        pod: row.pod.clone(),
    })
}

/// The device as a subject.
pub(super) fn of_gpu(gpu: &GpuView) -> Subject {
    Subject::Gpu(gpu.identity.uuid.clone())
}

/// The rows of each pod, which stand together.
pub(super) fn pods(gpu: &GpuView) -> impl Iterator<Item = &[ContainerView]> {
    let rows = gpu.containers.as_slice();
    rows.chunk_by(|a, b| (&a.namespace, &a.pod) == (&b.namespace, &b.pod))
}

/// Milliseconds, or microseconds where that is little.
pub(super) fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros < 1000.0 {
        true => format!("{micros:.0} us"),
        false => format!("{:.2} ms", micros / 1e3),
    }
}

/// The resource that pods ask for whole GPUs by on this node, where one alone is offered.
pub(super) fn whole_gpus(facts: Option<&NodeFacts>) -> Option<&'static str> {
    let offered = |name| facts.is_some_and(|facts| facts.allocatable.get(name) > Some(&0));
    match (offered("nvidia.com/gpu"), offered("nvidia.com/gpu.shared")) {
        (true, false) => Some("nvidia.com/gpu"),
        (false, true) => Some("nvidia.com/gpu.shared"),
        _ => None,
    }
}

/// The command that makes the row's workload ask for one replica in this container; in words where
/// its manifest cannot be mended in place, or is not known.
pub(super) fn ask_for_one(row: &ContainerView, resource: Option<&str>) -> String {
    let names = [&row.namespace, &row.workload.name, &row.container];
    let kind = match &*row.workload.kind {
        "Deployment" => Some("deployment"),
        "StatefulSet" => Some("statefulset"),
        "DaemonSet" => Some("daemonset"),
        _ => None,
    };
    match (kind, resource) {
        (Some(kind), Some(resource)) if names.iter().all(|name| is_plain(name)) => {
            let [namespace, workload, container] = names;
            format!(
                "kubectl -n {namespace} set resources {kind} {workload} -c {container} \
                 --requests={resource}=1 --limits={resource}=1"
            )
        }
        _ => format!(
            "ask for 1 in container {} of what makes {}; who needs two GPUs needs a node that does \
             not share",
            row.container,
            pod(row)
        ),
    }
}

/// Whether a name means itself to a shell.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !name.is_empty() && !name.starts_with('-') && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_counted() {
        assert_eq!(listed([1, 2, 3, 4]), "1, 2, 3, 4");
        assert_eq!(listed(1..=9), "1, 2, 3, 4 and 5 more");
    }

    #[test]
    fn only_plain_names_go_into_commands() {
        for (name, plain) in [("a-1.b", true), ("", false), ("-f", false), ("a;b", false)] {
            assert_eq!(is_plain(name), plain, "{name}");
        }
    }

    #[test]
    fn times_keep_three_digits() {
        assert_eq!(time(Duration::from_micros(18)), "18 us");
        assert_eq!(time(Duration::from_micros(1523)), "1.52 ms");
    }
}
