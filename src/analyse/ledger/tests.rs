use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::{
    BuildInfo, Bytes, CgroupIdentity, ContainerAllocation, ContainerId, ContainerName, ContextKind,
    DeviceRef, DeviceWindow, Drain, DrainRow, GpuSeconds, Grant, HostPid, ListedProcess, Memory,
    PodName, PodUid, ProcessFacts, ProcessKey, ProcessList, Snapshot, Source, SourceHealth,
    StartTime, XidEvent,
};

mod delay;
mod status;
mod unknown;

/// A card of 1,000 bytes, 100 of them reserved, and pods `a` and `b` with a process each.
struct Bench {
    ledger: Ledger,
    names: PodNames,
    allocations: Reading<Arc<Allocations>>,
    card: Arc<GpuIdentity>,
    second: u64,
    pods: BTreeMap<u32, (&'static str, u64)>,
    under_floor: Duration,
    sources: Vec<SourceHealth>,
    /// Delivered with the next step.
    canaries: Vec<CanaryWindow>,
}

fn facts(pid: u32, pod: &str) -> Reading<Arc<ProcessFacts>> {
    Reading::Value(Arc::new(ProcessFacts {
        key: ProcessKey {
            pid: HostPid(pid),
            started: StartTime(u64::from(pid)),
        },
        name: "python3".into(),
        cgroup: CgroupIdentity {
            pod_uid: Some(PodUid::new(format!("uid-{pod}"))),
            container_id: Some(ContainerId::new(format!("container-{pod}"))),
        },
    }))
}

fn identity() -> GpuIdentity {
    GpuIdentity {
        uuid: GpuUuid::new("GPU-1"),
        parent: None,
        index: "0".into(),
        model: "Test".into(),
        minor: Some(0),
        pci_bus_id: "00000000:01:00.0".into(),
        driver_version: "1".into(),
        mig_enabled: Some(false),
        mig: None,
        exclusive_process: false,
    }
}

fn granted(pods: &[(&str, u32)], replicas: u32) -> Reading<Arc<Allocations>> {
    let device = DeviceRef::Uuid(GpuUuid::new("GPU-1"));
    let grant = |replicas| Grant {
        resource: "nvidia.com/gpu".into(),
        device: device.clone(),
        replicas,
        shared: true,
    };
    Reading::Value(Arc::new(Allocations {
        containers: pods
            .iter()
            .map(|(pod, replicas)| ContainerAllocation {
                namespace: "ml".into(),
                pod: (*pod).into(),
                container: "main".into(),
                grants: vec![grant(*replicas)],
                claims: Vec::new(),
            })
            .collect(),
        allocatable: [(device.clone(), grant(replicas))].into(),
    }))
}

impl Bench {
    fn new() -> Self {
        let mut names = PodNames::default();
        for pod in ["a", "b"] {
            let name = PodName {
                namespace: "ml".into(),
                pod: pod.into(),
            };
            names
                .pods
                .insert(PodUid::new(format!("uid-{pod}")), name.clone());
            names.containers.insert(
                ContainerId::new(format!("container-{pod}")),
                ContainerName {
                    pod: name,
                    container: "main".into(),
                    from_status: false,
                },
            );
        }
        Self {
            ledger: Ledger::new(),
            names,
            allocations: Reading::Unsupported,
            card: Arc::new(identity()),
            second: 0,
            pods: BTreeMap::new(),
            under_floor: Duration::ZERO,
            sources: Vec::new(),
            canaries: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment {
            monotonic: Duration::from_secs(self.second),
            unix: Duration::from_secs(1_000_000 + self.second),
        }
    }

    fn window(&self, drain: Option<Reading<Drain>>) -> GpuWindow {
        let used = Bytes(self.pods.values().map(|(_, used)| used).sum());
        let memory = Memory {
            total: Bytes(1000),
            reserved: Reading::Value(Bytes(100)),
            used,
            free: Bytes(900).saturating_sub(used),
        };
        GpuWindow {
            card: Arc::clone(&self.card),
            from: self.now(),
            to: self.now(),
            up: Reading::Value(()),
            devices: vec![DeviceWindow {
                identity: Arc::clone(&self.card),
                memory: Reading::Value(memory),
                used_peak: Reading::Value(used),
                under_floor: self.under_floor,
                lists: vec![ProcessList {
                    at: self.now(),
                    memory,
                    torn: false,
                    complete: true,
                    processes: self
                        .pods
                        .iter()
                        .map(|(pid, (pod, used))| ListedProcess {
                            pid: HostPid(*pid),
                            kind: ContextKind::Compute,
                            used: Reading::Value(Bytes(*used)),
                            facts: facts(*pid, pod),
                        })
                        .collect(),
                }],
                lists_failed: None,
                torn: 0,
            }],
            drain,
            xids: Vec::new(),
            mig_profiles: Reading::Unsupported,
        }
    }

    fn step_with(&mut self, drain: Option<Reading<Drain>>) -> Snapshot {
        self.second += 1;
        let window = self.window(drain);
        self.observe(vec![window], Vec::new())
    }

    fn step(&mut self) -> Snapshot {
        self.step_with(None)
    }

    fn observe(
        &mut self,
        windows: Vec<GpuWindow>,
        silent: Vec<(Arc<GpuIdentity>, Cause)>,
    ) -> Snapshot {
        let now = self.now();
        self.ledger.observe(
            &NodeSample {
                at: now,
                windows,
                silent,
                canaries: std::mem::take(&mut self.canaries),
            },
            &self.allocations,
            &self.names,
        );
        let build = BuildInfo {
            version: "0".into(),
            rustc: "0".into(),
        };
        self.ledger.snapshot(now, None, build, self.sources.clone())
    }
}

fn drain(rows: &[(u32, &str, f64)]) -> Option<Reading<Drain>> {
    Some(Reading::Value(Drain {
        covered: Duration::from_secs(3),
        samples: 15,
        busy_samples: 10,
        busy: GpuSeconds(2.0),
        rows: rows
            .iter()
            .map(|(pid, pod, time)| DrainRow {
                pid: HostPid(*pid),
                facts: facts(*pid, pod),
                time: GpuSeconds(*time),
                samples: (time * 5.0) as u32,
                inferred: false,
            })
            .collect(),
        refused: BTreeMap::new(),
    }))
}

fn container<'a>(snapshot: &'a Snapshot, pod: &str) -> Option<&'a crate::model::ContainerView> {
    snapshot
        .gpus
        .first()?
        .containers
        .iter()
        .find(|container| &*container.pod == pod)
}

#[test]
fn a_granted_pod_without_a_process_holds_zero_and_an_ungranted_one_is_a_disagreement() {
    let mut bench = Bench::new();
    bench.allocations = granted(&[("a", 2)], 4);
    bench.pods.insert(11, ("b", 300));
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(
        (a.memory, a.replicas),
        (Reading::Value(Bytes(0)), Reading::Value(2))
    );
    assert_eq!(a.fair_share, Reading::Value(Bytes(450)));
    let b = container(&snapshot, "b").unwrap();
    assert_eq!(
        (b.memory, b.replicas),
        (Reading::Value(Bytes(300)), Reading::Value(0))
    );
    assert_eq!(b.fair_share, Reading::Unsupported);
    let gpu = &snapshot.gpus[0];
    assert_eq!(gpu.disagreements, Reading::Value(1));
    assert_eq!(
        (gpu.replicas, gpu.replicas_allocated),
        (Reading::Value(4), Reading::Value(2))
    );
    assert_eq!(gpu.tenants, Reading::Value(1));
    assert_eq!(gpu.sharing, crate::model::Sharing::TimeSlicing);
}

#[test]
fn a_granted_pod_is_not_known_to_hold_nothing_while_a_process_has_no_owner() {
    let mut bench = Bench::new();
    bench.allocations = granted(&[("a", 1)], 4);
    bench.pods.insert(12, ("nobody-knows", 50));
    let snapshot = bench.step();
    assert_eq!(
        container(&snapshot, "a").unwrap().memory,
        Reading::Failed(Cause::NotAvailable)
    );
    // Nor that it received no time.
    let snapshot = bench.step_with(drain(&[(12, "nobody-knows", 1.0)]));
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.gpu_time, Reading::Failed(Cause::NotAvailable));
}

#[test]
fn while_the_kubelet_is_silent_replicas_are_unknown_and_residence_goes_on() {
    let mut bench = Bench::new();
    bench.allocations = granted(&[("a", 1)], 4);
    bench.pods.insert(11, ("a", 300));
    bench.step();
    bench.allocations = Reading::Failed(Cause::Stale);
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(
        (a.replicas, a.fair_share),
        (Reading::Failed(Cause::Stale), Reading::Failed(Cause::Stale))
    );
    assert_eq!(a.memory, Reading::Value(Bytes(300)));
    assert_eq!(snapshot.gpus[0].replicas, Reading::Failed(Cause::Stale));
}

#[test]
fn a_gone_containers_gauges_end_at_once_and_its_counters_and_peak_75_s_later() {
    let mut bench = Bench::new();
    bench.pods.insert(11, ("a", 700));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    bench.pods.clear();
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert!(!a.present);
    assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(2.0)));
    assert_eq!(a.memory_peak, Reading::Value(Bytes(700)));
    bench.second += 72;
    assert!(container(&bench.step(), "a").is_some());
    bench.second += 2;
    assert!(container(&bench.step(), "a").is_none());
    assert_eq!(bench.step().workloads.len(), 1);
}

#[test]
fn a_pod_recreated_under_the_same_name_starts_from_zero() {
    let mut bench = Bench::new();
    bench.pods.insert(11, ("a", 700));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    let name = PodName {
        namespace: "ml".into(),
        pod: "a".into(),
    };
    bench
        .names
        .pods
        .insert(PodUid::new("uid-new"), name.clone());
    bench.names.containers.insert(
        ContainerId::new("container-new"),
        ContainerName {
            pod: name,
            container: "main".into(),
            from_status: false,
        },
    );
    bench.pods = [(12, ("new", 5))].into();
    let snapshot = bench.step();
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(0.0)));
    assert_eq!(a.memory_peak, Reading::Value(Bytes(5)));
    assert_eq!(snapshot.gpus[0].containers.len(), 1);
}

#[test]
fn two_active_pods_contend_and_one_alone_does_not() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1)), (12, ("b", 1))].into();
    // Of ten busy samples six and four: as if they had shared all ten, and b eight of them.
    bench.step_with(drain(&[(11, "a", 1.2), (12, "b", 0.8)]));
    let snapshot = bench.step_with(drain(&[(11, "a", 2.0)]));
    let seconds = |tenths: u64| Duration::from_millis(100 * tenths);
    let a = container(&snapshot, "a").unwrap();
    assert_eq!((a.active, a.contended), (seconds(40), seconds(16)));
    let b = container(&snapshot, "b").unwrap();
    assert_eq!((b.active, b.contended), (seconds(16), seconds(16)));
    let gpu = &snapshot.gpus[0];
    assert_eq!(gpu.contended, Reading::Value(seconds(16)));
    assert_eq!(gpu.busy, Reading::Value(GpuSeconds(4.0)));
    assert_eq!(gpu.active_tenants, Reading::Value(1));
}

#[test]
fn an_exit_counts_only_under_pressure() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1)), (12, ("a", 1)), (13, ("a", 1))].into();
    bench.step();
    bench.pods.remove(&11);
    assert_eq!(
        container(&bench.step(), "a").unwrap().exits_under_pressure,
        0
    );
    bench.under_floor = Duration::from_millis(300);
    bench.pods.remove(&12);
    let snapshot = bench.step();
    assert_eq!(container(&snapshot, "a").unwrap().exits_under_pressure, 1);
    assert_eq!(snapshot.gpus[0].pressure, Duration::from_millis(300));
}

#[test]
fn a_silent_card_keeps_its_counters_and_shows_no_gauge() {
    let mut bench = Bench::new();
    bench.pods.insert(11, ("a", 700));
    bench.step_with(drain(&[(11, "a", 2.0)]));
    bench.second += 1;
    let card = Arc::clone(&bench.card);
    let snapshot = bench.observe(Vec::new(), vec![(card, Cause::GpuLost)]);
    let gpu = &snapshot.gpus[0];
    assert_eq!(gpu.up, Reading::Failed(Cause::GpuLost));
    assert_eq!(gpu.memory, Reading::Failed(Cause::GpuLost));
    assert_eq!(gpu.tenants, Reading::Failed(Cause::GpuLost));
    assert_eq!(gpu.unexplained, Reading::Failed(Cause::GpuLost));
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(a.memory, Reading::Failed(Cause::GpuLost));
    assert_eq!(a.gpu_time, Reading::Value(GpuSeconds(2.0)));
}

#[test]
fn a_card_that_says_nothing_for_five_seconds_is_stale() {
    let mut bench = Bench::new();
    bench.step();
    bench.second += 6;
    let snapshot = bench.observe(Vec::new(), Vec::new());
    assert_eq!(snapshot.gpus[0].up, Reading::Failed(Cause::Stale));
}

#[test]
fn under_mps_no_share_of_time_is_told() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1)), (12, ("b", 1))].into();
    let mut window = bench.window(drain(&[(11, "a", 2.0)]));
    for process in &mut window.devices[0].lists[0].processes {
        process.kind = ContextKind::Mps;
    }
    let snapshot = bench.observe(vec![window], Vec::new());
    assert_eq!(
        container(&snapshot, "a").unwrap().gpu_time,
        Reading::Unsupported
    );
    assert_eq!(snapshot.gpus[0].busy, Reading::Value(GpuSeconds(2.0)));
    assert_eq!(snapshot.gpus[0].sharing, crate::model::Sharing::Mps);
}

#[test]
fn known_xids_start_at_zero_and_count() {
    let mut bench = Bench::new();
    let mut window = bench.window(None);
    window.xids = vec![
        XidEvent { xid: 31 },
        XidEvent { xid: 31 },
        XidEvent { xid: 777 },
    ];
    let snapshot = bench.observe(vec![window], Vec::new());
    let xids = &snapshot.gpus[0].xids;
    assert_eq!((xids[&31], xids[&777], xids[&79]), (2, 1, 0));
}

#[test]
fn a_mig_enabled_card_shows_its_instances_and_stands_apart() {
    let mut bench = Bench::new();
    let card = Arc::new(GpuIdentity {
        mig_enabled: Some(true),
        ..identity()
    });
    let instance = Arc::new(GpuIdentity {
        uuid: GpuUuid::new("MIG-1"),
        parent: Some(card.uuid.clone()),
        index: "0:0".into(),
        ..identity()
    });
    let mut window = bench.window(Some(Reading::Unsupported));
    window.card = card;
    window.devices[0].identity = instance;
    let snapshot = bench.observe(vec![window], Vec::new());
    assert_eq!(snapshot.gpus.len(), 1);
    assert_eq!(snapshot.gpus[0].identity.uuid.as_str(), "MIG-1");
    assert_eq!(snapshot.gpus[0].busy, Reading::Unsupported);
    assert_eq!(snapshot.mig_cards[0].identity.uuid.as_str(), "GPU-1");
    assert!(snapshot.gpus[0].xids.is_empty() && !snapshot.mig_cards[0].xids.is_empty());
}

proptest! {
    /// Counters never fall while a container is the same one, whatever order events arrive in:
    /// processes coming and going, drains, silence, a kubelet that comes and goes.
    #[test]
    fn counters_never_fall(events in proptest::collection::vec((0u8..6, 11u32..15), 1..60)) {
        let mut bench = Bench::new();
        let mut last: BTreeMap<String, (f64, u64, Duration, Duration, u64)> = BTreeMap::new();
        for (event, pid) in events {
            let pod = if pid % 2 == 0 { "a" } else { "b" };
            let snapshot = match event {
                0 => { bench.pods.insert(pid, (pod, 10)); bench.step() }
                1 => { bench.pods.remove(&pid); bench.under_floor = Duration::from_millis(1); bench.step() }
                2 => bench.step_with(drain(&[(pid, pod, 1.0)])),
                3 => {
                    bench.second += 1;
                    let card = Arc::clone(&bench.card);
                    bench.observe(Vec::new(), vec![(card, Cause::Hung)])
                }
                4 => { bench.allocations = granted(&[(pod, 1)], 4); bench.step() }
                _ => { bench.allocations = Reading::Failed(Cause::Stale); bench.step() }
            };
            let mut now = BTreeMap::new();
            for container in snapshot.gpus.iter().flat_map(|gpu| &gpu.containers) {
                let counters = (
                    container.gpu_time.copied().unwrap_or_default().0,
                    container.gpu_samples,
                    container.active,
                    container.contended,
                    container.exits_under_pressure,
                );
                if let (Some(before), true) = (last.get(&*container.pod), container.gpu_time.value().is_some()) {
                    prop_assert!(counters.0 >= before.0 && counters.1 >= before.1);
                    prop_assert!(counters.2 >= before.2 && counters.3 >= before.3 && counters.4 >= before.4);
                    prop_assert!(container.contended <= container.active);
                }
                now.insert(container.pod.to_string(), counters);
            }
            last = now;
        }
    }
}
