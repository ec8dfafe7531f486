//! The latency canary end to end on the simulated GPU: what the agent says of delays and of who
//! inflicted them, against the simulation's truth.

mod canary;

use std::collections::BTreeMap;
use std::sync::Arc;

use slicewatch::model::{GpuView, Snapshot};
use slicewatch::simulate::{SimNode, Truth};

use crate::truth::{TEN_MINUTES, agent, kind, start};

/// A probe with nobody active.
const BASE: f64 = 18e-6;

/// Seconds since the start.
fn seconds(snapshot: &Snapshot) -> f64 {
    snapshot.at.since(start()).as_secs_f64()
}

/// Runs a scenario for ten minutes; each snapshot that has a card, with the node as it is at its
/// instant.
fn run(scenario: &str, seed: u64, mut seen: impl FnMut(&SimNode, &Snapshot)) -> Truth {
    let mut agent = agent(scenario, seed);
    agent.run(start().monotonic + TEN_MINUTES, |node, snapshot| {
        if !snapshot.gpus.is_empty() {
            seen(node, &snapshot);
        }
    });
    agent.node().truth()
}

/// What containers that are no more were charged with, added to what those that are here say.
#[derive(Default)]
struct Charged {
    last: BTreeMap<(Arc<str>, Arc<str>, String), f64>,
    gone: f64,
}

impl Charged {
    /// All seconds of delay that containers of the device were ever charged with.
    fn of(&mut self, gpu: &GpuView) -> f64 {
        let now: BTreeMap<_, f64> = gpu
            .containers
            .iter()
            .filter_map(|row| {
                let uid = row.pod_uid.as_ref().map(ToString::to_string);
                let key = (
                    Arc::clone(&row.namespace),
                    Arc::clone(&row.pod),
                    uid.unwrap_or_default(),
                );
                Some((key, row.delay.copied()?.inflicted.0))
            })
            .collect();
        for (key, seconds) in &self.last {
            if !now.contains_key(key) {
                self.gone += seconds;
            }
        }
        self.last = now;
        self.last.values().sum::<f64>() + self.gone
    }
}

/// The sum of the histogram is what containers and named remainders add up to, at every snapshot
/// of every scenario.
#[test]
fn delay_of_pods_and_of_nobody_is_all_delay() {
    for scenario in [
        "noisy-neighbour",
        "now-and-then",
        "memory-hog",
        "quiet",
        "churn",
        "faults",
    ] {
        let mut charged: BTreeMap<_, Charged> = BTreeMap::new();
        let mut probes = 0;
        run(scenario, 7, |_, snapshot| {
            for gpu in &snapshot.gpus {
                let Some(delays) = gpu.canary.delays.value() else {
                    continue;
                };
                let of_pods = charged
                    .entry(gpu.identity.uuid.clone())
                    .or_default()
                    .of(gpu);
                let of_nobody: f64 = gpu.canary.unattributed.values().map(|it| it.0).sum();
                let sum = delays.sum.0;
                assert!(
                    (of_pods + of_nobody - sum).abs() <= 1e-9 * sum.max(1.0),
                    "{scenario} at {}: {of_pods} + {of_nobody} is not {sum}",
                    seconds(snapshot)
                );
                probes = delays.count();
            }
        });
        println!("{scenario:16} {probes} probes on the last card");
        assert!(probes > 500, "{scenario}: {probes}");
    }
}

/// On the mean a short request waits what the truth says, and because of whom it says.
#[test]
fn delays_and_who_inflicted_them_are_the_truths() {
    let (mut said, mut expected) = (0.0, 0.0);
    let mut by_kind: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let seeds = 3;
    for seed in 0..seeds {
        let mut last = None;
        let truth = run("noisy-neighbour", seed, |_, snapshot| {
            last = Some(snapshot.gpus[0].clone());
        });
        let gpu = last.expect("a step");
        let delays = gpu.canary.delays.value().expect("it probed");
        let count = delays.count() as f64;
        let card = &truth.devices[&gpu.identity.uuid];
        said += delays.sum.0 / count - BASE;
        expected += card.expected_delay / TEN_MINUTES.as_secs_f64();
        for tenant in truth.tenants.values() {
            let row = gpu.containers.iter().find(|row| row.pod == tenant.pod);
            let delay = row.expect("resident").delay.copied().expect("probed");
            let sum = by_kind.entry(kind(&tenant.pod)).or_default();
            sum.0 += delay.inflicted.0 / count;
            sum.1 += tenant.turn_seconds / 2.0 / TEN_MINUTES.as_secs_f64();
        }
    }
    println!(
        "mean delay {:.1} us said, {:.1} true",
        said * 1e6 / 3.0,
        expected * 1e6 / 3.0
    );
    assert!((said / expected - 1.0).abs() < 0.03);
    for (kind, (said, truth)) in &by_kind {
        println!(
            "{kind:16} {:.1} us said, {:.1} true",
            said * 1e6 / 3.0,
            truth * 1e6 / 3.0
        );
    }
    let (said, truth) = by_kind["finetune"];
    assert!(
        (said / truth - 1.0).abs() < 0.2,
        "the trainer: {said} of {truth}"
    );
}

/// The trainer keeps the card longest, and is first in every minute.
#[test]
fn the_heavy_one_is_first_in_every_minute() {
    for seed in 0..3 {
        let mut before: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        let mut minutes = 0;
        run("noisy-neighbour", seed, |_, snapshot| {
            if !(seconds(snapshot) + 0.05).rem_euclid(60.0).lt(&1.0) {
                return;
            }
            let now: BTreeMap<Arc<str>, f64> = snapshot.gpus[0]
                .containers
                .iter()
                .filter_map(|row| Some((Arc::clone(&row.pod), row.delay.copied()?.inflicted.0)))
                .collect();
            let gained = |pod| now[pod] - before.get(pod).copied().unwrap_or(0.0);
            let first = now.keys().max_by(|a, b| gained(*a).total_cmp(&gained(*b)));
            if let Some(first) = first {
                assert_eq!(&**first, "finetune-0", "at {}", seconds(snapshot));
                minutes += 1;
            }
            before = now;
        });
        assert!(minutes >= 9);
    }
}
