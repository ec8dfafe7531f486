//! A snapshot with everything in it: a shared GPU, a lost one, MIG, unknown readings, and names
//! that would break a careless writer.

mod canary;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slicewatch::model::{
    BuildInfo, Bytes, CanaryReason, CanaryView, Cause, ContainerView, Evidence, Finding,
    GpuIdentity, GpuSeconds, GpuUuid, GpuView, HostPid, Memory, MigInstance, MigProfile, Moment,
    NodeFacts, Owner, PodUid, ProcessView, Reading, Refusal, Remainder, Severity, Sharing,
    SignedBytes, Snapshot, Source, SourceHealth, Workload, WorkloadTotal,
};
use slicewatch::publish::metrics::ProcessStats;

/// Quotes, a backslash, a newline, markup and an emoji.
pub(crate) const HOSTILE: &str = "we\"ird\\\n<b>🦀";

pub(crate) fn identity(index: &str, uuid: &str) -> GpuIdentity {
    GpuIdentity {
        uuid: GpuUuid::new(uuid),
        parent: None,
        index: index.into(),
        model: "NVIDIA H200".into(),
        minor: Some(0),
        pci_bus_id: "00000000:3B:00.0".into(),
        driver_version: "580.159.04".into(),
        mig_enabled: Some(false),
        mig: None,
        exclusive_process: false,
    }
}

/// A device that was seen and of which nothing is known now.
pub(crate) fn silent(identity: GpuIdentity, cause: Cause) -> GpuView {
    GpuView {
        identity: Arc::new(identity),
        up: Reading::Failed(cause),
        sharing: Sharing::TimeSlicing,
        memory: Reading::Failed(cause),
        used_peak: Reading::Failed(cause),
        pressure: Duration::from_millis(500),
        unattributed: Reading::Failed(cause),
        unexplained: Reading::Failed(cause),
        torn_windows: 0,
        replicas: Reading::Value(4),
        replicas_allocated: Reading::Value(1),
        tenants: Reading::Failed(cause),
        active_tenants: Reading::Failed(cause),
        disagreements: Reading::Failed(cause),
        busy: Reading::Value(GpuSeconds(17.5)),
        contended: Reading::Failed(cause),
        xids: BTreeMap::from([(31, 0), (79, 1)]),
        mig_profiles: Reading::Failed(cause),
        canary: CanaryView::off(CanaryReason::GpuDown),
        containers: Vec::new(),
        processes: Vec::new(),
    }
}

/// A container with a grant, resident and measured.
pub(crate) fn container(pod: &str, name: &str) -> ContainerView {
    ContainerView {
        namespace: "team-a".into(),
        pod: pod.into(),
        container: name.into(),
        pod_uid: Some(PodUid::new("6d0f2d5e-0000-4000-8000-000000000001")),
        qos: "Burstable".into(),
        workload: Workload {
            kind: "Deployment".into(),
            name: "train".into(),
        },
        evidence: Evidence::ContainerStatus,
        present: true,
        memory: Reading::Value(Bytes::gib(12)),
        memory_peak: Reading::Value(Bytes::gib(15)),
        fair_share: Reading::Value(Bytes::gib(35)),
        replicas: Reading::Value(1),
        processes: 2,
        gpu_time: Reading::Value(GpuSeconds(123.4)),
        gpu_samples: 617,
        active: Duration::from_millis(200_500),
        contended: Duration::from_millis(90_250),
        exits_under_pressure: 0,
        delay: Reading::Unsupported,
        claims: Vec::new(),
    }
}

/// A device with tenants whose canary gave its memory back after some probes.
fn yielded_gpu() -> GpuView {
    GpuView {
        up: Reading::Value(()),
        canary: canary::yielded(),
        ..silent(identity("3", "GPU-3333"), Cause::NotYet)
    }
}

/// A device whose first probe never came back.
fn stalled_gpu() -> GpuView {
    GpuView {
        up: Reading::Value(()),
        canary: canary::stalled(),
        ..silent(identity("4", "GPU-4444"), Cause::NotYet)
    }
}

fn shared_gpu() -> GpuView {
    let gone = ContainerView {
        delay: canary::delay(1.0, 0.5, 120.5),
        present: false,
        memory: Reading::Failed(Cause::ProcessGone),
        fair_share: Reading::Unsupported,
        exits_under_pressure: 1,
        ..container("killed-0", "main")
    };
    let before_restart = ContainerView {
        present: false,
        gpu_time: Reading::Value(GpuSeconds(1.0)),
        ..container("train-0", "cuda")
    };
    let granted_only = ContainerView {
        pod_uid: None,
        qos: "".into(),
        workload: Workload {
            kind: "".into(),
            name: "long".into(),
        },
        evidence: Evidence::Allocation,
        memory: Reading::Value(Bytes(0)),
        memory_peak: Reading::Value(Bytes(0)),
        processes: 0,
        gpu_time: Reading::Value(GpuSeconds(0.0)),
        gpu_samples: 0,
        active: Duration::ZERO,
        contended: Duration::ZERO,
        ..container(&"long-".repeat(60)[..253], "main")
    };
    let unknown_memory = ContainerView {
        namespace: HOSTILE.into(),
        memory: Reading::Failed(Cause::NotAvailable),
        memory_peak: Reading::Failed(Cause::NotAvailable),
        fair_share: Reading::Unsupported,
        replicas: Reading::Value(0),
        evidence: Evidence::ContainerLog,
        delay: canary::delay(2.5, 5.0, 590.0),
        ..container(HOSTILE, "")
    };
    let trainer = ContainerView {
        delay: canary::delay(10.0, 0.25, 500.25),
        ..container("train-0", "cuda")
    };
    GpuView {
        up: Reading::Value(()),
        memory: Reading::Value(Memory {
            total: Bytes::gib(141),
            reserved: Reading::Value(Bytes::mib(615)),
            used: Bytes::gib(13),
            free: Bytes::gib(127),
        }),
        used_peak: Reading::Value(Bytes::gib(16)),
        pressure: Duration::from_millis(1_250),
        unattributed: Reading::Value(
            Remainder::ALL
                .into_iter()
                .map(|reason| {
                    let bytes = match reason {
                        Remainder::HostProcess => Bytes::mib(512),
                        _ => Bytes(0),
                    };
                    (reason, bytes)
                })
                .collect(),
        ),
        unexplained: Reading::Value(SignedBytes(-(8 << 20))),
        torn_windows: 3,
        replicas_allocated: Reading::Value(3),
        tenants: Reading::Value(2),
        active_tenants: Reading::Value(2),
        disagreements: Reading::Value(1),
        busy: Reading::Value(GpuSeconds(190.25)),
        contended: Reading::Value(Duration::from_millis(90_250)),
        xids: BTreeMap::from([(31, 2), (79, 0)]),
        mig_profiles: Reading::Value(
            vec![MigProfile {
                profile: "1g.18gb".into(),
                memory: Bytes::gib(16),
                multiprocessors: 16,
                slices: 1,
                instances: 7,
            }]
            .into(),
        ),
        canary: canary::running(),
        containers: vec![trainer, before_restart, gone, granted_only, unknown_memory],
        processes: vec![
            ProcessView {
                pid: HostPid(4242),
                name: "python3".into(),
                memory: Reading::Value(Bytes::gib(12)),
                owner: Owner::Container(0),
            },
            ProcessView {
                pid: HostPid(17),
                name: "Xorg".into(),
                memory: Reading::Value(Bytes::mib(512)),
                owner: Owner::Unattributed(Remainder::HostProcess),
            },
        ],
        ..silent(identity("0", "GPU-0000"), Cause::NotYet)
    }
}

/// A MIG instance: memory is known, shares of time cannot be.
fn mig_instance() -> GpuView {
    let resident = ContainerView {
        gpu_time: Reading::Unsupported,
        gpu_samples: 0,
        active: Duration::ZERO,
        contended: Duration::ZERO,
        replicas: Reading::Failed(Cause::Timeout),
        ..container("slice-0", "main")
    };
    GpuView {
        up: Reading::Value(()),
        sharing: Sharing::None,
        memory: Reading::Value(Memory {
            total: Bytes::gib(16),
            reserved: Reading::Unsupported,
            used: Bytes::gib(12),
            free: Bytes::gib(4),
        }),
        used_peak: Reading::Value(Bytes::gib(15)),
        unattributed: Reading::Value(BTreeMap::new()),
        unexplained: Reading::Failed(Cause::Torn),
        replicas: Reading::Failed(Cause::Timeout),
        replicas_allocated: Reading::Failed(Cause::Timeout),
        tenants: Reading::Value(1),
        active_tenants: Reading::Unsupported,
        busy: Reading::Unsupported,
        contended: Reading::Unsupported,
        xids: BTreeMap::new(),
        mig_profiles: Reading::Unsupported,
        canary: CanaryView::off(CanaryReason::Mig),
        containers: vec![resident],
        ..silent(
            GpuIdentity {
                parent: Some(GpuUuid::new("GPU-2222")),
                mig_enabled: Some(true),
                mig: Some(MigInstance {
                    profile: "1g.18gb".into(),
                    gpu_instance: 7,
                    compute_instance: 0,
                }),
                ..identity("2:0", "MIG-2222-7")
            },
            Cause::NotYet,
        )
    }
}

fn mig_card() -> GpuView {
    GpuView {
        up: Reading::Value(()),
        sharing: Sharing::None,
        ..silent(
            GpuIdentity {
                mig_enabled: Some(true),
                ..identity("2", "GPU-2222")
            },
            Cause::NotYet,
        )
    }
}

fn health(source: Source, up: Reading<()>, detail: &str) -> SourceHealth {
    SourceHealth {
        source,
        up,
        detail: detail.into(),
        errors: BTreeMap::new(),
        duration: None,
        last_success: None,
    }
}

/// Sources that were all tried; the kubelet is away.
pub(crate) fn sources() -> Vec<SourceHealth> {
    vec![
        SourceHealth {
            duration: Some(Duration::from_micros(2_500)),
            last_success: Some(Duration::from_millis(1_795_255_384_250)),
            ..health(Source::Nvml, Reading::Value(()), "")
        },
        SourceHealth {
            errors: BTreeMap::from([("timeout".into(), 3)]),
            ..health(
                Source::Kubelet,
                Reading::Failed(Cause::Timeout),
                "no answer from /var/lib/kubelet/pod-resources/kubelet.sock <within> 5 s",
            )
        },
        health(Source::Host, Reading::Value(()), ""),
        health(
            Source::Canary,
            Reading::Failed(Cause::NotFound),
            "no libcuda.so.1: the container needs the driver capability compute",
        ),
    ]
}

/// An agent that has sources and no GPU.
pub(crate) fn empty() -> Snapshot {
    Snapshot {
        schema: slicewatch::model::snapshot::SCHEMA,
        at: Moment {
            monotonic: Duration::from_millis(100_500),
            unix: Duration::from_millis(1_795_255_384_500),
        },
        node: Some("node-1".into()),
        node_facts: Reading::Value(Arc::new(NodeFacts {
            labels: [(
                "nvidia.com/gpu.sharing-strategy".into(),
                "time-slicing".into(),
            )]
            .into(),
            capacity: [("nvidia.com/gpu".into(), 4)].into(),
            allocatable: [("nvidia.com/gpu".into(), 4)].into(),
        })),
        build: BuildInfo {
            version: "0.1.0".into(),
            rustc: "1.95.0".into(),
        },
        gpus: Vec::new(),
        mig_cards: Vec::new(),
        workloads: Vec::new(),
        sources: sources(),
        findings: Vec::new(),
        processes_attributed: 0,
        processes_unattributed: Remainder::ALL
            .into_iter()
            .map(|reason| (reason, 0))
            .collect(),
        refused_rows: BTreeMap::new(),
    }
}

/// Everything.
pub(crate) fn full() -> Snapshot {
    let mut snapshot = empty();
    snapshot.gpus = vec![
        shared_gpu(),
        silent(identity("1", "GPU-1111"), Cause::GpuLost),
        mig_instance(),
        yielded_gpu(),
        stalled_gpu(),
    ];
    snapshot.mig_cards = vec![mig_card()];
    snapshot.workloads = vec![WorkloadTotal {
        gpu_uuid: GpuUuid::new("GPU-0000"),
        namespace: "team-a".into(),
        workload: "train".into(),
        kind: "Job".into(),
        gpu_time: GpuSeconds(321.125),
    }];
    snapshot.findings = vec![Finding {
        code: "kubelet_silent".into(),
        severity: Severity::Warning,
        subject: "node-1".into(),
        evidence: "The kubelet <did> not answer.".into(),
        mend: "Mount /var/lib/kubelet/pod-resources into the agent.".into(),
    }];
    snapshot.processes_attributed = 4;
    snapshot
        .processes_unattributed
        .insert(Remainder::HostProcess, 1);
    snapshot.refused_rows = BTreeMap::from([(Refusal::UnknownPid.label().into(), 5)]);
    snapshot
}

/// Figures of a process that never changes.
pub(crate) fn process() -> ProcessStats {
    ProcessStats {
        cpu: Some(Duration::from_millis(12_340)),
        resident: Some(Bytes::mib(14)),
        virtual_memory: Some(Bytes::mib(200)),
        started: Some(Duration::from_secs(1_795_250_000)),
        open_fds: Some(12),
        max_fds: None,
        threads: Some(4),
    }
}
