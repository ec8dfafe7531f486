//! The simulated node's own truth against the agent's word.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::snapshot::Owner;
use slicewatch::model::{Bytes, ContainerView, GpuView, Moment, Reading, Remainder, Snapshot};
use slicewatch::simulate::{TenantKey, TrueOwner, Truth, scenarios};

pub(crate) const TEN_MINUTES: Duration = Duration::from_secs(600);

pub(crate) fn start() -> Moment {
    Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_790_000_000),
    }
}

pub(crate) fn agent(scenario: &str, seed: u64) -> SimulatedAgent {
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
        run(scenario.name, 7, TEN_MINUTES, |truths, snapshot| {
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

/// Where a drain mixes full samples and faint ones, the driver's rounding leaves open who won
/// which: a tenant with few and faint ones is given up to this much too much (0.12 points measured
/// for `memory-hog`'s vector-index over 80 seeds), the heaviest that much too little.
const ROUNDING: f64 = 0.0015;

/// One tenant's share of the time: what was said of it, and the truth.
struct Share {
    kind: String,
    said: f64,
    truth: f64,
    samples: f64,
}

impl Share {
    fn error(&self) -> f64 {
        self.said - self.truth
    }

    /// The variance of a share told by so many samples, each of which it wins or does not.
    fn variance(&self) -> f64 {
        self.truth * (1.0 - self.truth) / self.samples
    }

    /// A share cannot be told finer than by whole samples, and where a handful are expected the
    /// normal law's three standard errors are too few: one sample is the least standard error.
    fn standard_errors(&self) -> f64 {
        self.error().abs() / self.variance().sqrt().max(1.0 / self.samples)
    }
}

/// The shares of all tenants of a run. What the agent says is of its last drain, so it is compared
/// with the truth of that instant, card by card. Gone tenants count by their last word.
fn shares(scenario: &str, seed: u64, length: Duration) -> Vec<Share> {
    let mut agent = agent(scenario, seed);
    let end = start().monotonic + length;
    let mut said: BTreeMap<TenantKey, f64> = BTreeMap::new();
    let mut drained = BTreeMap::new();
    let mut shares = BTreeMap::new();
    agent.run(end, |node, snapshot| {
        let mut truth = None;
        for gpu in &snapshot.gpus {
            for row in &gpu.containers {
                if let (Some(time), Some(pod_uid)) = (row.gpu_time.copied(), row.pod_uid.clone()) {
                    let key = TenantKey {
                        gpu_uuid: gpu.identity.uuid.clone(),
                        pod_uid,
                        container: Arc::clone(&row.container),
                    };
                    said.insert(key, time.0);
                }
            }
            let Some(busy) = gpu.busy.copied() else {
                continue;
            };
            let uuid = gpu.identity.uuid.clone();
            let before = drained.insert(uuid.clone(), busy.0);
            // A drain comes every three seconds.
            if before == Some(busy.0) || snapshot.at.monotonic + Duration::from_secs(10) < end {
                continue;
            }
            let truth = truth.get_or_insert_with(|| node.truth());
            let seconds = snapshot.at.since(start()).as_secs_f64();
            let of_card = truth.tenants.iter().filter(|(key, _)| key.gpu_uuid == uuid);
            shares.insert(
                uuid.clone(),
                of_card
                    .map(|(key, tenant)| Share {
                        kind: kind(&tenant.pod),
                        // Who was never seen was said to have had nothing.
                        said: said.get(key).copied().unwrap_or_default() / seconds,
                        truth: tenant.gpu_seconds.0 / seconds,
                        samples: seconds * 5.0,
                    })
                    .collect::<Vec<_>>(),
            );
        }
    });
    shares.into_values().flatten().collect()
}

/// The kind of a pod: its name without ordinals and drawn suffixes.
pub(crate) fn kind(pod: &str) -> String {
    let mut parts = pod.split('-');
    let first = parts.next().unwrap_or_default();
    parts
        .take_while(|part| part.len() <= 9 && part.bytes().all(|b| b.is_ascii_lowercase()))
        .fold(first.to_owned(), |name, part| name + "-" + part)
}

/// Mean error of shares and the standard error of that mean, by the bound of each one's own.
fn bias<'share>(shares: impl IntoIterator<Item = &'share Share>) -> (f64, f64) {
    let (mut n, mut error, mut variance) = (0.0, 0.0, 0.0);
    for share in shares {
        n += 1.0;
        error += share.error();
        variance += share.variance();
    }
    (error / n, variance.sqrt() / n)
}

/// The shares of some seeds; prints each kind of tenant.
fn measured(scenario: &str, seeds: u64, seconds: u64) -> BTreeMap<String, Vec<Share>> {
    let mut kinds: BTreeMap<String, Vec<Share>> = BTreeMap::new();
    for seed in 0..seeds {
        for share in shares(scenario, seed, Duration::from_secs(seconds)) {
            kinds.entry(share.kind.clone()).or_default().push(share);
        }
    }
    for (kind, shares) in &kinds {
        let (error, se) = bias(shares);
        let truth = shares.iter().map(|share| share.truth).sum::<f64>() / shares.len() as f64;
        println!(
            "{scenario:16} {kind:18} {:5} tenants, share {:7.3} %, mean error {:+.4} points ({:+.2} SE)",
            shares.len(),
            truth * 100.0,
            error * 100.0,
            error / se
        );
    }
    kinds
}

/// At least 99 of 100 tenants are within three standard errors; where there are fewer than a
/// hundred, all but one: of forty, one is beyond by chance in every tenth set of seeds.
fn assert_near(scenario: &str, kinds: &BTreeMap<String, Vec<Share>>) {
    let all: Vec<f64> = kinds
        .values()
        .flatten()
        .map(Share::standard_errors)
        .collect();
    let far = all.iter().filter(|errors| **errors > 3.0).count();
    let worst = all.iter().fold(0.0f64, |worst, errors| worst.max(*errors));
    println!(
        "{scenario:16} {far} of {} beyond three standard errors, worst {worst:.2}",
        all.len()
    );
    assert!(
        far <= (all.len() / 100).max(1) && worst < 5.0,
        "{scenario}: {far} of {} are off by more than three standard errors, one by {worst}",
        all.len()
    );
}

#[test]
fn shares_of_time_are_within_three_standard_errors_and_without_bias() {
    for (scenario, seeds, seconds) in [
        ("quiet", 20, 600),
        ("noisy-neighbour", 20, 600),
        ("memory-hog", 20, 600),
        ("faults", 20, 600),
        ("mig", 20, 600),
        // 8 cards x 64 tenants, 24 cards in all.
        ("many-pods", 3, 600),
    ] {
        let mut kinds = measured(scenario, seeds, seconds);
        if let Some(sealed) = kinds.remove("sealed-model") {
            // Nobody can prove whose its processes are: it is said to have had nothing.
            assert!(
                sealed
                    .iter()
                    .all(|share| share.said == 0.0 && share.truth > 0.0)
            );
        }
        assert_near(scenario, &kinds);
        let (error, se) = bias(kinds.values().flatten());
        assert!(
            error.abs() <= 3.0 * se,
            "{scenario}: {error} is more than three of {se}"
        );
        for (kind, shares) in &kinds {
            let (error, se) = bias(shares);
            assert!(
                error.abs() <= (3.0 * se).max(ROUNDING),
                "{scenario}, {kind}: {error} is more than three of {se}"
            );
        }
    }
}

/// What a process won between the last drain and its end is the card's and nobody's: the driver
/// forgets its rows. Jobs of a few seconds lose part of their time by that, who stays loses none,
/// and nobody gets what another lost.
#[test]
fn short_jobs_lose_the_time_since_the_last_drain_and_nobody_gains_it() {
    let kinds = measured("churn", 20, 600);
    assert_near("churn", &kinds);
    for (kind, shares) in &kinds {
        let (error, se) = bias(shares);
        assert!(
            error <= 3.0 * se,
            "{kind} gains {error}, more than three of {se}"
        );
        if ["decoder", "steady-api"].contains(&&**kind) {
            assert!(
                error >= -3.0 * se,
                "{kind} stays and loses {error}, more than three of {se}"
            );
        }
    }
    let (error, _) = bias(kinds.values().flatten());
    let all: Vec<&Share> = kinds.values().flatten().collect();
    let share = all.iter().map(|share| share.truth).sum::<f64>() / all.len() as f64;
    println!("churn: {:.1} % of all time is lost", -error / share * 100.0);
    assert!(
        (0.0..=0.12).contains(&(-error / share)),
        "{error} of {share}"
    );
}
