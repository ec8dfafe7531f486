//! Snapshots that no ledger should make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use slicewatch::model::{
    Bytes, CanaryReason, CanaryState, CanaryView, Cause, ContainerDelay, ContainerView,
    DELAY_BOUNDS, DelayHistogram, DelayPair, DelayRemainder, DelaySeconds, Finding, GpuIdentity,
    GpuSeconds, GpuUuid, GpuView, Memory, MigProfile, NativeBuckets, PodUid, Quantiles, Reading,
    Remainder, Severity, Snapshot, Source, SourceHealth, Weight, Workload, WorkloadTotal,
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

/// Seconds of waiting.
fn waiting() -> impl Strategy<Value = DelaySeconds> {
    seconds().prop_map(|seconds| DelaySeconds(seconds.0))
}

prop_compose! {
    fn container_delay()(
        inflicted in waiting(),
        exposed in waiting(),
        exposed_probes in seconds(),
        turn in any::<Option<Duration>>(),
    ) -> ContainerDelay {
        let exposed_probes = exposed_probes.0;
        ContainerDelay { inflicted, exposed, exposed_probes, turn, weight: Weight::Share }
    }
}

prop_compose! {
    fn quantiles()(probes in any::<u64>(), delays in any::<[Duration; 4]>()) -> Quantiles {
        let [mean, p50, p90, p99] = delays;
        Quantiles { probes, mean, p50, p90, p99 }
    }
}

prop_compose! {
    /// Native buckets with gaps, of as many probes as the classic ones or not.
    fn delays()(
        counts in any::<[u32; DELAY_BOUNDS.len() + 1]>(),
        sum in waiting(),
        native in proptest::option::of((btree_map(-64..64i32, any::<u32>(), 0..12), any::<bool>())),
    ) -> DelayHistogram {
        let counts = counts.map(u64::from);
        let count: u64 = counts.iter().sum();
        let native = native.map(|(positive, right)| {
            let positive: BTreeMap<i32, u64> = positive
                .into_iter()
                .map(|(number, probes)| (number, probes.into()))
                .collect();
            let above: u64 = positive.values().sum();
            let zero_count = if right { count.saturating_sub(above) } else { 0 };
            NativeBuckets { schema: 3, zero_threshold: 1e-6, zero_count, positive }
        });
        DelayHistogram { counts, sum, native }
    }
}

prop_compose! {
    fn canary()(
        state in select(&CanaryState::ALL[..]),
        reason in select(&[CanaryReason::Shared, CanaryReason::Disabled, CanaryReason::LowMemory][..]),
        delays in reading(delays()),
        recent in reading(quantiles()),
        baseline in reading(quantiles()),
        stall in reading(any::<Duration>()),
        missed in any::<u64>(),
        clock_error in any::<Option<Duration>>(),
        unattributed in btree_map(select(&DelayRemainder::ALL[..]), waiting(), 0..4),
        pairs in vec((0..8usize, 0..8usize, waiting(), seconds()), 0..5),
    ) -> CanaryView {
        let pairs = pairs.into_iter().map(|(victim, aggressor, delay, probes)| {
            DelayPair { victim, aggressor, delay, probes: probes.0 }
        });
        CanaryView {
            state,
            reason,
            delays,
            recent,
            baseline,
            stall,
            missed,
            clock_error,
            unattributed,
            pairs: pairs.collect(),
        }
    }
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
        delay in reading(container_delay()),
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
            delay,
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
        canary in canary(),
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
            canary,
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
        source in select(&[Source::Nvml, Source::Kubelet, Source::Host, Source::Canary][..]),
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
