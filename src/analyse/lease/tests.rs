use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{BuildInfo, CanaryView, GpuIdentity, HostPid, MigInstance, ProcessView};

const POD_A: Owner = Owner::Container(0);
const POD_B: Owner = Owner::Container(1);
const HOST: Owner = Owner::Unattributed(Remainder::HostProcess);
const CANARY: Owner = Owner::Unattributed(Remainder::Canary);

/// 100 GiB: the floor is at 5 GiB, a canary leaves at 5.25 and comes at 8.
const TOTAL: Bytes = Bytes::gib(100);
const PLENTY: Reading<Memory> = free(Bytes::gib(50));
const UNKNOWN: Cause = Cause::Torn;

const fn free(free: Bytes) -> Reading<Memory> {
    Reading::Value(Memory {
        total: TOTAL,
        reserved: Reading::Value(Bytes(0)),
        used: Bytes(TOTAL.0 - free.0),
        free,
    })
}

fn at(seconds: f64) -> Moment {
    Moment::default().later(Duration::from_secs_f64(seconds))
}

/// A card with four replicas, two pods and half of its framebuffer free.
fn card() -> GpuView {
    let identity = GpuIdentity {
        uuid: GpuUuid::new("GPU-0"),
        parent: None,
        index: "0".into(),
        model: "NVIDIA H200".into(),
        minor: Some(0),
        pci_bus_id: "".into(),
        driver_version: "580".into(),
        mig_enabled: Some(false),
        mig: None,
        exclusive_process: false,
    };
    let unknown = Reading::Unsupported;
    GpuView {
        identity: Arc::new(identity),
        up: Reading::Value(()),
        sharing: Sharing::TimeSlicing,
        memory: PLENTY,
        used_peak: Reading::Unsupported,
        pressure: Duration::ZERO,
        unattributed: Reading::Value(BTreeMap::new()),
        unexplained: Reading::Unsupported,
        torn_windows: 0,
        replicas: Reading::Value(4),
        replicas_allocated: unknown,
        tenants: Reading::Value(2),
        active_tenants: unknown,
        disagreements: unknown,
        busy: Reading::Unsupported,
        contended: Reading::Unsupported,
        xids: BTreeMap::new(),
        mig_profiles: Reading::Unsupported,
        canary: CanaryView::off(CanaryReason::NotYet),
        containers: Vec::new(),
        processes: processes(&[POD_A, POD_B]),
    }
}

fn processes(owners: &[Owner]) -> Vec<ProcessView> {
    owners
        .iter()
        .zip(1..)
        .map(|(owner, pid)| ProcessView {
            pid: HostPid(pid),
            name: "".into(),
            memory: Reading::Unsupported,
            owner: *owner,
        })
        .collect()
}

fn snapshot(now: Moment, gpus: Vec<GpuView>) -> Snapshot {
    Snapshot {
        schema: 1,
        at: now,
        node: None,
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

impl Leases {
    /// What is decided of one card.
    fn of(&mut self, now: f64, gpu: &GpuView) -> (CanaryState, CanaryReason) {
        let wishes = self.decide(&snapshot(at(now), vec![gpu.clone()]));
        assert_eq!(wishes.len(), 1);
        assert_eq!(wishes[0].gpu, gpu.identity.uuid);
        (wishes[0].state, wishes[0].reason)
    }
}

fn mode(mode: CanaryMode) -> Leases {
    Leases::new(LeaseSettings {
        mode,
        ..LeaseSettings::default()
    })
}

fn edited(edit: impl FnOnce(&mut GpuView)) -> GpuView {
    let mut gpu = card();
    edit(&mut gpu);
    gpu
}

fn identity(edit: impl FnOnce(&mut GpuIdentity)) -> GpuView {
    edited(|gpu| edit(Arc::make_mut(&mut gpu.identity)))
}

const RUNS: (CanaryState, CanaryReason) = (CanaryState::Running, CanaryReason::Shared);
const YIELDS: (CanaryState, CanaryReason) = (CanaryState::Yielded, CanaryReason::LowMemory);

const fn off(reason: CanaryReason) -> (CanaryState, CanaryReason) {
    (CanaryState::Off, reason)
}

#[test]
fn each_rule_decides_alone() {
    use CanaryMode::{Always, Auto, Off};
    use CanaryReason as Why;
    let forced = (CanaryState::Running, Why::Forced);
    let owners = |owners: &[Owner]| edited(|gpu| gpu.processes = processes(owners));
    let unshared = |owners: &[Owner]| {
        edited(|gpu| {
            gpu.replicas = Reading::Value(1);
            gpu.processes = processes(owners);
        })
    };
    let instance = || {
        identity(|it| {
            it.parent = Some(GpuUuid::new("GPU-card"));
            it.mig = Some(MigInstance {
                profile: "1g.18gb".into(),
                gpu_instance: 1,
                compute_instance: 0,
            });
        })
    };
    let failed = Reading::Failed(Cause::GpuLost);
    let cases = [
        ("shared", Auto, card(), RUNS),
        ("one of four replicas used", Auto, owners(&[POD_A]), RUNS),
        ("switched off", Off, card(), off(Why::Disabled)),
        (
            "lost",
            Auto,
            edited(|gpu| gpu.up = failed),
            off(Why::GpuDown),
        ),
        (
            "not heard yet",
            Auto,
            edited(|gpu| gpu.up = Reading::Failed(Cause::NotYet)),
            off(Why::NotYet),
        ),
        (
            "one process allowed",
            Always,
            identity(|it| it.exclusive_process = true),
            off(Why::ExclusiveProcess),
        ),
        ("instance not chosen", Always, instance(), off(Why::Mig)),
        (
            "MPS",
            Always,
            edited(|gpu| gpu.sharing = Sharing::Mps),
            off(Why::Mps),
        ),
        ("nobody", Auto, owners(&[]), off(Why::NoTenant)),
        ("nobody, forced", Always, owners(&[]), off(Why::NoTenant)),
        (
            "only canaries",
            Auto,
            owners(&[CANARY, CANARY]),
            off(Why::NoTenant),
        ),
        (
            "one, unshared",
            Auto,
            unshared(&[POD_A]),
            off(Why::NotShared),
        ),
        (
            "one pod twice",
            Auto,
            unshared(&[POD_A, POD_A, CANARY]),
            off(Why::NotShared),
        ),
        ("one, forced", Always, unshared(&[POD_A]), forced),
        ("two on one replica", Auto, unshared(&[POD_A, POD_B]), RUNS),
        ("pod and host", Auto, unshared(&[HOST, POD_A]), RUNS),
        ("two of the host", Auto, unshared(&[HOST, HOST]), RUNS),
        (
            "no kubelet, one process",
            Auto,
            edited(|gpu| {
                gpu.replicas = Reading::Unsupported;
                gpu.processes = processes(&[HOST]);
            }),
            off(Why::NotShared),
        ),
        (
            "silent kubelet, one process",
            Auto,
            edited(|gpu| {
                gpu.replicas = Reading::Failed(Cause::Stale);
                gpu.processes = processes(&[POD_A]);
            }),
            off(Why::NotShared),
        ),
        (
            "no list",
            Auto,
            edited(|gpu| {
                gpu.tenants = Reading::Failed(UNKNOWN);
                gpu.processes.clear();
            }),
            off(Why::NotYet),
        ),
        (
            "memory unknown",
            Auto,
            edited(|gpu| gpu.memory = Reading::Failed(UNKNOWN)),
            off(Why::NotYet),
        ),
        (
            "memory short",
            Auto,
            edited(|gpu| gpu.memory = free(Bytes::gib(7))),
            YIELDS,
        ),
    ];
    for (name, with, gpu, expected) in cases {
        assert_eq!(mode(with).of(0.0, &gpu), expected, "{name}");
        // Also where one was running, unless what is known no more leaves it there.
        let mut leases = mode(with);
        leases.of(0.0, &card());
        let after = leases.of(60.0, &gpu);
        let stays = matches!(
            name,
            "silent kubelet, one process" | "no list" | "memory short"
        );
        match stays && after.0 == CanaryState::Running {
            true => assert_eq!(after, RUNS, "{name}, running before"),
            false => assert_eq!(after, expected, "{name}, running before"),
        }
    }
}

#[test]
fn what_is_chosen_or_asked_for_runs() {
    let mut leases = Leases::new(LeaseSettings {
        under_mps: true,
        mig_instances: vec![GpuUuid::new("GPU-0")],
        ..LeaseSettings::default()
    });
    let gpu = identity(|it| it.parent = Some(GpuUuid::new("GPU-card")));
    assert_eq!(leases.of(0.0, &gpu), RUNS);
    let gpu = edited(|gpu| gpu.sharing = Sharing::Mps);
    assert_eq!(leases.of(1.0, &gpu), RUNS);
}

#[test]
fn it_stays_a_while_after_its_tenants_and_comes_at_once() {
    let nobody = edited(|gpu| gpu.processes = processes(&[CANARY]));
    let mut leases = mode(CanaryMode::Auto);
    assert_eq!(leases.of(0.0, &nobody), off(CanaryReason::NoTenant));
    assert_eq!(leases.of(1.0, &card()), RUNS);
    assert_eq!(leases.of(2.0, &nobody), RUNS);
    assert_eq!(leases.of(10.9, &nobody), RUNS);
    assert_eq!(leases.of(11.0, &nobody), off(CanaryReason::NoTenant));
    assert_eq!(leases.of(12.0, &card()), RUNS);
    let alone = edited(|gpu| {
        gpu.replicas = Reading::Value(1);
        gpu.processes = processes(&[POD_A]);
    });
    assert_eq!(leases.of(21.9, &alone), RUNS);
    assert_eq!(leases.of(22.0, &alone), off(CanaryReason::NotShared));
}

#[test]
fn it_leaves_before_its_memory_is_needed_and_comes_back_when_all_is_calm() {
    let with = |memory| edited(|gpu| gpu.memory = free(memory));
    let leaves = Bytes::gib(5) + Bytes::mib(254);
    let comes = leaves + Bytes::mib(254) + Bytes(TOTAL.0 / 40);
    let mut leases = mode(CanaryMode::Auto);
    assert_eq!(leases.of(0.0, &with(comes)), RUNS);
    assert_eq!(leases.of(1.0, &with(leaves)), RUNS);
    assert_eq!(leases.of(2.0, &with(Bytes(leaves.0 - 1))), YIELDS);
    assert_eq!(leases.of(3.0, &with(Bytes(comes.0 - 1))), YIELDS);
    assert_eq!(leases.of(4.0, &with(comes)), YIELDS);
    assert_eq!(leases.of(33.0, &with(comes)), YIELDS);
    // Once too little, and the time runs anew.
    assert_eq!(leases.of(33.5, &with(Bytes::gib(6))), YIELDS);
    assert_eq!(leases.of(35.0, &with(comes)), YIELDS);
    assert_eq!(leases.of(64.0, &with(comes)), YIELDS);
    assert_eq!(leases.of(65.0, &with(comes)), RUNS);
}

#[test]
fn memory_that_is_not_known_keeps_it_for_five_seconds() {
    let blind = edited(|gpu| gpu.memory = Reading::Failed(UNKNOWN));
    let mut leases = mode(CanaryMode::Auto);
    assert_eq!(leases.of(0.0, &card()), RUNS);
    assert_eq!(leases.of(4.9, &blind), RUNS);
    assert_eq!(leases.of(5.0, &blind), off(CanaryReason::NotYet));
    assert_eq!(leases.of(6.0, &card()), YIELDS);
    assert_eq!(leases.of(36.0, &card()), RUNS);
}

#[test]
fn a_device_that_is_gone_is_forgotten() {
    let mut leases = mode(CanaryMode::Auto);
    leases.of(0.0, &card());
    assert!(leases.decide(&snapshot(at(1.0), Vec::new())).is_empty());
    assert!(leases.devices.is_empty());
}

/// Any card, mostly well.
fn any_card() -> impl Strategy<Value = GpuView> {
    let often = |value: bool| prop::bool::weighted(if value { 0.9 } else { 0.1 });
    (
        often(true),
        often(false),
        often(false),
        prop::sample::select(vec![
            vec![],
            vec![CANARY],
            vec![POD_A, CANARY],
            vec![POD_A, POD_B],
            vec![HOST],
        ]),
        prop::sample::select(vec![
            Reading::Value(1),
            Reading::Value(4),
            Reading::Failed(UNKNOWN),
        ]),
        often(true),
        prop::sample::select(vec![4_u64, 6, 20, 20, 20, 0]),
    )
        .prop_map(|(up, exclusive, mps, owners, replicas, listed, gib)| {
            edited(|gpu| {
                Arc::make_mut(&mut gpu.identity).exclusive_process = exclusive;
                gpu.up = match up {
                    true => Reading::Value(()),
                    false => Reading::Failed(Cause::GpuLost),
                };
                if mps {
                    gpu.sharing = Sharing::Mps;
                }
                gpu.processes = processes(&owners);
                gpu.replicas = replicas;
                gpu.memory = match gib {
                    0 => Reading::Failed(UNKNOWN),
                    gib => free(Bytes::gib(gib)),
                };
                if !listed {
                    gpu.tenants = Reading::Failed(UNKNOWN);
                    gpu.processes.clear();
                }
            })
        })
}

proptest! {
    /// Whatever a card shows, and for however long: a canary runs nowhere that a rule forbids,
    /// never with too little memory free, and never longer than it may without a tenant.
    #[test]
    fn it_never_runs_where_a_rule_forbids_it(
        steps in prop::collection::vec((any_card(), 0.5..12.0_f64), 1..60),
    ) {
        let mut leases = mode(CanaryMode::Auto);
        let (mut now, mut last_tenant) = (0.0, f64::NEG_INFINITY);
        let mut running = false;
        for (gpu, step) in steps {
            now += step;
            let known = gpu.tenants.value().is_some();
            if gpu.processes.iter().any(|process| process.owner != CANARY) {
                last_tenant = now;
            }
            let before = std::mem::replace(
                &mut running,
                leases.of(now, &gpu).0 == CanaryState::Running,
            );
            if !running {
                continue;
            }
            prop_assert!(gpu.up.value().is_some());
            prop_assert!(!gpu.identity.exclusive_process && gpu.sharing != Sharing::Mps);
            prop_assert!(before || known, "started without a list");
            prop_assert!(!known || now - last_tenant < LINGER.as_secs_f64());
            match gpu.memory.value() {
                Some(memory) => {
                    let least = Bytes::gib(if before { 5 } else { 8 });
                    prop_assert!(memory.free >= least);
                }
                None => prop_assert!(before, "started without knowing the memory"),
            }
        }
    }

    /// Whatever a card shows: between giving its memory back and its next start there are 30 s at
    /// least, and one that goes for want of tenants was there for 10 s.
    #[test]
    fn it_does_not_flap(
        steps in prop::collection::vec((any_card(), 0.5..12.0_f64), 1..120),
    ) {
        let mut leases = mode(CanaryMode::Auto);
        let (mut now, mut started, mut yielded) = (0.0, 0.0, f64::NEG_INFINITY);
        let mut running = false;
        for (gpu, step) in steps {
            now += step;
            let (state, reason) = leases.of(now, &gpu);
            let before = std::mem::replace(&mut running, state == CanaryState::Running);
            if running && !before {
                started = now;
                prop_assert!(now - yielded >= CALM.as_secs_f64());
            }
            if state == CanaryState::Yielded {
                if before {
                    yielded = now;
                }
            } else if before && [CanaryReason::NoTenant, CanaryReason::NotShared].contains(&reason) {
                prop_assert!(now - started >= LINGER.as_secs_f64());
            }
        }
    }
}
