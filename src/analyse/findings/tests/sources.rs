//! The agent's own sources.

use super::*;
use crate::model::{Source, SourceHealth};

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
fn a_source_that_lacks_something_is_a_finding_at_once_and_none_at_once() {
    for (source, cause, code, mend) in [
        (
            Source::Host,
            Cause::PidNamespace,
            "host_pid_namespace_missing",
            "hostPID: true",
        ),
        (
            Source::Kubelet,
            Cause::PermissionDenied,
            "kubelet_socket_refused",
            "UID 0",
        ),
        (
            Source::Cluster,
            Cause::PermissionDenied,
            "cluster_access_refused",
            "ClusterRole",
        ),
        (
            Source::Cluster,
            Cause::NotFound,
            "cluster_not_asked",
            "SLICEWATCH_NODE_NAME",
        ),
        (
            Source::Nvml,
            Cause::NotFound,
            "nvml_library_missing",
            "runtimeClassName",
        ),
    ] {
        let mut watch = Watch::of([]);
        watch.snapshot.sources = vec![health(source, Reading::Failed(cause))];
        assert_eq!(watch.after(1), [code]);
        watch.assert_words(code, source.label(), &["words", mend]);
        watch.snapshot.sources = vec![health(source, Reading::Value(()))];
        assert!(watch.after(1).is_empty());
    }
}

#[test]
fn healthy_absent_and_otherwise_failed_sources_give_no_finding() {
    let mut watch = Watch::of([]);
    watch.snapshot.sources = vec![
        health(Source::Host, Reading::Value(())),
        health(Source::Kubelet, Reading::Unsupported),
        health(Source::Nvml, Reading::Failed(Cause::Timeout)),
        health(Source::Canary, Reading::Failed(Cause::NotFound)),
    ];
    assert!(watch.after(1).is_empty());
}
