//! Posture rules: what a person should mend, from what the agent itself can see.

use std::sync::Arc;

use crate::model::{Cause, Finding, Reading, Severity, Source, SourceHealth};

/// Findings that the sources' health implies, sorted.
pub fn findings(sources: &[SourceHealth]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = sources.iter().filter_map(from_source).collect();
    findings.sort();
    findings
}

fn from_source(health: &SourceHealth) -> Option<Finding> {
    let Reading::Failed(cause) = health.up else {
        return None;
    };
    let finding = |code: &str, severity, mend: &str| Finding {
        code: code.into(),
        severity,
        subject: health.source.label().into(),
        evidence: Arc::clone(&health.detail),
        mend: mend.into(),
    };
    match (health.source, cause) {
        (Source::Host, Cause::PidNamespace) => Some(finding(
            "host_pid_namespace_missing",
            Severity::Error,
            "set hostPID: true on the agent's pod; without it no process can be attributed. Under \
             kind, whose node is itself a container, start the agent with \
             --assume-host-pid-namespace",
        )),
        (Source::Kubelet, Cause::PermissionDenied) => Some(finding(
            "kubelet_socket_refused",
            Severity::Warning,
            "run the agent as UID 0 (no capability is needed) or grant it the socket's group",
        )),
        (Source::Cluster, Cause::PermissionDenied) => Some(finding(
            "cluster_access_refused",
            Severity::Warning,
            "bind the agent's service account to a ClusterRole with the verbs list and watch on pods \
             and get on nodes; without it owners and static pods are not known, and names come from \
             the log folders",
        )),
        (Source::Cluster, Cause::NotFound) => Some(finding(
            "cluster_not_asked",
            Severity::Warning,
            "set SLICEWATCH_NODE_NAME from the pod's field spec.nodeName and \
             automountServiceAccountToken: true, or --kubeconfig none to do without the API server",
        )),
        (Source::Nvml, Cause::NotFound) => Some(finding(
            "nvml_library_missing",
            Severity::Error,
            "give the pod the driver: runtimeClassName nvidia with NVIDIA_VISIBLE_DEVICES=all, or \
             --nvml-library with the path of libnvidia-ml.so.1",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn health(source: Source, up: Reading<()>) -> SourceHealth {
        SourceHealth {
            source,
            up,
            detail: "words".into(),
            errors: BTreeMap::new(),
            duration: None,
            last_success: None,
        }
    }

    #[test]
    fn a_foreign_pid_namespace_is_an_error_with_its_mend() {
        let found = findings(&[health(Source::Host, Reading::Failed(Cause::PidNamespace))]);
        assert_eq!(&*found[0].code, "host_pid_namespace_missing");
        assert_eq!(found[0].severity, Severity::Error);
        assert!(found[0].mend.contains("hostPID"));
    }

    #[test]
    fn healthy_and_absent_sources_give_no_finding() {
        assert!(
            findings(&[
                health(Source::Host, Reading::Value(())),
                health(Source::Kubelet, Reading::Unsupported),
            ])
            .is_empty()
        );
    }
}
