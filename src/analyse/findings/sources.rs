//! What the health of the agent's own sources implies.

use super::code::{
    CLUSTER_ACCESS_REFUSED, CLUSTER_NOT_ASKED, Code, HOST_PID_NAMESPACE_MISSING,
    KUBELET_SOCKET_REFUSED, NVML_LIBRARY_MISSING,
};
use super::held::{Seen, Subject, Verdict, Words};
use crate::model::{Cause, Reading, Snapshot, Source};

pub(super) fn look(snapshot: &Snapshot, seen: &mut Vec<Seen>) {
    for health in &snapshot.sources {
        let Reading::Failed(cause) = health.up else {
            continue;
        };
        if let Some((code, mend)) = implied(health.source, cause) {
            seen.push(Seen {
                code,
                subject: Subject::Source(health.source),
                verdict: Verdict::Holds(Words {
                    evidence: health.detail.clone(),
                    mend: mend.into(),
                }),
            });
        }
    }
}

fn implied(source: Source, cause: Cause) -> Option<(&'static Code, &'static str)> {
    match (source, cause) {
        (Source::Host, Cause::PidNamespace) => Some((
            &HOST_PID_NAMESPACE_MISSING,
            "set hostPID: true on the agent's pod; without it no process can be attributed. Under \
             kind, whose node is itself a container, start the agent with \
             --assume-host-pid-namespace",
        )),
        (Source::Kubelet, Cause::PermissionDenied) => Some((
            &KUBELET_SOCKET_REFUSED,
            "run the agent as UID 0 (no capability is needed) or grant it the socket's group",
        )),
        (Source::Cluster, Cause::PermissionDenied) => Some((
            &CLUSTER_ACCESS_REFUSED,
            "bind the agent's service account to a ClusterRole with the verbs list and watch on pods \
             and get on nodes; without it owners and static pods are not known, and names come from \
             the log folders",
        )),
        (Source::Cluster, Cause::NotFound) => Some((
            &CLUSTER_NOT_ASKED,
            "set SLICEWATCH_NODE_NAME from the pod's field spec.nodeName and \
             automountServiceAccountToken: true, or --kubeconfig none to do without the API server",
        )),
        (Source::Nvml, Cause::NotFound) => Some((
            &NVML_LIBRARY_MISSING,
            "give the pod the driver: runtimeClassName nvidia with NVIDIA_VISIBLE_DEVICES=all, or \
             --nvml-library with the path of libnvidia-ml.so.1",
        )),
        _ => None,
    }
}
