use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::snapshot::{Evidence, Owner};
use crate::model::{
    BuildInfo, Bytes, CanaryReason, CanaryView, Cause, ContainerView, GpuIdentity, GpuSeconds,
    GpuUuid, GpuView, HostPid, Memory, Moment, NodeFacts, ProcessView, Reading, Severity, Sharing,
    Workload,
};

mod flicker;
mod memory;
mod neighbours;
mod node;
mod shares;
mod sources;

const UNKNOWN: Cause = Cause::Stale;

/// A card of 80 GiB with four replicas, 20 GiB each, and nobody on it.
fn gpu(uuid: &str) -> GpuView {
    let identity = GpuIdentity {
        uuid: GpuUuid::new(uuid),
        parent: None,
        index: "0".into(),
        model: "NVIDIA H100".into(),
        minor: None,
        pci_bus_id: "".into(),
        driver_version: "".into(),
        mig_enabled: Some(false),
        mig: None,
        exclusive_process: false,
    };
    GpuView {
        identity: Arc::new(identity),
        up: Reading::Value(()),
        sharing: Sharing::TimeSlicing,
        memory: Reading::Value(Memory {
            total: Bytes::gib(80),
            reserved: Reading::Value(Bytes(0)),
            used: Bytes::gib(40),
            free: Bytes::gib(40),
        }),
        used_peak: Reading::Value(Bytes::gib(40)),
        pressure: Duration::ZERO,
        unattributed: Reading::Value(BTreeMap::new()),
        unexplained: Reading::Unsupported,
        torn_windows: 0,
        replicas: Reading::Value(4),
        replicas_allocated: Reading::Value(0),
        tenants: Reading::Value(0),
        active_tenants: Reading::Value(0),
        disagreements: Reading::Value(0),
        busy: Reading::Value(GpuSeconds(0.0)),
        contended: Reading::Value(Duration::ZERO),
        xids: BTreeMap::new(),
        mig_profiles: Reading::Unsupported,
        canary: CanaryView::off(CanaryReason::NotYet),
        containers: Vec::new(),
        processes: Vec::new(),
    }
}

/// A container `main` with one replica and one process of 1 GiB. Pods are `namespace/name`.
fn row(pod: &str) -> ContainerView {
    let (namespace, pod) = pod.split_once('/').unwrap();
    ContainerView {
        namespace: namespace.into(),
        pod: pod.into(),
        container: "main".into(),
        pod_uid: None,
        qos: "".into(),
        workload: Workload {
            kind: "Deployment".into(),
            name: pod.into(),
        },
        evidence: Evidence::ContainerStatus,
        present: true,
        memory: Reading::Value(Bytes::gib(1)),
        memory_peak: Reading::Value(Bytes::gib(1)),
        fair_share: Reading::Value(Bytes::gib(20)),
        replicas: Reading::Value(1),
        processes: 1,
        gpu_time: Reading::Value(GpuSeconds(0.0)),
        gpu_samples: 0,
        active: Duration::ZERO,
        contended: Duration::ZERO,
        exits_under_pressure: 0,
        delay: Reading::Unsupported,
        claims: Vec::new(),
    }
}

/// A card with these rows, in the order of names.
fn shared(rows: impl IntoIterator<Item = ContainerView>) -> GpuView {
    let containers: Vec<ContainerView> = rows.into_iter().collect();
    let granted = containers.iter().filter_map(|row| row.replicas.copied());
    GpuView {
        replicas_allocated: Reading::Value(granted.sum()),
        tenants: Reading::Value(containers.len() as u32),
        containers,
        ..gpu("GPU-0")
    }
}

fn process(name: &str, owner: Owner) -> ProcessView {
    ProcessView {
        pid: HostPid(7),
        name: name.into(),
        memory: Reading::Value(Bytes::gib(2)),
        owner,
    }
}

fn snapshot(gpus: Vec<GpuView>) -> Snapshot {
    Snapshot {
        schema: 1,
        at: Moment::default(),
        node: Some("node-1".into()),
        node_facts: Reading::Unsupported,
        build: BuildInfo {
            version: "".into(),
            rustc: "".into(),
        },
        gpus,
        mig_cards: Vec::new(),
        workloads: Vec::new(),
        sources: Vec::new(),
        findings: Vec::new(),
        processes_attributed: 0,
        processes_unattributed: BTreeMap::new(),
        refused_rows: BTreeMap::new(),
    }
}

/// Labels and allocatable, which is the capacity.
fn facts(labels: &[(&str, &str)], allocatable: &[(&str, u64)]) -> Reading<Arc<NodeFacts>> {
    let labels = labels
        .iter()
        .map(|(name, is)| ((*name).into(), (*is).into()));
    let counts = allocatable.iter().map(|(name, is)| ((*name).into(), *is));
    let counts: BTreeMap<_, _> = counts.collect();
    Reading::Value(Arc::new(NodeFacts {
        labels: labels.collect(),
        capacity: counts.clone(),
        allocatable: counts,
    }))
}

/// Findings over time, one snapshot a second.
struct Watch {
    findings: Findings,
    snapshot: Snapshot,
    found: Vec<Finding>,
}

impl Watch {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            findings: Findings::default(),
            snapshot,
            found: Vec::new(),
        }
    }

    /// Of a node with these cards.
    fn of(gpus: impl IntoIterator<Item = GpuView>) -> Self {
        Self::new(snapshot(gpus.into_iter().collect()))
    }

    /// The codes after so many seconds more.
    fn after(&mut self, seconds: u64) -> Vec<&str> {
        for _ in 0..seconds {
            self.snapshot.at = self.snapshot.at.later(Duration::from_secs(1));
            self.found = self.findings.judge(&self.snapshot);
        }
        self.found.iter().map(|finding| &*finding.code).collect()
    }

    /// The one finding of a code.
    fn one(&self, code: &str) -> &Finding {
        let mut found = self.found.iter().filter(|finding| &*finding.code == code);
        let one = found.next().unwrap_or_else(|| panic!("{:?}", self.found));
        assert!(found.next().is_none(), "{:?}", self.found);
        one
    }

    /// Asserts subject and words of the one finding of a code.
    fn assert_words(&self, code: &str, subject: &str, words: &[&str]) {
        let finding = self.one(code);
        assert_eq!(&*finding.subject, subject);
        let text = format!("{} | {}", finding.evidence, finding.mend);
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
    }
}

/// After long enough for every rule but that of a pod alone.
const WHILE: u64 = 600;

#[test]
fn a_node_in_order_gives_nothing() {
    let mut watch = Watch::of([shared([row("a/one"), row("a/two")])]);
    watch.snapshot.node_facts = facts(
        &[
            ("nvidia.com/gpu.count", "1"),
            ("nvidia.com/gpu.replicas", "4"),
            ("nvidia.com/gpu.product", "NVIDIA-H100-SHARED"),
            ("nvidia.com/gpu.sharing-strategy", "time-slicing"),
        ],
        &[("nvidia.com/gpu", 4)],
    );
    assert!(watch.after(2 * WHILE).is_empty(), "{:?}", watch.found);
}

#[test]
fn a_node_of_which_nothing_is_known_gives_nothing() {
    let failed = Reading::Failed(UNKNOWN);
    let blind = |row: ContainerView| ContainerView {
        memory: failed.map(|()| Bytes(0)),
        memory_peak: failed.map(|()| Bytes(0)),
        fair_share: failed.map(|()| Bytes(0)),
        replicas: failed.map(|()| 0),
        gpu_time: failed.map(|()| GpuSeconds(0.0)),
        exits_under_pressure: 3,
        ..row
    };
    let gpu = GpuView {
        up: failed,
        sharing: Sharing::Unknown,
        memory: Reading::Failed(UNKNOWN),
        used_peak: Reading::Failed(UNKNOWN),
        replicas: failed.map(|()| 0),
        replicas_allocated: failed.map(|()| 0),
        tenants: failed.map(|()| 0),
        ..shared([blind(row("a/one")), blind(row("b/two"))])
    };
    let card = Arc::new(GpuIdentity {
        mig_enabled: Some(true),
        ..GpuIdentity::clone(&gpu.identity)
    });
    let mut watch = Watch::of([gpu.clone()]);
    watch.snapshot.mig_cards = vec![GpuView {
        identity: card,
        ..gpu
    }];
    for facts in [Reading::Failed(UNKNOWN), Reading::Unsupported] {
        watch.snapshot.node_facts = facts;
        assert!(watch.after(WHILE).is_empty(), "{:?}", watch.found);
    }
}
