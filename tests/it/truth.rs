//! The simulated node's own truth against the agent's word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::snapshot::Owner;
use slicewatch::model::{GpuView, Moment, Reading, Remainder, Snapshot};
use slicewatch::simulate::{TenantKey, TrueOwner, Truth, scenarios};

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn start() -> Moment {
    Moment { monotonic: Duration::from_secs(100), unix: Duration::from_secs(1_790_000_000) }
}

fn agent(scenario: &str, seed: u64) -> SimulatedAgent {
    SimulatedAgent::new(scenario, seed, start(), SamplerSettings::default()).expect("a known scenario")
}

/// Runs a scenario; the last snapshot and the truth of the same instant.
fn run(scenario: &str, seed: u64, length: Duration, mut seen: impl FnMut(&Truth, &Snapshot)) -> (Truth, Arc<Snapshot>) {
    let mut agent = agent(scenario, seed);
    let mut last = None;
    agent.run(start().monotonic + length, |node, snapshot| {
        let truth = node.truth();
        seen(&truth, &snapshot);
        last = Some((truth, snapshot));
    });
    last.expect("at least one step")
}

/// Rows, named remainders and the unexplained rest, which must be the device's used figure.
fn balance(gpu: &GpuView) -> Option<(i128, i128)> {
    let unexplained = gpu.unexplained.copied()?;
    let used = gpu.memory.copied()?.used;
    let rows: i128 = gpu.containers.iter().filter_map(|row| row.memory.copied().filter(|_| row.present)).map(|b| i128::from(b.0)).sum();
    let named: i128 = gpu.unattributed.value()?.values().map(|bytes| i128::from(bytes.0)).sum();
    Some((rows + named + i128::from(unexplained.0), i128::from(used.0)))
}

/// The memory of every container and device at one instant, agent against truth. The agent's
/// list is at most one window older than the truth, so it is compared where nothing moved.
fn check_memory(truth: &Truth, snapshot: &Snapshot, compared: &mut u64) {
    for gpu in &snapshot.gpus {
        let Some(device) = truth.devices.get(&gpu.identity.uuid) else { continue };
        if let Some((sum, used)) = balance(gpu) {
            assert_eq!(sum, used, "balance of {}", gpu.identity.uuid);
        }
        let Some(memory) = gpu.memory.copied() else { continue };
        if memory.used != device.used || gpu.unexplained.value().is_none() {
            continue;
        }
        assert_eq!(
            gpu.unexplained.copied().map(|bytes| i128::from(bytes.0)),
            Some(i128::from(device.unexplained.0)),
            "unexplained of {}",
            gpu.identity.uuid
        );
        for row in gpu.containers.iter().filter(|row| row.present && row.processes > 0) {
            let Some(uid) = &row.pod_uid else { continue };
            let key = TenantKey {
                gpu_uuid: gpu.identity.uuid.clone(),
                pod_uid: uid.clone(),
                container: Arc::clone(&row.container),
            };
            let Some(tenant) = truth.tenants.get(&key) else {
                panic!("{}/{} is nobody's name in truth", row.namespace, row.pod);
            };
            if let Reading::Value(bytes) = row.memory {
                assert_eq!(bytes, tenant.memory, "{}/{} at {:?}", row.namespace, row.pod, snapshot.at);
                *compared += 1;
            }
        }
    }
}

/// Every process in a list is its true owner's, or has the name of the reason.
fn check_processes(truth: &Truth, snapshot: &Snapshot) -> (u64, BTreeMap<Remainder, u64>) {
    let (mut right, mut named) = (0, BTreeMap::new());
    for gpu in &snapshot.gpus {
        for process in &gpu.processes {
            let owner = truth
                .processes
                .iter()
                .find(|known| known.pid == process.pid && known.gpu_uuid == gpu.identity.uuid);
            match (&process.owner, owner.map(|owner| &owner.owner)) {
                (Owner::Container(index), Some(TrueOwner::Container { namespace, pod, container, .. })) => {
                    let row = &gpu.containers[*index];
                    assert_eq!(
                        (&row.namespace, &row.pod, &row.container),
                        (namespace, pod, container),
                        "PID {}",
                        process.pid
                    );
                    right += 1;
                }
                (Owner::Container(index), Some(other)) => {
                    panic!("PID {} is {other:?}, said to be of {}", process.pid, gpu.containers[*index].pod)
                }
                (Owner::Unattributed(reason), _) => *named.entry(*reason).or_insert(0) += 1,
                // It ended since the list was read.
                (Owner::Container(_), None) => {}
            }
        }
    }
    (right, named)
}

#[test]
fn memory_is_exact_and_every_process_is_its_owners_in_every_scenario() {
    for scenario in scenarios() {
        let (mut compared, mut right) = (0, 0);
        let mut named: BTreeMap<Remainder, u64> = BTreeMap::new();
        let length = if scenario.name == "many-pods" { TEN_MINUTES / 10 } else { TEN_MINUTES };
        run(scenario.name, 7, length, |truth, snapshot| {
            check_memory(truth, snapshot, &mut compared);
            let (owned, reasons) = check_processes(truth, snapshot);
            right += owned;
            for (reason, count) in reasons {
                *named.entry(reason).or_insert(0) += count;
            }
        });
        println!("{:16} rows compared {compared}, processes right {right}, named {named:?}", scenario.name);
        assert!(compared > 300, "{}: only {compared} rows could be compared", scenario.name);
    }
}

#[test]
fn shares_of_time_are_within_three_standard_errors_and_without_bias() {
    for scenario in ["quiet", "noisy-neighbour", "memory-hog", "faults", "churn"] {
        let mut z_scores = Vec::new();
        let mut off = Vec::new();
        for seed in 0..20 {
            let length = TEN_MINUTES;
            let (truth, snapshot) = run(scenario, seed, length, |_, _| {});
            let seconds = length.as_secs_f64();
            for gpu in &snapshot.gpus {
                for row in &gpu.containers {
                    let (Some(said), Some(uid)) = (row.gpu_time.copied(), &row.pod_uid) else { continue };
                    let key = TenantKey {
                        gpu_uuid: gpu.identity.uuid.clone(),
                        pod_uid: uid.clone(),
                        container: Arc::clone(&row.container),
                    };
                    let Some(tenant) = truth.tenants.get(&key) else { continue };
                    let p = tenant.gpu_seconds.0 / seconds;
                    let se = (p * (1.0 - p) / (seconds * 5.0)).sqrt().max(1e-4);
                    z_scores.push((said.0 / seconds - p) / se);
                    off.push(said.0 / seconds - p);
                }
            }
        }
        let n = z_scores.len() as f64;
        let mean = off.iter().sum::<f64>() / n;
        let within = z_scores.iter().filter(|z| z.abs() <= 3.0).count() as f64 / n;
        let worst = z_scores.iter().fold(0.0f64, |a, z| a.max(z.abs()));
        println!("{scenario:16} rows {n}, mean error {:+.3} points, within 3 SE {:.1} %, worst {worst:.2} SE", mean * 100.0, within * 100.0);
    }
}
