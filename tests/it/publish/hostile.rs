//! Snapshots that no ledger should make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use slicewatch::model::{
    Bytes, Cause, ContainerView, Finding, GpuIdentity, GpuSeconds, GpuUuid, GpuView, Memory,
    MigProfile, PodUid, Reading, Remainder, Severity, Snapshot, Source, SourceHealth, Workload,
    WorkloadTotal,
};
use slicewatch::publish::metrics::Format;
use slicewatch::publish::terminal;

use super::{body, example, parse, text_body};

fn name() -> impl Strategy<Value = Arc<str>> {
    const FEW: &[&str] = &[
        "a",
        "b",
        "",
        "\"",
        "\\",
        "\n",
        "a\",pod=\"b",
        "🦀",
        "\u{1b}[2J",
    ];
    prop_oneof![
        3 => select(FEW).prop_map(Arc::from),
        1 => "\\PC{0,12}".prop_map(Arc::from),
    ]
}

fn reading<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Reading<T>> {
    prop_oneof![
        3 => value.prop_map(Reading::Value),
        1 => Just(Reading::Unsupported),
        1 => Just(Reading::Failed(Cause::Torn)),
    ]
}

fn seconds() -> impl Strategy<Value = GpuSeconds> {
    prop_oneof![
        3 => 0.0..1e9,
        1 => select(&[f64::NAN, f64::INFINITY, 1e300, 5e-324][..]),
    ]
    .prop_map(GpuSeconds)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    any::<u64>().prop_map(Bytes)
}

prop_compose! {
    fn container()(
        namespace in name(),
        pod in name(),
        container in name(),
        present in any::<bool>(),
        memory in reading(bytes()),
        memory_peak in reading(bytes()),
        fair_share in reading(bytes()),
        gpu_time in reading(seconds()),
        gpu_samples in any::<u64>(),
        uid in name(),
        workload in name(),
        kind in name(),
    ) -> ContainerView {
        ContainerView {
            namespace,
            pod,
            container,
            present,
            memory,
            memory_peak,
            fair_share,
            gpu_time,
            gpu_samples,
            pod_uid: Some(PodUid::new(uid)),
            workload: Workload { kind, name: workload },
            ..example::container("", "")
        }
    }
}

prop_compose! {
    fn gpu()(
        uuid in select(&["GPU-a", "GPU-b", "GPU-\"\n"][..]),
        model in name(),
        up in reading(Just(())),
        memory in reading((bytes(), bytes()).prop_map(|(total, used)| Memory {
            total,
            reserved: Reading::Unsupported,
            used,
            free: Bytes(0),
        })),
        unattributed in reading(btree_map(select(&Remainder::ALL[..]), bytes(), 0..6)),
        pressure in any::<Duration>(),
        xids in btree_map(any::<u32>(), any::<u64>(), 0..4),
        profiles in vec(name(), 0..4),
        containers in vec(container(), 0..6),
        tenants in reading(any::<u32>()),
        busy in reading(seconds()),
    ) -> GpuView {
        let profiles: Vec<_> = profiles
            .into_iter()
            .map(|profile| MigProfile {
                profile,
                memory: Bytes(1),
                multiprocessors: 1,
                slices: 1,
                instances: 1,
            })
            .collect();
        GpuView {
            identity: Arc::new(GpuIdentity { model, ..example::identity("0", uuid) }),
            up,
            memory,
            unattributed,
            pressure,
            xids,
            mig_profiles: Reading::Value(profiles.into()),
            containers,
            tenants,
            busy,
            ..example::silent(example::identity("0", uuid), Cause::Other)
        }
    }
}

prop_compose! {
    fn workload()(
        uuid in select(&["GPU-a", "GPU-b"][..]),
        namespace in name(),
        workload in name(),
        kind in name(),
        gpu_time in seconds(),
    ) -> WorkloadTotal {
        WorkloadTotal { gpu_uuid: GpuUuid::new(uuid), namespace, workload, kind, gpu_time }
    }
}

prop_compose! {
    fn finding()(code in name(), subject in name(), evidence in name()) -> Finding {
        Finding { code, severity: Severity::Info, subject, mend: Arc::clone(&evidence), evidence }
    }
}

prop_compose! {
    fn source()(
        source in select(&[Source::Nvml, Source::Kubelet, Source::Host, Source::Cluster][..]),
        up in reading(Just(())),
        detail in name(),
        errors in btree_map(
            prop_oneof![name(), Just(Arc::from("row_out_of_range"))],
            any::<u64>(),
            0..3,
        ),
    ) -> SourceHealth {
        SourceHealth { source, up, detail, errors, duration: None, last_success: None }
    }
}

prop_compose! {
    fn snapshot()(
        gpus in vec(gpu(), 0..4),
        mig_cards in vec(gpu(), 0..3),
        workloads in vec(workload(), 0..6),
        findings in vec(finding(), 0..6),
        sources in vec(source(), 0..5),
        refused_rows in btree_map(
            prop_oneof![name(), Just(Arc::from("row_out_of_range"))],
            any::<u64>(),
            0..3,
        ),
        processes_unattributed in btree_map(select(&Remainder::ALL[..]), any::<u64>(), 0..6)
            .prop_map(BTreeMap::from),
        node in proptest::option::of(name()),
    ) -> Snapshot {
        Snapshot {
            gpus,
            mig_cards,
            workloads,
            findings,
            sources,
            refused_rows,
            processes_unattributed,
            node,
            ..example::empty()
        }
    }
}

proptest! {
    /// Whatever a snapshot holds, no series comes twice, every value is a number, and the three
    /// forms say the same.
    #[test]
    fn no_series_comes_twice(snapshot in snapshot()) {
        let text = parse::text(&text_body(snapshot.clone(), Format::Text));
        prop_assert!(text.is_ok(), "{:?}", text);
        let open = parse::openmetrics(&text_body(snapshot.clone(), Format::OpenMetrics));
        prop_assert_eq!(&text, &open);
        let proto = parse::protobuf(&body(snapshot, Format::Protobuf));
        prop_assert_eq!(&text, &proto);
    }

    /// Whatever a snapshot holds, its table has no control characters but line ends.
    #[test]
    fn no_name_steers_the_terminal(
        earlier in snapshot(),
        later in snapshot(),
        width in proptest::option::of(any::<u16>()),
    ) {
        let text = terminal::table_between(&earlier, &later, width);
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{}", text);
    }
}
