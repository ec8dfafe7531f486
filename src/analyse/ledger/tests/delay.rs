//! What probes waited, from the canary to the snapshot.

use super::*;
use crate::model::snapshot::Owner;
use crate::model::{CanaryReason, CanaryState, ContainerDelay, DelayRemainder, Probe, Remainder};

/// The canary's worker, in the cgroup of a pod (the agent's own).
const WORKER: u32 = 99;

fn canary(bench: &Bench, delays_ms: &[f64]) -> CanaryWindow {
    let probe = |delay: &f64| Probe {
        launched: Duration::from_millis(1000 * bench.second + 500),
        delay: Duration::from_secs_f64(delay * 1e-3),
        started: true,
    };
    CanaryWindow {
        gpu: GpuUuid::new("GPU-1"),
        state: CanaryState::Running,
        reason: CanaryReason::Shared,
        probes: delays_ms.iter().map(probe).collect(),
        missed: 0,
        waiting: Some(Duration::ZERO),
        clock_error: None,
        workers: vec![ProcessKey {
            pid: HostPid(WORKER),
            started: StartTime(u64::from(WORKER)),
        }],
    }
}

impl Bench {
    fn probes(&mut self, delays_ms: &[f64]) {
        self.canaries = vec![canary(self, delays_ms)];
    }
}

fn delay(snapshot: &Snapshot, pod: &str) -> Reading<ContainerDelay> {
    container(snapshot, pod).unwrap().delay
}

fn inflicted(snapshot: &Snapshot, pod: &str) -> f64 {
    delay(snapshot, pod).value().unwrap().inflicted.0
}

fn unattributed(snapshot: &Snapshot) -> f64 {
    let named = snapshot.gpus[0].canary.unattributed.values();
    named.map(|delay| delay.0).sum()
}

fn sum(snapshot: &Snapshot) -> f64 {
    snapshot.gpus[0]
        .canary
        .delays
        .value()
        .map_or(0.0, |delays| delays.sum.0)
}

#[test]
fn samples_that_the_canary_took_are_those_of_who_ran() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 300)), (12, ("b", 300)), (WORKER, ("agent", 254))].into();
    bench.probes(&[]);
    let time = |snapshot: &Snapshot, pod| {
        let container = container(snapshot, pod).unwrap();
        (container.gpu_time.value().unwrap().0, container.gpu_samples)
    };
    // In proportion to what each won; the number of samples stays what was won.
    let snapshot = bench.step_with(drain(&[
        (11, "a", 0.6),
        (12, "b", 0.3),
        (WORKER, "agent", 0.9),
    ]));
    let (of_a, samples) = time(&snapshot, "a");
    assert!((of_a - 1.2).abs() < 1e-9);
    assert!((time(&snapshot, "b").0 - 0.6).abs() < 1e-9);
    // Nobody won any, and either may have run: nobody's.
    bench.probes(&[]);
    let snapshot = bench.step_with(drain(&[(WORKER, "agent", 0.5)]));
    assert_eq!(time(&snapshot, "a"), (of_a, samples));
    // One that is alone had it all.
    bench.pods.remove(&12);
    bench.probes(&[]);
    let snapshot = bench.step_with(drain(&[(WORKER, "agent", 0.5)]));
    assert!((time(&snapshot, "a").0 - of_a - 0.5).abs() < 1e-9);
    assert_eq!(time(&snapshot, "a").1, samples);
}

#[test]
fn a_worker_is_no_tenant_and_its_time_is_the_tenants() {
    let mut bench = Bench::new();
    bench.allocations = granted(&[("b", 1)], 4);
    bench.pods = [(11, ("a", 300)), (WORKER, ("agent", 254))].into();
    bench.probes(&[]);
    let snapshot = bench.step_with(drain(&[(11, "a", 1.0), (WORKER, "agent", 0.2)]));
    let gpu = &snapshot.gpus[0];
    let held = gpu.unattributed.value().unwrap();
    assert_eq!(held, &[(Remainder::Canary, Bytes(254))].into());
    assert_eq!(
        (gpu.tenants, gpu.active_tenants),
        (Reading::Value(1), Reading::Value(1))
    );
    assert_eq!(gpu.contended, Reading::Value(Duration::ZERO));
    let a = container(&snapshot, "a").unwrap();
    assert_eq!(
        (a.active, a.contended),
        (Duration::from_millis(1200), Duration::ZERO)
    );
    // Every process is accounted for: the granted pod holds nothing.
    assert_eq!(
        container(&snapshot, "b").unwrap().memory,
        Reading::Value(Bytes(0))
    );
    assert!(
        gpu.processes
            .iter()
            .any(|process| process.owner == Owner::Unattributed(Remainder::Canary))
    );
    assert_eq!(snapshot.processes_unattributed[&Remainder::Canary], 1);
}

#[test]
fn histogram_charges_and_remainders_move_together_with_the_drain() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1)), (12, ("b", 1))].into();
    let snapshot = bench.step();
    assert_eq!(
        snapshot.gpus[0].canary,
        crate::model::CanaryView::off(CanaryReason::NotYet)
    );
    assert_eq!(delay(&snapshot, "a"), Reading::Unsupported);
    bench.probes(&[4.0, 2.0]);
    let snapshot = bench.step();
    assert_eq!(snapshot.gpus[0].canary.recent.value().unwrap().probes, 2);
    assert_eq!((sum(&snapshot), unattributed(&snapshot)), (0.0, 0.0));
    let snapshot = bench.step_with(drain(&[(11, "a", 1.5), (12, "b", 0.5)]));
    assert!((sum(&snapshot) - 6e-3).abs() < 1e-12);
    let a = *delay(&snapshot, "a").value().unwrap();
    let b = *delay(&snapshot, "b").value().unwrap();
    // Twice 50 us may be the baseline's.
    assert!((a.inflicted.0 - 0.75 * 5.9e-3).abs() < 1e-9);
    assert!((b.inflicted.0 - 0.25 * 5.9e-3).abs() < 1e-9);
    assert!((a.inflicted.0 + b.inflicted.0 + unattributed(&snapshot) - 6e-3).abs() < 1e-12);
    assert_eq!((a.weight, a.turn), (crate::model::Weight::Share, None));
    assert!(b.exposed.0 > a.exposed.0 && b.exposed_probes < a.exposed_probes);
    let pairs = &snapshot.gpus[0].canary.pairs;
    assert_eq!((pairs[0].victim, pairs[0].aggressor), (1, 0));
    assert_eq!(snapshot.gpus[0].canary.delays.value().unwrap().native, None);
}

#[test]
fn probes_of_the_step_that_shows_a_device_first_are_not_lost() {
    let mut bench = Bench::new();
    bench.probes(&[1.0]);
    bench.step();
    let snapshot = bench.step_with(drain(&[]));
    assert_eq!(snapshot.gpus[0].canary.delays.value().unwrap().count(), 1);
    // Busy for a time that no row claims.
    let unknown = snapshot.gpus[0].canary.unattributed[&DelayRemainder::UnknownProcess];
    assert!(unknown.0 > 0.9e-3);
}

#[test]
fn a_pod_recreated_under_the_same_name_inherits_no_blame() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1))].into();
    bench.step();
    bench.probes(&[4.0]);
    let snapshot = bench.step_with(drain(&[(11, "a", 2.0)]));
    assert!(inflicted(&snapshot, "a") > 3.9e-3);
    let name = bench.names.containers[&ContainerId::new("container-a")].clone();
    let pod = name.pod.clone();
    bench.names.pods.insert(PodUid::new("uid-new"), pod);
    bench
        .names
        .containers
        .insert(ContainerId::new("container-new"), name);
    bench.pods = [(12, ("new", 1))].into();
    bench.probes(&[4.0]);
    let before = unattributed(&snapshot);
    // The old one's last moments are not the new one's.
    let snapshot = bench.step_with(drain(&[(11, "a", 2.0)]));
    assert_eq!(inflicted(&snapshot, "a"), 0.0);
    assert!(unattributed(&snapshot) - before > 3.9e-3);
}

#[test]
fn without_a_ring_nobody_is_charged_and_nobody_is_known_to_be_innocent() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1))].into();
    bench.step();
    bench.probes(&[4.0]);
    let snapshot = bench.step_with(Some(Reading::Unsupported));
    assert_eq!(delay(&snapshot, "a"), Reading::Unsupported);
    let no_share = snapshot.gpus[0].canary.unattributed[&DelayRemainder::NoShare];
    assert!((no_share.0 - 3.95e-3).abs() < 1e-12);
}

#[test]
fn a_silent_card_keeps_the_delays_it_has() {
    let mut bench = Bench::new();
    bench.pods = [(11, ("a", 1))].into();
    bench.step();
    bench.probes(&[4.0]);
    bench.step_with(drain(&[(11, "a", 2.0)]));
    bench.probes(&[8.0]);
    bench.step();
    let card = Arc::clone(&bench.card);
    bench.second += 12;
    let snapshot = bench.observe(Vec::new(), vec![(card, Cause::Hung)]);
    assert!((sum(&snapshot) - 12e-3).abs() < 1e-12);
    assert!(inflicted(&snapshot, "a") > 3.9e-3);
    assert!(snapshot.gpus[0].canary.unattributed[&DelayRemainder::NoShare].0 > 7.9e-3);
}

#[test]
fn native_histograms_are_kept_where_told() {
    let mut bench = Bench::new();
    bench.ledger = Ledger::with(LedgerSettings {
        native_histograms: true,
    });
    bench.step();
    bench.probes(&[4.0]);
    let snapshot = bench.step_with(drain(&[(11, "a", 2.0)]));
    let delays = snapshot.gpus[0].canary.delays.value().unwrap();
    let native = delays.native.as_ref().unwrap();
    assert_eq!(native.positive.values().sum::<u64>(), delays.count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pods come and go, drains come or do not, cards fall silent: what was ever put down to a pod
    /// and the remainders are the histogram's sum in every snapshot, and no counter falls.
    #[test]
    fn in_every_snapshot_the_sum_closes(
        events in proptest::collection::vec((0u8..6, 11u32..15, 0u64..90, 0.0f64..20.0), 1..60),
    ) {
        let mut bench = Bench::new();
        let (mut ever, mut before) = (0.0, BTreeMap::new());
        for (event, pid, gap, ms) in events {
            let pod = if pid % 2 == 0 { "a" } else { "b" };
            bench.probes(&[ms, ms / 2.0, 0.02]);
            let snapshot = match event {
                0 => { bench.pods.insert(pid, (pod, 10)); bench.step() }
                1 => { bench.pods.remove(&pid); bench.step() }
                2 => bench.step_with(drain(&[(pid, pod, 1.0), (15, "nobody", 0.5)])),
                3 => bench.step_with(drain(&[(11, "b", 1.0), (12, "a", 1.0)])),
                4 => {
                    bench.second += gap;
                    let card = Arc::clone(&bench.card);
                    bench.observe(Vec::new(), vec![(card, Cause::Hung)])
                }
                _ => bench.step_with(Some(Reading::Failed(Cause::Timeout))),
            };
            let mut now = BTreeMap::new();
            for container in &bench.ledger.devices[&GpuUuid::new("GPU-1")].containers {
                let inflicted = container.1.delay.inflicted.0;
                let last = before.get(&container.1.tenant).copied().unwrap_or(0.0);
                prop_assert!(inflicted >= last && inflicted.is_finite());
                ever += inflicted - last;
                now.insert(container.1.tenant, inflicted);
            }
            before = now;
            let (sum, named) = (sum(&snapshot), unattributed(&snapshot));
            prop_assert!((ever + named - sum).abs() < 1e-9, "{ever} + {named} is not {sum}");
        }
    }
}
