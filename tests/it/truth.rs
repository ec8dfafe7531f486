//! The simulated node's own truth against the agent's word.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking too"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::snapshot::Owner;
use slicewatch::model::{Bytes, ContainerView, GpuView, Moment, Reading, Remainder, Snapshot};
use slicewatch::simulate::{TenantKey, TrueOwner, Truth, scenarios};

const TEN_MINUTES: Duration = Duration::from_secs(600);

fn start() -> Moment {
    Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_790_000_000),
    }
}

fn agent(scenario: &str, seed: u64) -> SimulatedAgent {
    SimulatedAgent::new(scenario, seed, start(), SamplerSettings::default())
        .expect("a known scenario")
}

/// A beat of the sampler.
const BEAT: Duration = Duration::from_millis(100);

/// Runs a scenario; each snapshot comes with the truths of the beats since the one before, the
/// last of which is of its own instant.
fn run(
    scenario: &str,
    seed: u64,
    length: Duration,
    mut seen: impl FnMut(&VecDeque<Truth>, &Snapshot),
) -> (Truth, Arc<Snapshot>) {
    let mut agent = agent(scenario, seed);
    let mut truths = VecDeque::new();
    let mut last = None;
    for beat in 1..=(length.as_millis() / BEAT.as_millis()) as u32 {
        let mut snapshot = None;
        agent.run(start().monotonic + BEAT * beat, |_, now| {
            snapshot = Some(now)
        });
        truths.push_back(agent.node().truth());
        if truths.len() > 12 {
            truths.pop_front();
        }
        if let Some(snapshot) = snapshot {
            seen(&truths, &snapshot);
            last = Some(snapshot);
        }
    }
    (truths.pop_back().expect("a beat"), last.expect("a step"))
}

/// Rows, named remainders and the unexplained rest, which must be the device's used figure.
fn balance(gpu: &GpuView) -> Option<(i128, i128)> {
    let unexplained = gpu.unexplained.copied()?;
    let used = gpu.memory.copied()?.used;
    let rows: i128 = present(gpu)
        .filter_map(|row| row.memory.copied())
        .map(|bytes| i128::from(bytes.0))
        .sum();
    let named: i128 = gpu
        .unattributed
        .value()?
        .values()
        .map(|bytes| i128::from(bytes.0))
        .sum();
    Some((rows + named + i128::from(unexplained.0), i128::from(used.0)))
}

fn present(gpu: &GpuView) -> impl Iterator<Item = &ContainerView> {
    gpu.containers.iter().filter(|row| row.present)
}

/// Whether every figure of a device is the truth's to the byte.
fn is_exact(gpu: &GpuView, truth: &Truth) -> bool {
    let Some(device) = truth.devices.get(&gpu.identity.uuid) else {
        return false;
    };
    gpu.memory.copied().map(|memory| memory.used) == Some(device.used)
        && gpu.unexplained.copied() == Some(device.unexplained.minus(Bytes(0)))
        && present(gpu).filter(|row| row.processes > 0).all(|row| {
            let key = TenantKey {
                gpu_uuid: gpu.identity.uuid.clone(),
                pod_uid: row
                    .pod_uid
                    .clone()
                    .expect("a resident pod has its UID from its cgroup"),
                container: Arc::clone(&row.container),
            };
            truth
                .tenants
                .get(&key)
                .is_some_and(|tenant| Reading::Value(tenant.memory) == row.memory)
        })
}

/// Every process in a list is its true owner's, or has the name of the reason.
fn check_processes(
    truths: &VecDeque<Truth>,
    snapshot: &Snapshot,
) -> (u64, BTreeMap<Remainder, u64>) {
    let (mut right, mut named) = (0, BTreeMap::new());
    for gpu in &snapshot.gpus {
        for process in &gpu.processes {
            let owner = truths
                .iter()
                .rev()
                .flat_map(|truth| &truth.processes)
                .find(|known| known.pid == process.pid && known.gpu_uuid == gpu.identity.uuid);
            match (&process.owner, owner.map(|owner| &owner.owner)) {
                (
                    Owner::Container(index),
                    Some(TrueOwner::Container {
                        namespace,
                        pod,
                        container,
                        ..
                    }),
                ) => {
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
                    panic!(
                        "PID {} is {other:?}, said to be of {}",
                        process.pid, gpu.containers[*index].pod
                    )
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
        let (mut whole, mut others, mut right) = (0, 0, 0);
        let mut named: BTreeMap<Remainder, u64> = BTreeMap::new();
        // 536 processes, so fewer minutes.
        let length = if scenario.name == "many-pods" {
            TEN_MINUTES / 5
        } else {
            TEN_MINUTES
        };
        run(scenario.name, 7, length, |truths, snapshot| {
            for gpu in &snapshot.gpus {
                match balance(gpu) {
                    Some((sum, used)) => {
                        assert_eq!(
                            sum, used,
                            "{}: balance of {}",
                            scenario.name, gpu.identity.uuid
                        );
                        // The list is of one of the beats of the window.
                        assert!(
                            truths.iter().any(|truth| is_exact(gpu, truth)),
                            "{} at {:?}: {:#?}",
                            scenario.name,
                            snapshot.at,
                            gpu.containers
                        );
                        whole += 1;
                    }
                    None => others += 1,
                }
            }
            let (owned, reasons) = check_processes(truths, snapshot);
            right += owned;
            for (reason, count) in reasons {
                *named.entry(reason).or_insert(0) += count;
            }
        });
        println!(
            "{:16} {whole} whole lists exact, {others} without a balance; {right} processes right, {named:?}",
            scenario.name
        );
        assert!(whole > 300, "{}: only {whole} whole lists", scenario.name);
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
                    let (Some(said), Some(uid)) = (row.gpu_time.copied(), &row.pod_uid) else {
                        continue;
                    };
                    let key = TenantKey {
                        gpu_uuid: gpu.identity.uuid.clone(),
                        pod_uid: uid.clone(),
                        container: Arc::clone(&row.container),
                    };
                    let Some(tenant) = truth.tenants.get(&key) else {
                        continue;
                    };
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
        println!(
            "{scenario:16} rows {n}, mean error {:+.3} points, within 3 SE {:.1} %, worst {worst:.2} SE",
            mean * 100.0,
            within * 100.0
        );
    }
}
