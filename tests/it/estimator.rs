//! What the ring's estimate of active and contended time comes to, against the simulation's truth.

#![expect(clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::commands::simulated::SimulatedAgent;
use slicewatch::model::Moment;
use slicewatch::simulate::TenantKey;

use crate::truth::kind;

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// Sums over seeds, in seconds.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    tenants: u32,
    gpu: f64,
    active_said: f64,
    active_true: f64,
    contended_said: f64,
    contended_true: f64,
}

/// By the name of the pod less what was drawn: one kind of tenant each.
type Kinds = BTreeMap<String, Sum>;

fn measure(scenario: &str, seeds: u64) -> (Kinds, Sum) {
    let start = Moment {
        monotonic: Duration::from_secs(100),
        unix: Duration::from_secs(1_790_000_000),
    };
    let mut kinds = Kinds::new();
    let mut card = Sum::default();
    for seed in 0..seeds {
        let mut agent = SimulatedAgent::new(scenario, seed, start, SamplerSettings::default())
            .expect("a known scenario");
        // Rows end 75 s after their pod: each tenant's last word is kept.
        let mut said = BTreeMap::new();
        let mut card_said = Duration::ZERO;
        agent.run(start.monotonic + TEN_MINUTES, |_, snapshot| {
            for gpu in &snapshot.gpus {
                card_said = gpu.contended.copied().unwrap_or(card_said);
                for row in &gpu.containers {
                    if let Some(pod_uid) = row.pod_uid.clone() {
                        let key = TenantKey {
                            gpu_uuid: gpu.identity.uuid.clone(),
                            pod_uid,
                            container: Arc::clone(&row.container),
                        };
                        said.insert(key, (row.active, row.contended));
                    }
                }
            }
        });
        let truth = agent.node().truth();
        for (key, tenant) in &truth.tenants {
            let sum = kinds.entry(kind(&tenant.pod)).or_default();
            let (active, contended) = said.get(key).copied().unwrap_or_default();
            sum.tenants += 1;
            sum.gpu += tenant.gpu_seconds.0;
            sum.active_said += active.as_secs_f64();
            sum.active_true += tenant.active.as_secs_f64();
            sum.contended_said += contended.as_secs_f64();
            sum.contended_true += tenant.contended.as_secs_f64();
        }
        for device in truth.devices.values() {
            card.tenants += 1;
            card.gpu += device.busy.0;
            card.contended_said += card_said.as_secs_f64();
            card.contended_true += device.contended.as_secs_f64();
        }
    }
    (kinds, card)
}

fn print(scenario: &str, (kinds, card): &(Kinds, Sum), seeds: u64) {
    let total = seeds as f64 * TEN_MINUTES.as_secs_f64();
    for (name, sum) in kinds.iter().chain([(&"(card)".to_owned(), card)]) {
        println!(
            "{scenario:16} {name:18} {:4} of them: GPU {:6.2} %, active {:6.2} % said/true {:6.2}, \
             contended {:6.2} % said/true {:6.2}",
            sum.tenants,
            sum.gpu / total * 100.0,
            sum.active_true / total * 100.0,
            sum.active_said / sum.active_true,
            sum.contended_true / total * 100.0,
            sum.contended_said / sum.contended_true,
        );
    }
}

/// Lowest and highest said/true of active and of contended time. The table in the documentation of
/// `analyse::ledger` is what this test prints.
type Bounds = (&'static str, [f64; 2], [f64; 2]);

const UNBOUNDED: [f64; 2] = [1.0, f64::INFINITY];

fn check(scenario: &str, seeds: u64, bounds: &[Bounds]) {
    let measured = measure(scenario, seeds);
    print(scenario, &measured, seeds);
    let (kinds, card) = &measured;
    for (name, active, contended) in bounds {
        let sum = if *name == "(card)" {
            card
        } else {
            &kinds[*name]
        };
        let within = |[low, high]: [f64; 2], said: f64, truth: f64| {
            let ratio = said / truth;
            assert!(
                (low..=high).contains(&ratio),
                "{scenario}, {name}: said/true is {ratio}, not within {low} to {high}"
            );
        };
        if *name != "(card)" {
            within(*active, sum.active_said, sum.active_true);
        }
        within(*contended, sum.contended_said, sum.contended_true);
    }
}

const NO: [f64; 2] = [0.0, 0.0];

/// On a saturated card tenants that share as equals are told well, and one whose kernels are
/// shorter than a slice, and who so receives less than the others, too low.
#[test]
fn tenants_of_a_saturated_card_are_told_within_a_tenth_unless_they_yield_early() {
    check(
        "noisy-neighbour",
        6,
        &[
            ("finetune", [0.94, 1.0], [0.75, 0.9]),
            ("batch-scorer", [0.4, 0.55], [0.4, 0.55]),
            ("search-api", [0.85, 1.1], [0.85, 1.1]),
            ("assistant-api", [0.85, 1.1], [0.85, 1.1]),
            ("(card)", NO, [0.75, 0.9]),
        ],
    );
}

/// Tenants that take turns within three seconds look as if they were there together.
#[test]
fn tenants_that_take_turns_are_told_too_high() {
    check(
        "memory-hog",
        6,
        &[
            ("dataset-explorer", [1.0, 1.3], [2.0, 3.2]),
            ("llama-chat", [1.4, 2.0], [2.0, 3.2]),
            ("vision", [1.3, 2.0], [1.8, 3.0]),
            ("vector-index", [1.4, 2.3], [1.8, 3.2]),
            ("(card)", NO, [2.0, 3.2]),
        ],
    );
}

/// Alone on a nearly idle card a tenant is active for what it received.
#[test]
fn on_an_idle_card_activity_is_told_well() {
    check(
        "quiet",
        12,
        &[
            ("embedder", [0.9, 1.15], UNBOUNDED),
            ("jupyter-ana", [0.9, 1.15], UNBOUNDED),
        ],
    );
}

/// With ten tenants and fifteen samples a drain, many a tenant wins none of those it was there for,
/// and short kernels yield early.
#[test]
fn short_jobs_in_a_crowd_are_told_too_low() {
    check(
        "churn",
        3,
        &[
            ("elastic-worker", [0.5, 0.7], [0.5, 0.7]),
            ("eval-smoke", [0.15, 0.35], [0.15, 0.35]),
            ("feature-build", [0.2, 0.4], [0.2, 0.4]),
            ("nightly-eval", [0.65, 0.85], [0.6, 0.85]),
            ("render-thumb", [0.65, 0.9], [0.65, 0.9]),
            ("render-tile", [0.6, 0.85], [0.6, 0.85]),
            ("decoder", [0.15, 0.4], [0.15, 0.4]),
            ("steady-api", [0.45, 0.7], [0.45, 0.7]),
            ("(card)", NO, [0.85, 1.0]),
        ],
    );
}
